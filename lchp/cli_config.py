"""The commands that tell of configurations: what a file comes to, every key, and the schema by which editors check."""

from __future__ import annotations

import json
from pathlib import Path

import click

from lchp.cli_options import JSON, STUDIED, Group, with_options
from lchp.errors import refusing


@click.group(cls=Group)
def config() -> None:
    """Tell of configurations: what a file comes to, and what every key may be."""


@config.command("show")
@with_options(STUDIED, JSON)
def config_show(file: Path, data: Path | None, sets: tuple[str, ...], as_json: bool) -> int:
    """Print the whole configuration that FILE, a study or a trial, comes to: every key with its value, who set it, its
    range, unit, default and source. What is printed is YAML, and would do the same as FILE with these options.
    """
    with refusing():
        from lchp.study.spec.shown import as_yaml, shown

        lines = shown(file, sets, data)
    if as_json:
        click.echo(json.dumps({line.name: line.as_dict() for line in lines}, indent=2, ensure_ascii=False))
    else:
        click.echo(as_yaml(lines))
    return 0


@config.command("keys")
@click.argument("key", required=False)
@click.option("--markdown", is_flag=True, help="Print them as docs/reference/keys.md holds them.")
@JSON
def config_keys(key: str | None, markdown: bool, as_json: bool) -> int:
    """Tell what KEY, dotted, may be: range, unit, default and source; of a section, and without KEY, of every key."""
    with refusing():
        from lchp.study.spec.keys import as_lines, as_markdown, as_text, found_keys

        if markdown and (as_json or key is not None):
            raise click.UsageError("--markdown prints every key: give neither KEY nor --json beside it")
        found = found_keys(key)
    if as_json:
        click.echo(json.dumps([one.as_dict() for one in found], indent=2, ensure_ascii=False))
    elif markdown:
        click.echo(as_markdown(found), nl=False)
    else:
        click.echo(as_text(found[0]) if len(found) == 1 else as_lines(found))
    return 0


@config.command("schema")
@click.option("--trial", is_flag=True, help="Of a trial's file.")
def config_schema(trial: bool) -> int:
    """Print the JSON Schema (draft 2020-12) of study files, by which editors complete and check it.

    A line `# yaml-language-server: $schema=PATH` at a file's head names it, as `lchp study show` and `lchp init` write.
    """
    from lchp.study.spec.json_schema import study_schema, trial_schema

    click.echo(json.dumps(trial_schema() if trial else study_schema(), indent=1, ensure_ascii=False))
    return 0
