"""What a configuration says of networks: their names, and the weights that they start from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from lchp.data.config import Config, GivenPath
from lchp.method.backbones import NETWORKS
from lchp.method.vit import TRANSFORMERS

if TYPE_CHECKING:
    from lchp.method.networks import RegressorDesign

    # Type checkers want the names written out.
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

    classifier: Literal["imagenet", "none"] | WeightsFile = Field("imagenet", description="of the classifier's trunk")
    regressor: Literal["imagenet", "none", "classifier"] | WeightsFile = Field(
        "imagenet",
        description="of the regressor's trunk; `classifier` starts the blocks it shares with the classifier from those "
        "(method notes 19)",
    )


class RegressorConfig(Config):
    """What the regressor is made of beside its network; the defaults are the paper's (method notes 23)."""

    head: Literal["pooled", "profiles"] = Field(
        "pooled",
        description="what the last layer sees: the mean of all places (paper 3.1), or the means of rows and of columns "
        "of 32 channels",
    )
    maps: Literal["coarse", "fine"] = Field(
        "coarse", description="stride of the trunk: the whole network's (paper), or that of the classifier's trunk"
    )
    omit: int = Field(0, ge=0, le=100, description="last blocks of the trunk that are left out")
    frozen: bool = Field(False, description="whether the trunk keeps its first weights, so that the head alone learns")

    @property
    def design(self) -> RegressorDesign:
        """The same for the network."""
        from lchp.method.networks import RegressorDesign  # imports torch, which checking a configuration does without

        return RegressorDesign(self.head, self.maps, self.omit, self.frozen)
