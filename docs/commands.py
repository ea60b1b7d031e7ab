"""The page of every command: `python docs/commands.py > docs/reference/commands.md` writes it anew."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import click

from lchp.cli import app
from lchp.cli_voice import options

_HEAD = """# Every command

Made by `docs/commands.py` from the command line itself: `lchp COMMAND --help` says the same. Exit codes, and what every
file holds, are in [what scripts may rely on](../scripts.md).
"""


def as_markdown() -> str:
    """Every command with its arguments, what it does, and its options."""
    common = [record for one in options() if (record := one.get_help_record(click.Context(app)))]
    head = [_HEAD, "Every command takes", "", *_table([*common, ("-h, --help", "Show the help and exit.")])]
    sections = [line for words, command in _commands(app, ["lchp"]) for line in _section(words, command)]
    return "\n".join([*head, "", *sections]).rstrip() + "\n"


def _commands(group: click.Group, words: list[str]) -> Iterator[tuple[list[str], click.Command]]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from _commands(command, [*words, name])
        else:
            yield [*words, name], command


def _section(words: list[str], command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=" ".join(words))
    yield f"## {' '.join(words)}"
    yield ""
    yield "```text"
    yield " ".join([*words, *command.collect_usage_pieces(context)])
    yield "```"
    yield ""
    for paragraph in re.split(r"\n\s*\n", command.help or ""):
        yield from _paragraph(paragraph)
    own = [one for one in command.params if isinstance(one, click.Option)]
    yield from _table([record for one in own if (record := one.get_help_record(context))])
    yield ""


def _paragraph(text: str) -> Iterator[str]:
    """A paragraph of a help text; one that click must not wrap begins with a line of ``\\b``."""
    lines = text.splitlines()
    if lines[0].strip() == "\b":
        yield from ["```text", *(line.strip() if not line.startswith("  ") else line for line in lines[1:]), "```", ""]
    else:
        yield from [_plain(" ".join(line.strip() for line in lines)), ""]


def _table(records: list[tuple[str, str]]) -> Iterator[str]:
    if not records:
        return
    yield "| option | what it does |"
    yield "|---|---|"
    for option, text in records:
        yield f"| `{_cell(option)}` | {_cell(_plain(text))} |"


def _plain(text: str) -> str:
    """Text in which ``<study>`` is no tag of HTML, but in code, where Markdown sees to it."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(as_markdown())
