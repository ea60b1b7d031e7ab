"""One step of either stage, from uint8 images to new weights: bf16 and channels_last against plain fp32."""

from __future__ import annotations

from functools import partial

import torch
from timing import compare, options, report

from lchp.training.config import TrialConfig
from lchp.training.initialization import Initialization
from lchp.training.refinement import Refinement

VARIANTS: dict[str, dict[str, object]] = {
    "fp32": {},
    "fp32, channels_last": {"channels_last": True},
    "bf16": {"precision": "bf16"},
    "bf16, channels_last": {"precision": "bf16", "channels_last": True},
}
DEFAULTS = {"cpu": ("mobilenet_v2", 160, 8), "cuda": ("inception_v3", 448, 32)}
CLASSES = 200


def main() -> None:
    """Time the steps of all variants in turn on one batch of noise; weights are random."""
    parser = options(__doc__ or "")
    parser.add_argument("--network", help="classifier and regressor; default: mobilenet_v2, on cuda inception_v3")
    parser.add_argument("--size", type=int, help="side of the views in pixels; default: 160, on cuda 448")
    parser.add_argument("--images", type=int, help="images a batch; default: 8, on cuda 32")
    parser.set_defaults(repeats=3)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    network, size, count = DEFAULTS[chosen.device]
    network, size, count = chosen.network or network, chosen.size or size, chosen.images or count
    generator = torch.Generator().manual_seed(0)
    resize = size * 8 // 7
    images = torch.randint(0, 256, (count, 3, resize, resize), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    first, second = {}, {}
    for name, compute in VARIANTS.items():
        config = TrialConfig.model_validate(
            {
                "backbone": network,
                "classifier": network,
                "weights": {"classifier": "none", "regressor": "none"},
                "view": {"resize": resize, "crop": size},
                "compute": {**compute, "cpu_threads": chosen.threads},
            }
        )
        initialization = Initialization(config, CLASSES, chosen.device)
        initialization.networks.classifier.train()
        initialization.networks.regressor.train()
        refinement = Refinement(config, Initialization(config, CLASSES, chosen.device).networks, chosen.device)
        refinement.classifier.eval()
        first[name] = partial(initialization._step, images, labels)
        second[name] = partial(refinement._step, images, labels)
    for title, variants in (("initialization", first), ("refinement", second)):
        times = compare(variants, chosen.device, chosen.repeats)
        report(f"{title} step, {network} at {size} px", times, count, chosen.device)


if __name__ == "__main__":
    main()
