"""Published transformers are points of the space, equal to their authors' code to the integer."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nasplatform.cli import main
from nasplatform.models.published import count_family
from nasplatform.spaces import get_space
from nasplatform.spaces.vit.costs import count
from nasplatform.spaces.vit.families import families
from nasplatform.spaces.vit.network import Network
from nasplatform.spaces.vit.numbers import Numbers
from nasplatform.spaces.vit.text import format_text, parse_text

FAMILIES = {family.name: family for family in families()}
# Parameters, multiply-adds in 1e9 and those of them that are products of attention, counted by
# running the authors' code; those of CPVT, AutoFormer and PiT-XS, and multiply-adds of PiT, follow
# from formulas.
COUNTED = {
    "deit-ti": (5_717_416, 1.2537, 0.1788),
    "deit-s": (22_050_664, 4.5989, 0.3577),
    "deit-b": (86_567_656, 17.5638, 0.7153),
    "deit-ti-distilled": (5_910_800, 1.2610, 0.1807),
    "deit-s-distilled": (22_436_432, 4.6241, 0.3613),
    "deit-b-distilled": (87_338_192, 17.6568, 0.7226),
    "t2t-14": (21_465_806, 4.7835, 0.4495),
    "t2t-t-14": (21_465_422, 6.0887, 1.7548),
    "pvt-ti": (13_229_288, 1.9329, 0.0764),
    "pvt-s": (24_485_864, 3.8157, 0.1429),
    "pvt-m": (44_208_104, 6.6592, 0.2167),
    "pvt-l": (61_369_320, 9.8138, 0.3113),
    "tnt-s": (23_768_584, 5.2169, 0.3866),
    "tnt-b": (65_428_680, 14.0491, 0.6443),
    "cpvt-s": (21_978_856, 4.5996, 0.3577),
    "swin-t": (28_288_354, 4.4906, 0.1401),
    "swin-s": (49_606_258, 8.7409, 0.2287),
    "swin-b": (87_768_224, 15.4309, 0.3049),
    "twins-svt-s": (24_060_776, 2.9274, 0.1180),
    "cmt-ti": (9_492_426, 0.6389, 0.0212),
    "cmt-xs": (15_247_208, 1.5469, 0.0679),
    "cmt-s": (26_256_160, 4.0317, 0.1746),
    "cvt-13": (19_997_480, 4.5661, 0.5084),
    "cvt-21": (31_622_696, 7.1780, 0.6718),
    "autoformer-tiny": (5_867_944, 1.283, None),
    "autoformer-small": (22_891_432, 4.774, None),
    "autoformer-base": (53_691_688, 11.045, None),
    "pit-ti": (4_847_272, 0.6991, 0.2012),
    "pit-xs": (10_618_888, 1.3947, 0.3017),
    "pit-s": (23_461_912, 2.8708, 0.4526),
    "pit-b": (73_764_840, 12.4019, 1.8619),
}
BY_MODULES_ONLY = ("t2t-14", "t2t-t-14", "tnt-s", "tnt-b")  # the closed form knows no such entry
CROSS_CHECKED = ("deit-ti-distilled", "cmt-ti", "autoformer-tiny")


def built(family):
    with torch.device("meta"):
        return Network(family.architecture, family.input_shape, family.classes)


def without_relative(family):
    (stage,) = family.architecture.stages
    changed = replace(family.architecture, stages=(replace(stage, relative="none"),))
    return replace(family, architecture=changed)


@pytest.mark.parametrize("name", COUNTED)
def test_a_family_is_as_large_as_its_authors_code(name):
    family = FAMILIES[name]
    params, macs, attention = COUNTED[name]
    assert sum(weight.numel() for weight in built(family).parameters()) == params
    if attention is None:  # the formula leaves products with relative positions out
        family = without_relative(family)
    if name in BY_MODULES_ONLY:
        counted = count_family(get_space("vit"), family)
        found, products = counted.macs, counted.macs - counted.macs_without_attention
    else:
        costs = count(Numbers.of_one(family.architecture), family.input_shape, family.classes)
        found, products = costs.macs[0], costs.attention_macs.sum()
    assert found / 1e9 == pytest.approx(macs, rel=5e-4)
    if attention is not None:
        assert products / 1e9 == pytest.approx(attention, abs=6e-5)


@pytest.mark.parametrize("name", CROSS_CHECKED)
def test_modules_and_closed_form_count_the_same(name):
    family = FAMILIES[name]
    counted = count_family(get_space("vit"), family)
    costs = count(Numbers.of_one(family.architecture), family.input_shape, family.classes)
    assert (counted.params, counted.macs) == (costs.params[0], costs.macs[0])
    assert counted.macs - counted.macs_without_attention == costs.attention_macs.sum()


def test_all_families_are_compared():
    assert set(COUNTED) == set(FAMILIES)
    assert [family.name for family in get_space("vit").families()] == list(FAMILIES)


def test_fixed_numbers_are_what_the_authors_of_t2t_count_besides():
    """Sinusoids 197 x 384 and two matrices 32 x 64, to 21,545,550 and 21,541,070."""
    for name, fixed in (("t2t-14", 79_744), ("t2t-t-14", 75_648)):
        module = built(FAMILIES[name])
        assert sum(buffer.numel() for buffer in module.buffers()) == fixed


def test_relative_vectors_of_autoformer():
    """Four tables of 30 x 64 in each of 13 layers."""
    bare = built(without_relative(FAMILIES["autoformer-tiny"]))
    assert sum(weight.numel() for weight in bare.parameters()) == 5_768_104


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_has_a_text(name):
    architecture = FAMILIES[name].architecture
    assert parse_text(format_text(architecture)) == architecture


@pytest.mark.parametrize("name", FAMILIES)
def test_printed_figures_are_near_or_explained(name):
    """What was printed is the count, rounded or cut, or a note says more than that."""
    family = FAMILIES[name]
    for counted, printed in (
        (COUNTED[name][0] / 1e6, family.published_params),
        (COUNTED[name][1], family.published_macs),
    ):
        unit = 1 if isinstance(printed, int) else 0.1
        if family.note == "rounded in print":
            assert abs(counted - printed) <= unit / 2
        elif family.note == "cut in print, not rounded":
            assert abs(counted - printed) < unit


def test_the_documents_show_these_counts():
    text = (Path(__file__).parents[2] / "docs" / "transformers.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d,]+) \| ([\d.]+) \|", text, re.MULTILINE)
    shown = {name: int(number.replace(",", "")) for name, number, _ in rows}
    assert shown == {name: params for name, (params, _, _) in COUNTED.items()}


def test_the_command_prints_counts_beside_printed_figures(capsys, monkeypatch):
    monkeypatch.setattr("nasplatform.spaces.vit.space.families", lambda: (FAMILIES["deit-ti"],))
    assert main(["spaces", "families", "vit", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "name": "deit-ti",
            "input": "3x224x224",
            "params": 5_717_416,
            "macs": 1_253_683_200,
            "macs_without_attention": 1_253_683_200 - 12 * 2 * 197**2 * 192,
            "published_params_millions": 5,
            "published_macs_billions": 1.3,
            "note": "cut in print, not rounded",
        }
    ]
    assert main(["spaces", "families", "vit"]) == 0
    assert "1,253,683,200" in capsys.readouterr().out


def test_a_space_without_families_says_so(capsys):
    assert main(["spaces", "families", "nasbench201", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == []
    assert "no published network" in said.err
