import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from binary_networks import SmallResNet, SmallVGG, made
from binary_transformers import Transformer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load, save

from nasplatform.errors import NetworkError, RunError
from nasplatform.models.binary import binary_layers
from nasplatform.models.network import Network
from nasplatform.models.structure import Structure, describe_input
from nasplatform.runtimes.choice import noise
from nasplatform.runtimes.packed.file import _digest, read_packed
from nasplatform.runtimes.packed.lowering import lowered
from nasplatform.runtimes.packed.runtime import write_packed
from nasplatform.testing.tiny import tiny_task

SHAPE = (1, 8, 8)


def network(kind=SmallVGG):
    return Network(made(kind), Structure({}, input=describe_input(tiny_task())))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "network.nasbin"
    write_packed(network(), path)
    return path


def test_a_file_computes_what_the_network_does(written):
    images = noise(SHAPE, 5)
    expected = network().module
    found = read_packed(written)
    assert found.input == describe_input(tiny_task())
    session = found.session()
    from nasplatform.runtimes.packed.session import PackedSession

    assert np.array_equal(session.run(images), PackedSession(lowered(expected, SHAPE)).run(images))


def test_binary_weights_take_one_bit_in_the_file(written):
    layers = binary_layers(network().module).values()
    bits = sum(layer.bits.nbytes for layer in layers)
    tensors = load(written.read_bytes())
    assert sum(t.nbytes for t in tensors.values() if t.dtype == np.uint8) == bits


def test_a_file_is_run_without_torch(written, tmp_path):
    np.save(tmp_path / "images.npy", noise(SHAPE, 2))
    code = """
import sys
import numpy as np
from pathlib import Path
from nasplatform.runtimes.packed.file import read_packed
session = read_packed(Path(sys.argv[1])).session()
print(session.run(np.load(sys.argv[2])).shape, "torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, written, tmp_path / "images.npy"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "(2, 3) False"


def test_network_that_does_not_say_what_it_takes_is_refused(tmp_path):
    plain = replace(network(), structure=Structure({}))
    with pytest.raises(NetworkError, match="does not say what images it takes"):
        write_packed(plain, tmp_path / "network.nasbin")
    assert not list(tmp_path.iterdir())


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_flipped_bits_are_refused(written, tmp_path, data):
    whole = bytearray(written.read_bytes())
    header = int.from_bytes(whole[:8], "little") + 8
    end = data.draw(st.sampled_from([8, header, len(whole)]))  # length, header, anywhere
    place = data.draw(st.integers(0, end - 1))
    whole[place] ^= 1 << data.draw(st.integers(0, 7))
    damaged = tmp_path / "damaged.nasbin"
    damaged.write_bytes(whole)
    try:
        found = read_packed(damaged)
    except RunError:
        return
    intact = read_packed(written)  # a blank of the header may change nothing
    assert found.program.describe() == intact.program.describe()
    for name, values in intact.program.tensors.items():
        assert np.array_equal(found.program.tensors[name], values)


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_cut_off_file_is_refused(written, tmp_path, kept):
    (tmp_path / "cut").write_bytes(written.read_bytes()[:kept])
    with pytest.raises(RunError, match="no packed network that can be run"):
        read_packed(tmp_path / "cut")


def rewritten(path, change):
    """Change what a file says under a right digest."""
    with safe_open(path, "np") as opened:
        metadata = opened.metadata()
    tensors, described = load(path.read_bytes()), json.loads(metadata["network"])
    change(described)
    metadata["network"] = json.dumps(described)
    metadata["sha256"] = _digest(metadata["network"], tensors)
    path.write_bytes(save(tensors, metadata))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("shape", [1, 8, 9], "it says images of"),
        ("classes", 4, "it says images of"),
        ("mean", [], "one number for each channel"),
        ("std", ["a"], "input.std.0"),
        ("class_names", ["a"], "as many as classes"),
        ("task", None, "input.task"),
        ("more", 1, "unknown key 'more'"),
    ],
)
def test_a_file_that_says_wrong_things_of_its_images_is_refused(tmp_path, key, value, words):
    path = tmp_path / "network.nasbin"
    write_packed(network(), path)
    rewritten(path, lambda described: described["input"].update({key: value}))
    with pytest.raises(RunError, match=words):
        read_packed(path)


def numbers_in(value, path=()):
    """Places of all numbers in JSON."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, one in items:
            yield from numbers_in(one, (*path, key))
    elif isinstance(value, int):
        yield path


@pytest.fixture(scope="module")
def many_programs(tmp_path_factory):
    """The files of a convolutional network and of a transformer."""
    path = tmp_path_factory.mktemp("programs") / "network.nasbin"
    found = []
    for kind in (SmallResNet, Transformer):
        write_packed(network(kind), path)
        found.append(path.read_bytes())
    return found


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_programs_that_do_not_fit_their_tensors_never_reach_the_kernels(
    many_programs, tmp_path, data
):
    """Wrong numbers under a right digest: refused, or run without harm."""
    path = tmp_path / "network.nasbin"
    path.write_bytes(data.draw(st.sampled_from(many_programs)))

    def change(described):
        place = data.draw(st.sampled_from(sorted(numbers_in(described["program"]), key=str)))
        holder = described["program"]
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = data.draw(
            st.one_of(st.integers(-3, 70), st.sampled_from([2**14, 2**20, 2**31, 2**63]))
        )

    rewritten(path, change)
    try:
        found = read_packed(path)
    except RunError:
        return
    height, width, channels = found.program.input_shape
    if height * width * channels < 10_000:
        found.session().run(noise((channels, height, width), 2))
