"""Algorithm 1: the whole batch at once against image by image in NumPy and OpenCV, the usual way of writing it.

Both ask the same network, a pooling and one convolution with as many channels and the stride of InceptionV3's Mixed_6e:
so cheap that what is timed is the algorithm. The loop asks it for one image at a time, as it must.
"""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import torch
from timing import compare, options, report
from torch import Tensor, nn

from lchp.method.pseudo_boxes import pseudo_boxes

CHANNELS, STRIDE = 768, 16


def region_of(network: nn.Module, image: Tensor, delta: float) -> list[int]:
    """Lines 1 to 4 for one image: the tightest rectangle, in pixels, of what exceeds delta; else the whole view."""
    with torch.no_grad():
        maps = network(image[None])[0].cpu().numpy()
    size = image.shape[-1]
    mean = cv2.resize(maps.mean(0), (size, size), interpolation=cv2.INTER_LINEAR)
    spread = mean.max() - mean.min()
    rows, columns = np.nonzero(mean - mean.min() > delta * spread)
    if len(rows) == 0:
        return [0, 0, size, size]
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


def one_by_one(network: nn.Module, images: Tensor, delta: float) -> Tensor:
    """Algorithm 1 for every image of a batch: corners (n, 4) in pixels."""
    found = []
    for image in images:
        x1, y1, x2, y2 = region_of(network, image, delta)
        masked = image.clone()
        masked[:, y1:y2, x1:x2] = 0
        a1, b1, a2, b2 = region_of(network, masked, delta)
        found.append([min(x1, a1), min(y1, b1), max(x2, a2), max(y2, b2)])
    return torch.tensor(found)


def main() -> None:
    """Time both on the same images, and say how far their boxes lie apart."""
    parser = options((__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=32, help="images a batch (paper: 32)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 448], help="sides of the views (paper: 448)")
    parser.add_argument("--delta", type=float, default=0.7, help="threshold (paper: 0.7)")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    network = nn.Sequential(nn.AvgPool2d(STRIDE), nn.Conv2d(3, CHANNELS, 1), nn.ReLU()).to(chosen.device).eval()
    for size in chosen.sizes:
        images = torch.randn(chosen.images, 3, size, size).to(chosen.device)
        loop = partial(one_by_one, network, images, chosen.delta)
        batched = partial(pseudo_boxes, network, images, chosen.delta, "min_max")
        times = compare({"NumPy, image by image": loop, "batched": batched}, chosen.device, chosen.repeats)
        report(f"Algorithm 1 at {size} px", times, chosen.images, chosen.device)
        apart = (batched().merged.cpu() * size - loop()).abs().amax(1)
        equal = int((apart < 0.5).sum())
        print(f"boxes: {equal} of {chosen.images} are equal; the farthest ends are {float(apart.max()):.0f} px apart")


if __name__ == "__main__":
    main()
