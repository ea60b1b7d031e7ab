"""Algorithm 1 from maps to boxes: the whole batch at once against image by image in NumPy and OpenCV, the usual way.

The maps are random ones, as many and as coarse as those of InceptionV3's Mixed_6e, of the raw images and of the masked
ones, and are there before the clock starts: so what is timed is the algorithm, not a network.
"""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import torch
from timing import compare, options, report
from torch import Tensor

from lchp.method.pseudo_boxes import pseudo_boxes

CHANNELS, STRIDE = 768, 16


def region_of(maps: Tensor, size: int, delta: float) -> list[int]:
    """Lines 2 to 4 for the maps of one image: the tightest rectangle, in pixels, of what exceeds delta, or all."""
    mean = cv2.resize(maps.cpu().numpy().mean(0), (size, size), interpolation=cv2.INTER_LINEAR)
    spread = mean.max() - mean.min()
    rows, columns = np.nonzero(mean - mean.min() > delta * spread)
    if len(rows) == 0:
        return [0, 0, size, size]
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


def one_by_one(raw: Tensor, hidden: Tensor, images: Tensor, delta: float) -> Tensor:
    """Algorithm 1 for every image of a batch, whose maps (n, c, h, w) are there: corners (n, 4) in pixels."""
    found, size = [], images.shape[-1]
    for image, maps, others in zip(images, raw, hidden, strict=True):
        x1, y1, x2, y2 = region_of(maps, size, delta)
        masked = image.clone()
        masked[:, y1:y2, x1:x2] = 0
        a1, b1, a2, b2 = region_of(others, size, delta)
        found.append([min(x1, a1), min(y1, b1), max(x2, a2), max(y2, b2)])
    return torch.tensor(found)


def at_once(raw: Tensor, hidden: Tensor, images: Tensor, delta: float) -> Tensor:
    """The same by the engine; corners (n, 4) in [0, 1]."""
    return pseudo_boxes(lambda seen: raw if seen is images else hidden, images, delta).merged


def main() -> None:
    """Time both on the same images, and say how far their boxes lie apart."""
    parser = options((__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=32, help="images a batch (paper: 32)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 448], help="sides of the views (paper: 448)")
    parser.add_argument("--delta", type=float, default=0.7, help="threshold (paper: 0.7)")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    for size in chosen.sizes:
        images = torch.randn(chosen.images, 3, size, size).to(chosen.device)
        shape = chosen.images, CHANNELS, size // STRIDE, size // STRIDE
        raw, hidden = (torch.randn(shape).relu().to(chosen.device) for _ in range(2))
        loop = partial(one_by_one, raw, hidden, images, chosen.delta)
        batched = partial(at_once, raw, hidden, images, chosen.delta)
        times = compare({"NumPy, image by image": loop, "batched": batched}, chosen.device, chosen.repeats)
        report(f"Algorithm 1 at {size} px", times, chosen.images, chosen.device)
        apart = (batched().cpu() * size - loop()).abs().amax(1)
        equal = int((apart < 0.5).sum())
        print(f"boxes: {equal} of {chosen.images} are equal; the farthest ends are {float(apart.max()):.0f} px apart")


if __name__ == "__main__":
    main()
