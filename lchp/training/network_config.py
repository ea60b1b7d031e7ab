"""What a configuration says of networks: their names, and the weights that they start from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from lchp.data.config import Config, GivenPath
from lchp.method.backbones import NETWORKS
from lchp.method.vit import TRANSFORMERS

if TYPE_CHECKING:  # type checkers want the names written out
    NetworkName = str
    TransformerName = str
else:
    NetworkName = Literal[*NETWORKS]
    TransformerName = Literal[*TRANSFORMERS]


class WeightsFile(Config):
    """A local torchvision state dict, read with ``weights_only=True``."""

    file: GivenPath = Field(description="path of the state dict (.pth)")
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="what the file must hash to")


class WeightsConfig(Config):
    """Initial weights: `imagenet` (torchvision's download), a local file, `none`; the regressor also `classifier`."""

    classifier: Literal["imagenet", "none"] | WeightsFile = "imagenet"
    regressor: Literal["imagenet", "none", "classifier"] | WeightsFile = Field(
        "imagenet",
        description="`classifier` starts the blocks it shares with the classifier from those (method notes 19)",
    )
