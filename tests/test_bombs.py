"""Small files that would become large, or endless: refused before they do."""

from __future__ import annotations

import bz2
import io
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nasplatform.benchmarks.imports.natsbench import read_archive
from nasplatform.benchmarks.imports.parquet import read_parquet
from nasplatform.benchmarks.imports.safe_pickle import loads
from nasplatform.errors import ConfigError, DataError, InputError, PredictorError, RunError
from nasplatform.fetch import RemoteFile, fetch, unpack
from nasplatform.models.network import Network
from nasplatform.predictors import get_predictor, load_predictor
from nasplatform.runs.tables import read_table as read_frame
from nasplatform.service.labels import read_labels
from nasplatform.spaces import get_space
from nasplatform.training.decoding import read_image
from nasplatform.training.image_folder import images_in
from nasplatform.training.npz import read_npz
from nasplatform.yaml_source import parse_overrides

pytestmark = pytest.mark.usefixtures("moderate")


@pytest.mark.parametrize("made", [b"]", b"(]"])
def test_a_record_of_empty_containers(tmp_path, made):
    record = tmp_path / "000000.pickle.pbz2"
    record.write_bytes(bz2.compress(b"\x80\x04(" + made * (5_000_000 // len(made)) + b"l."))
    assert record.stat().st_size < 5000
    with pytest.raises(DataError, match="objects"):
        read_archive(tmp_path, (12, 200), lambda done, total: None)


def test_keys_whose_hashes_collide():
    prime = (1 << 61) - 1  # all multiples of it have the hash 0: a dict of them is quadratic
    odd = b"".join(b"\x8a\x0a" + (prime * k).to_bytes(10, "little") + b"N" for k in range(50_000))
    with pytest.raises(DataError, match="keys"):
        loads(b"\x80\x04}(" + odd + b"u.", "here")
    tuples = {(k, -1 if k % 2 else -2): 0 for k in range(60_000)}
    with pytest.raises(DataError, match="keys"):
        loads(pickle.dumps(tuples, protocol=4), "here")
    plain = {k: str(k) for k in range(60_000)}
    assert loads(pickle.dumps(plain, protocol=4), "here") == plain


def test_calls_that_copy_again_and_again():
    text = b"X" + (1 << 20).to_bytes(4, "little") + b"a" * (1 << 20)
    begin = b"\x80\x04" + text + b"\x940X\x06\0\0\0latin1\x940("
    program = begin + b"c_codecs\nencode\nh\0h\1\x86R" * 500 + b"l."
    with pytest.raises(DataError, match="64 MiB"):
        loads(program, "here")


def test_an_archive_of_arrays_that_unpacks_to_gigabytes(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("x", "y"):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                head = io.BytesIO()
                shape = {"descr": "|u1", "fortran_order": False, "shape": (40, 1 << 20)}
                np.lib.format.write_array_header_1_0(head, shape)
                file.write(head.getvalue())
                for _ in range(40):
                    file.write(bytes(1 << 20))
    with pytest.raises(DataError, match="unpacks from"):
        read_npz(path)


def test_a_tar_that_unpacks_to_much_more(tmp_path):
    path = tmp_path / "x.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for number in range(20):
            member = tarfile.TarInfo(f"zeros{number}")
            member.size = 10 << 20
            tar.addfile(member, io.BytesIO(bytes(10 << 20)))
    with pytest.raises(DataError, match=r"cannot be unpacked .*20 times"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pipes_and_circles_in_a_folder_of_images(tmp_path):
    (tmp_path / "cats").mkdir()
    os.mkfifo(tmp_path / "cats" / "a.png")
    (tmp_path / "cats" / "b.png").write_bytes(b"")
    assert images_in(tmp_path / "cats") == [tmp_path / "cats" / "b.png"]
    with pytest.raises(DataError, match="no regular file"):
        read_image(tmp_path / "cats" / "a.png", (4, 4), grey=True)
    (tmp_path / "cats" / "loop").symlink_to(tmp_path / "cats")
    with pytest.raises(DataError, match="leads back"):
        images_in(tmp_path / "cats")


def test_a_network_of_a_hundred_thousand_layers():
    with pytest.raises(ConfigError, match="1202"):
        Network.named("resnet", depth=600_002)


def test_a_download_ends_at_its_known_size(tmp_path):
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Endless(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(bytes(1 << 16))
            except OSError:
                return

        def log_message(self, *words):
            return

    server = HTTPServer(("127.0.0.1", 0), Endless)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        remote = RemoteFile(url=f"http://127.0.0.1:{server.server_port}/x.bin", bytes=1 << 20)
        with pytest.raises(DataError, match="1,048,576 bytes"):
            fetch(remote, tmp_path)
    finally:
        server.shutdown()
    assert not list(tmp_path.iterdir())


def parquet(path, **columns):
    """Write a table of one value a column, in as many groups of rows as there are in ``rows``."""
    rows = columns.pop("rows")
    made = {
        name: pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value]))
        for name, value in columns.items()
    }
    with pq.ParquetWriter(path, pa.table(made).schema, store_schema=False) as writer:
        for _ in range(5):
            writer.write_table(pa.table(made))


@pytest.mark.parametrize(
    ("rows", "text", "words"),
    [(800, "x" * 1_000_000, "bytes of texts"), (1_000_000, "x", "rows, expected at most")],
)
def test_a_small_parquet_file_does_not_become_gigabytes(tmp_path, moderate, rows, text, words):
    path = tmp_path / "labels.parquet"
    parquet(path, rows=rows, architecture=text, score=0.5)
    assert path.stat().st_size < 300_000
    with pytest.raises(PredictorError, match=words):
        read_labels(path)
    with pytest.raises(RunError, match=words):
        read_frame(path, {})
    with pytest.raises(DataError, match=words):
        read_parquet(path)


@pytest.mark.parametrize("value", ["1:" * 50_000 + "1", "0" * 100_000, "1_" * 50_000 + "1"])
def test_a_long_number_is_told_in_short(value):
    with pytest.raises(ConfigError) as told:
        parse_overrides([f"seed={value}"])
    assert len(str(told.value)) < 1000


@pytest.mark.parametrize("file", ["state.safetensors", "weights.safetensors"])
def test_tensors_of_a_hundred_megabytes_of_names(tmp_path, file):
    head = b"{" + b" " * (20 << 20) + b"}"
    space = get_space("nasbench201", stem_channels=1, cells_per_stage=1)
    if file == "state.safetensors":
        cells = space.sample(9, np.random.default_rng(0))
        get_predictor("trees", trees=1).fit(space.graphs(cells), range(9)).save(tmp_path / "x")
    else:
        Network.of(space, space.parse("334131")).save(tmp_path / "x")
    (tmp_path / "x" / file).write_bytes(len(head).to_bytes(8, "little") + head)
    with pytest.raises(InputError, match="a header of 20"):
        (load_predictor if file == "state.safetensors" else Network.load)(tmp_path / "x")
