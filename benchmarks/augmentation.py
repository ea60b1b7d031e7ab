"""The strong augmentation of a batch: the backend `batched` against `imgaug`, the paper's library."""

from __future__ import annotations

from functools import partial

import torch
from timing import compare, options, report

from lchp.data import imgaug_backend
from lchp.method import augmentation


def main() -> None:
    """Time both backends on the same images, boxes and draws; the images begin and end on the device."""
    parser = options(__doc__ or "")
    parser.add_argument("--images", type=int, default=32, help="images a batch (paper: 32)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 448], help="sides of the views (paper: 448)")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    for size in chosen.sizes:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(chosen.images, 3, size, size, generator=generator).to(chosen.device)
        corners = torch.rand(chosen.images, 2, 2, generator=generator).sort(1).values
        boxes = corners.flatten(1).to(chosen.device)
        draw = augmentation.draw_strong(chosen.images, size, "scale+translation+flip", generator)
        variants = {
            "imgaug": partial(imgaug_backend.strong, images, boxes, draw),
            "batched": partial(augmentation.strong, images, boxes, draw.to(chosen.device)),
        }
        times = compare(variants, chosen.device, chosen.repeats)
        report(f"strong augmentation at {size} px", times, chosen.images, chosen.device)


if __name__ == "__main__":
    main()
