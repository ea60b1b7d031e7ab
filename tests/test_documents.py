"""What the documents say is so: their studies load, their command lines are understood, what is made is current."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import click
import pytest

import lchp
from lchp.cli import app
from lchp.study.spec.keys import all_keys
from lchp.study.spec.load import load_study, load_trial
from tests.documents import PAGES, ROOT, Line, blocks, lines


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_document_studies_are_accepted_as_written(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(page, "yaml")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block, encoding="utf-8")
        if block.startswith("name:"):
            assert load_study(path).count >= 1
        else:
            assert load_trial(path).seed == 0


@pytest.mark.parametrize("line", lines("lchp"), ids=lambda line: f"{line.page}: {' '.join(line.words)}"[:80])
def test_document_command_line_is_understood(line: Line) -> None:
    command, words = app, list(line.words)
    while isinstance(command, click.Group):
        command, words = command.commands[words[0]], words[1:]
    # Parses and converts, as when the command is called, and calls nothing.
    context = command.make_context(" ".join(line.words), words)
    assert context.params.keys() == {one.name for one in command.get_params(context) if one.expose_value}


def test_documents_name_targets_that_make_has() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {line.words[0] for line in lines("make")}
    assert {"setup", "study", "test"} <= named
    assert [target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_document_python_calls_lchp_as_it_is(page: Path) -> None:
    for block in blocks(page, "python"):
        for call in ast.walk(ast.parse(block)):
            named = isinstance(call, ast.Call) and re.fullmatch(r"lchp\.(\w+)", ast.unparse(call.func))
            if isinstance(call, ast.Call) and named:
                called = getattr(lchp, named[1])
                keywords = {str(one.arg): one.value for one in call.keywords}
                bound = inspect.signature(called).bind(*call.args, **keywords)
                assert list(bound.args[: len(call.args)]) == call.args


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name == "docs"], ids=lambda page: page.name)
def test_document_dotted_keys_are_keys(page: Path) -> None:
    known = {key.name for key in all_keys()}
    sections = {name.partition(".")[0] for name in known if "." in name}
    named = re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", page.read_text(encoding="utf-8"))
    dotted = [name for name in named if name.partition(".")[0] in sections and not name.endswith(".png")]
    assert [name for name in dotted if name not in known] == []


def test_page_of_commands_is_current() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "commands.py"))["as_markdown"]()
    assert (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8") == made, (
        "`.venv/bin/python docs/commands.py > docs/reference/commands.md` writes it anew"
    )


def test_site_is_built_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed: `make setup` does")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "SOURCE_DATE_EPOCH": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in PAGES[1:]:
        built = (tmp_path / "site" / page.relative_to(ROOT / "docs")).with_suffix(".html").read_text(encoding="utf-8")
        assert re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="?(?:https?:)?//[^" >]+', built) == []
        assert ":::" not in built
