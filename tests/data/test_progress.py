from __future__ import annotations

import pytest

from lchp.data.progress import progress


@pytest.mark.parametrize(("images", "shown"), [(1, "0/47 ["), (64, "0/3008 [")])
def test_progress_of_several_images_an_item_counts_images(images: int, shown: str) -> None:
    bar = str(progress(range(47), "resizing", images=images))
    assert shown in bar
    assert "? images/s" in bar
