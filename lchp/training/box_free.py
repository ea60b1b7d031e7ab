"""What judges a finished trial on val without a true box: by labels, and by the boxes that it gave itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from lchp.store.folder import StageFolder
from lchp.store.per_image import METHOD, PATH, SPLIT, box_iou, box_of
from lchp.training.config import TrialConfig
from lchp.vocabulary import AGREEMENT, CROP_CLS, LCHP_R, PSEUDO_LABEL, VAL

if TYPE_CHECKING:
    from torch import Tensor

    from lchp.training.material import Material


def stored_objective(key: str, folder: StageFolder) -> float | None:
    """A score ``<method>/val/<metric>`` as the files of a finished trial say it; None where they do not."""
    method, _, metric = key.split("/")
    return agreement(folder.per_image(), method) if metric == AGREEMENT else folder.scores().get(key)


def objective(key: str, config: TrialConfig, material: Material) -> float | None:
    """A score ``<method>/val/<metric>`` of a finished trial, measured where its files do not say it."""
    folder = StageFolder(material.trial_folder(config))
    method, _, metric = key.split("/")
    return crop_classification(config, material, method) if metric == CROP_CLS else stored_objective(key, folder)


def agreement(rows: Sequence[Mapping[str, str]], method: str) -> float | None:
    """The mean IoU in [0, 1] of a method's boxes with the pseudo boxes, over the val images among the rows of
    per_image.csv that have both; None where none has.

    >>> def row(method, *box):
    ...     return {PATH: "a.png", SPLIT: VAL, METHOD: method, **dict(zip(CORNERS, box))}
    >>> agreement([row(PSEUDO_LABEL, 0, 0, 4, 4), row(LCHP_R, 0, 0, 2, 4)], LCHP_R)
    0.5
    """
    boxes = {(row[METHOD], row[PATH]): box_of(row) for row in rows if row[SPLIT] == VAL}
    pairs = [(box, boxes.get((PSEUDO_LABEL, path))) for (of, path), box in boxes.items() if of == method]
    values = [box_iou(box, pseudo) for box, pseudo in pairs if pseudo is not None]
    return fmean(values) if values else None


def crop_classification(config: TrialConfig, material: Material, method: str) -> float:
    """The share of val images whose crop (paper 3.2) by the box of LCHP-I or LCHP-R gets its label from the network
    that judges crops in refinement; the trial is finished.
    """
    # torch takes seconds to import, and who judges by what is stored does without.
    from lchp.method.confidence import crop
    from lchp.store.placement import place
    from lchp.training.evaluation import Evaluator
    from lchp.training.initialization import trained_networks

    assert material.val is not None, "a search chooses on val"
    device, first = material.runtime.device, StageFolder(material.initialization_folder(config)).networks()
    networks = trained_networks(config, len(material.dataset.classes), first)
    if method == LCHP_R:
        networks.regressor.load_state_dict(StageFolder(material.trial_folder(config)).networks()["regressor"])
    for network in (networks.judge, networks.regressor):
        place(network, config.compute, device)
    evaluator = Evaluator(config, device, material.runtime.loader_workers)
    localize = evaluator.localizing(networks.regressor)

    def right(views: Tensor, labels: Tensor, places: Tensor) -> Tensor:
        logits: Tensor = networks.judge(crop(views, localize(views, labels, places))).logits
        return (logits.argmax(1) == labels).float().unsqueeze(1)

    return float(evaluator.views(material.val.source, right).mean())
