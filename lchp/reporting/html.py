"""One self-contained report.html: question, answer, tables, pictures, trials, and what they were made with."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from jinja2 import Environment, StrictUndefined

from lchp.data.files import write_text
from lchp.reporting.differences import TITLES, Differences
from lchp.reporting.document import Document
from lchp.reporting.statistics import Summary
from lchp.reporting.table import Table
from lchp.reporting.writing import TEXT, show
from lchp.store.study_folder import StudyFolder
from lchp.surroundings import LOOPBACK

_RUN_ID = re.compile("[0-9a-f]{32}")
"""As MLflow makes it: a run that is not written yet is named otherwise."""
_WITHIN = re.compile(r" (?![\[(])")
"""A space within a number, its interval, or its count."""
_JOINT = re.compile(r"(?<=[^\W_][._+])(?=[A-Za-z])")
"""Behind what joins the parts of a key or value."""
_MOST_COLUMNS = 8
"""Of a table in letters of the usual size."""
_MOST_LINKED = 100
"""Runs that a link names."""
_PAGE = """{% macro left(column, of) %}{% if column <= of %} class="label"{% endif %}{% endmacro %}
{% macro words(text) %}
{% for part in text | parts %}{{ part }}{% if not loop.last %}<wbr>{% endif %}{% endfor %}
{% endmacro %}
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ study }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #ddd; vertical-align: top; }
thead th { vertical-align: bottom; }
th.label, td.label, th.warnings, td.warnings { text-align: left; }
.warning { color: #a00; }
thead th { border-bottom: 2px solid #222; }
img { max-width: 100%; }
li, h2 { overflow-wrap: anywhere; }
figure { margin: 0; }
td a { color: inherit; text-decoration: underline dotted #999; text-underline-offset: .2em; }
.small { color: #555; font-size: .85rem; }
.wide { font-size: .8rem; } .wide th, .wide td { padding: .25rem .2rem; }
.run { overflow-wrap: anywhere; min-width: 8rem; }
@media (max-width: 60rem) { th, td { padding: .25rem; } table { font-size: .85rem; } }
@media screen and (max-width: 40rem) {
  body { margin: 1rem auto; font-size: 15px; }
  .titled thead { display: none; }
  .titled tr { display: block; border-bottom: 2px solid #ddd; padding: .3rem 0; }
  .titled td { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: .1rem 0; }
  .titled td { text-align: right; overflow-wrap: anywhere; }
  .titled td::before { content: attr(data-title); color: #555; text-align: left; overflow-wrap: normal; }
  .titled tbody, .titled { display: block; }
  td { overflow-wrap: anywhere; } .titled td:empty { display: none; }
}
@media print {
  body { max-width: none; margin: 0; font-size: 10pt; }
  table { display: table; font-size: 7pt; } th, td { padding: .15rem .3rem; }
  .wide { font-size: 6pt; }
  details::details-content { content-visibility: visible; block-size: auto; }
  img { max-height: 20cm; } figure, tr { break-inside: avoid; } h2 { break-after: avoid; }
}
</style>
</head>
<body>
<h1>{{ study }}</h1>
{% if question %}<p>{{ question }}</p>{% endif %}
{% if verdicts %}
<p><strong>{{ answer }}</strong></p>
<ul>
{% for one in verdicts %}<li><code>{{ one.claim }}</code> {{ one.words }}.
<ul class="small">{% for number in one.numbers %}<li>{{ number }}</li>{% endfor %}
{% if one.remedy %}<li>to decide it: {{ one.remedy }}</li>{% endif %}</ul></li>
{% endfor %}</ul>
{% endif %}
{% for table in tables %}
<h2>{{ table.title }}</h2>
<p>{{ table.heading }}<br><span class="small">{{ table.files | join(", ") }}</span></p>
<table class="titled{% if table.titles | length > most_columns %} wide{% endif %}">
<thead><tr>{% for kind, title in table.titles %}<th class="{{ kind }}">{{ words(title) }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}<tr>{% for kind, title, cell, link in row %}<td class="{{ kind }}" data-title="{{ title }}">
{%- if link %}<a href="{{ link }}">{{ cell }}</a>{% else %}{{ words(cell) }}{% endif %}</td>{% endfor %}</tr>
{% endfor %}</tbody>
</table>
<p class="small">Made with {{ table.made }}. {{ table.notes }}</p>
{% for warning in table.warnings %}<p class="warning">{{ warning }}</p>
{% endfor %}
{% if table.differences %}
<details><summary>Differences: {{ table.differences.counts }}</summary>
<p>{{ table.differences.heading }}.</p>
<table class="titled">
<thead><tr>{% for title in titles %}<th{{ left(loop.index, 2) }}>{{ title | whole }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.differences.rows() %}
<tr>{% for cell in row %}<td{{ left(loop.index, 2) }} data-title="{{ titles[loop.index0] }}">
{{- cell | whole if loop.index > 2 else words(cell) }}</td>{% endfor %}</tr>
{% endfor %}</tbody>
</table>
<p class="small">{{ table.differences.notes | join(" ") }}</p>
</details>
{% endif %}
{% endfor %}
{% for title, data in pictures %}
<figure>
<h2>{{ title }}</h2>
<p><img alt="{{ title }}" src="data:image/png;base64,{{ data }}"></p>
</figure>
{% endfor %}
<h2>Trials</h2>
<p class="small">How long each trained here, and what trains it again and compares every number.
{% if runs_at %}Numbers and ids lead to their runs in MLflow{% if on_loopback %}, as long as <code>lchp ui</code> is
running there{% endif %}: <a href="{{ runs_at }}">{{ runs_at }}</a>{% else %}A run's page opens from its id in the runs
table of <code>lchp ui {{ study }}</code>{% endif %}.</p>
<table class="titled{% if trial_titles | length > most_columns %} wide{% endif %}">
<thead><tr>{% for title in trial_titles %}<th class="label">{{ words(title) }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in trials %}<tr>{% for kind, title, cell, link in row %}<td class="{{ kind }}" data-title="{{ title }}">
{%- if link %}<a href="{{ link }}">{{ cell }}</a>{% else %}{{ words(cell) }}{% endif %}</td>{% endfor %}</tr>
{% endfor %}</tbody>
</table>
<h2>Environment</h2>
<table><tbody>
{% for name, value in environment.items() %}<tr><td class="label">{{ name }}</td><td class="label">{{ value }}</td></tr>
{% endfor %}</tbody></table>
</body>
</html>
"""


def _link(runs_at: str | None, runs: Sequence[str]) -> str | None:
    """Where the UI of the tracking store shows these runs: a run's own page, several ones side by side; None where it
    is not known.
    """
    if runs_at is None or not runs or not all(_RUN_ID.fullmatch(run) for run in runs):
        return None
    if len(runs) == 1:
        return f"{runs_at}/{runs[0]}"
    if len(runs) > _MOST_LINKED:
        return runs_at
    named = ", ".join(f"'{run}'" for run in runs)
    return f"{runs_at}?{urlencode({'searchFilter': f'attributes.run_id IN ({named})'})}"


def _whole(text: str) -> str:
    """A number as people read it, which is broken into lines before a bracket alone: where a table is too wide, its
    cells grow downwards.
    """
    return _WITHIN.sub("\N{NO-BREAK SPACE}", text)


def _parts(text: str) -> list[str]:
    """What a word or key is put together of: it may be broken into lines between them, too."""
    return _JOINT.split(text)


def _shown(table: Table, differences: Differences | None, runs_at: str | None) -> dict[str, Any]:
    return {
        "differences": differences if differences and differences.lines else None,
        "title": table.title,
        "files": [file.name for file in StudyFolder(Path()).table(table.spec.name)],
        "heading": table.heading,
        "titles": [(column.kind, column.title) for column in table.columns],
        "rows": [
            [
                (
                    column.kind,
                    column.title,
                    show(cell, column) if column.kind in TEXT else _whole(show(cell, column)),
                    _link(runs_at, runs) if isinstance(cell, Summary) else None,
                )
                for cell, column in zip(row, table.columns, strict=True)
            ]
            for row, runs in zip(table.rows, table.runs, strict=True)
        ],
        "made": table.made.line(),
        "notes": " ".join((*table.notes, *table.counts)),
        "warnings": table.warnings,
    }


def write_html(out: Path, document: Document) -> None:
    """Write the report, with its pictures inside it."""
    runs_at = document.contents.runs_at
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"whole": _whole, "parts": _parts}
    template = environment.from_string(_PAGE)
    shown = [_shown(*both, runs_at) for both in zip_longest(document.tables, document.differences)]
    trials = [
        [
            (
                "label run" if trial.run_id in cell else "label",
                title,
                cell,
                _link(runs_at, [trial.run_id]) if cell == trial.run_id else None,
            )
            for title, cell in zip(document.trial_titles, row, strict=True)
        ]
        for row, trial in zip(document.trial_rows(), document.trials, strict=True)
    ]
    page = template.render(
        study=document.contents.study,
        question=document.contents.question,
        tables=shown,
        titles=TITLES,
        most_columns=_MOST_COLUMNS,
        verdicts=document.verdicts,
        answer=document.answer,
        pictures=[(one.title, b64encode(one.file.read_bytes()).decode("ascii")) for one in document.pictures],
        trial_titles=document.trial_titles,
        trials=trials,
        runs_at=runs_at,
        on_loopback=urlsplit(runs_at or "").hostname in LOOPBACK,
        environment={name: "unknown" if value is None else value for name, value in document.environment().items()},
    )
    write_text(out, page)
