"""One self-contained report.html: tables, pictures, and what they were made with."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from lchp.data.files import write_text
from lchp.reporting.differences import TITLES, Differences
from lchp.reporting.table import Table
from lchp.reporting.verdicts import Verdict, answer
from lchp.reporting.writing import show

_PAGE = """{% macro left(column) %}{% if column < 3 %} class="label"{% endif %}{% endmacro %}
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{{ study }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th.label, td.label, th.warnings, td.warnings { text-align: left; }
.warning { color: #a00; }
thead th { border-bottom: 2px solid #222; }
img { max-width: 100%; }
.small { color: #555; font-size: .85rem; }
</style>
</head>
<body>
<h1>{{ study }}</h1>
{% if question %}<p>{{ question }}</p>{% endif %}
{% if verdicts %}
<p><strong>{{ answer }}</strong></p>
<ul>
{% for one in verdicts %}<li>{{ one.sentence }}
<ul class="small">{% for number in one.numbers %}<li>{{ number }}</li>{% endfor %}
{% if one.remedy %}<li>to decide it: {{ one.remedy }}</li>{% endif %}</ul></li>
{% endfor %}</ul>
{% endif %}
{% for table in tables %}
<h2>{{ table.name }}</h2>
<p>{{ table.heading }}</p>
<table>
<thead><tr>{% for kind, title in table.titles %}<th class="{{ kind }}">{{ title }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}<tr>{% for kind, cell in row %}<td class="{{ kind }}">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody>
</table>
<p class="small">Made with {{ table.made }}. {{ table.notes }}</p>
{% for warning in table.warnings %}<p class="warning">{{ warning }}</p>
{% endfor %}
{% if table.differences %}
<details><summary>Differences: {{ table.differences.counts }}</summary>
<p>{{ table.differences.heading }}.</p>
<table>
<thead><tr>{% for title in titles %}<th{{ left(loop.index) }}>{{ title }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.differences.rows() %}
<tr>{% for cell in row %}<td{{ left(loop.index) }}>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody>
</table>
<p class="small">{{ table.differences.notes | join(" ") }}</p>
</details>
{% endif %}
{% endfor %}
{% for title, data in figures %}
<h2>{{ title }}</h2>
<p><img alt="{{ title }}" src="data:image/png;base64,{{ data }}"></p>
{% endfor %}
<h2>Environment</h2>
<table><tbody>
{% for name, value in environment.items() %}<tr><td class="label">{{ name }}</td><td class="label">{{ value }}</td></tr>
{% endfor %}</tbody></table>
</body>
</html>
"""


def _shown(table: Table, differences: Differences | None) -> dict[str, Any]:
    return {
        "differences": differences if differences and differences.lines else None,
        "name": table.spec.name,
        "heading": table.heading,
        "titles": [(column.kind, column.title) for column in table.columns],
        "rows": [
            [(column.kind, show(cell, column)) for cell, column in zip(row, table.columns, strict=True)]
            for row in table.rows
        ],
        "made": table.made.line(),
        "notes": " ".join((*table.notes, *table.counts)),
        "warnings": table.warnings,
    }


def write_html(
    out: Path,
    study: str,
    question: str | None,
    verdicts: Sequence[Verdict],
    tables: Sequence[Table],
    differences: Sequence[Differences],
    figures: Mapping[str, Path],
    environment: Mapping[str, Any],
) -> None:
    """Write the report.

    ``verdicts`` are of the study's claims, ``differences`` are the tables', in their order; ``figures`` maps titles to
    .png files, which are embedded; ``environment`` is flat.
    """
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(_PAGE)
    embedded = [(title, base64.b64encode(path.read_bytes()).decode("ascii")) for title, path in figures.items()]
    page = template.render(
        study=study,
        question=question,
        tables=[_shown(table, of_table) for table, of_table in zip_longest(tables, differences)],
        titles=TITLES,
        verdicts=verdicts,
        answer=answer(verdicts),
        figures=embedded,
        environment=environment,
    )
    write_text(out, page)
