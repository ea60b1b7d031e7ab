"""How figures are drawn: as matplotlib does by itself, whoever draws them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def plain_style() -> Iterator[None]:
    """Draw in the block by matplotlib's own defaults: a matplotlibrc of the user, for papers of theirs, may want LaTeX,
    fonts or sizes that make other pictures of the same numbers, or none.
    """
    # matplotlib takes a second to import: it is imported where a figure is drawn.
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield
