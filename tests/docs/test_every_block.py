"""What the documents show in blocks is right where no other test follows it word for word.

Commands exist with their options, files of a search or its parts are valid, Python runs.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from nasplatform import plugins
from nasplatform.cli import app
from nasplatform.config import load_compression, load_config
from nasplatform.models.network import Network

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r'^```(\w*)(?: title="[\w.]+")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
RUN_BY = {
    "docs/tour.md": "test_guides",
    "docs/guides/": "test_guides",
    "README.md": "test_documents",
    "docs/networks.md": "test_documents",
    "docs/training.md": "test_documents",
    "docs/service.md": "test_readme",  # the same request is made of the service there
    "CONTRIBUTING.md": "test_own_plugins",  # the same class stands there
}
"""Pages whose Python another test executes."""


def blocks(*languages: str) -> list[Any]:
    """Return (page, text) of each block in one of these languages."""
    found = []
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        for place, (language, text) in enumerate(BLOCK.findall(page.read_text())):
            if language in languages:
                found.append(pytest.param(name, text, id=f"{name}-{place}"))
    return found


def commands() -> Iterator[str]:
    """Yield each line that begins with the program, without comments, joined where it goes on."""
    for page in PAGES:
        text = page.read_text()
        shown = [
            body for language, body in BLOCK.findall(text) if language in ("", "sh", "console")
        ]
        inline = re.findall(r"`(nasplatform [a-z][^`\n]*)`", text)
        for line in [*"\n".join(shown).replace("\\\n", " ").splitlines(), *inline]:
            if line.startswith("nasplatform "):
                yield re.sub(r"\s+#.*| [<>|].*", "", line)


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_a_command_exists_with_its_options(line: str) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(line.replace("...", ""))[1:]
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        name = words.pop(0)
        if name.isupper() or "|" in name:  # a name that stands for several
            return
        assert name in command.commands, line
        command = command.commands[name]
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
    given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert given - {"--help", "--version"} <= known, line


@pytest.mark.parametrize(("page", "text"), blocks("yaml"))
def test_a_file_is_a_valid_one(page: str, text: str, tmp_path: Path) -> None:
    shown = yaml.safe_load(text)
    if "recipe" in shown:
        shown = {"stages": [{"name": "train", **shown}]}
    whole = "name" in shown or "network" in shown
    base = {} if whole else yaml.safe_load((ROOT / "searches/quickstart.yaml").read_text())
    file = tmp_path / "shown.yaml"
    file.write_text(yaml.safe_dump({**base, **shown}))
    config, _ = (load_compression if "network" in shown else load_config)(file)
    for stage in config.stages:
        kind = plugins.get("stages", stage.name)
        kind.Options.model_validate(stage.options)


@pytest.mark.parametrize(("page", "text"), blocks("python"))
def test_python_runs_or_another_test_runs_it(
    page: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if any(page.startswith(known) for known in RUN_BY):
        return
    monkeypatch.chdir(tmp_path)
    module = Network.named("resnet", depth=8, width=8, input_shape=(3, 32, 32), classes=10).module
    before = sum(p.numel() for p in module.parameters())
    made: dict[str, Any] = {"module": module}
    exec(text, made)
    if "small" in made:
        assert sum(p.numel() for p in made["small"].parameters()) < 0.8 * before
    if "graphs" in made:
        assert len(made["graphs"]) == len(made["costs"].params) == 1000


@pytest.mark.parametrize("known", RUN_BY)
def test_who_is_said_to_run_it_does(known: str) -> None:
    tests = [*ROOT.glob(f"tests/**/{RUN_BY[known]}.py")]
    assert len(tests) == 1


def test_there_are_blocks() -> None:
    assert len(set(commands())) > 40
    assert len(blocks("yaml")) > 8
    assert {b.values[0] for b in blocks("python")} >= {"docs/pruning.md", "docs/transformers.md"}
