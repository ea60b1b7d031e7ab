"""The unit of every key, and where its default comes from: what a field of a configuration says in its description's
words alone.
"""

from __future__ import annotations

from pydantic import BaseModel

from lchp.data.config import SplitConfig, SyntheticDataset, ViewConfig
from lchp.study.spec.schema import Failures, Resources, StudyKeys, Table
from lchp.study.spec.search import Objective, Pruner, Search, Stop
from lchp.training.box_config import PseudoBoxConfig
from lchp.training.config import ComputeConfig, ConfidenceConfig, EvaluationConfig, TrialConfig
from lchp.training.network_config import RegressorConfig, WeightsConfig
from lchp.training.stage_config import DescentConfig, InitializationConfig, OptimizerConfig, RefinementConfig
from lchp.vocabulary import GT_KNOWN, METRICS

ORIGINS: dict[type[BaseModel], dict[str, tuple[str, str]]] = {
    SyntheticDataset: {
        "train_per_class": ("images", "own choice"),
        "test_per_class": ("images", "own choice"),
        "size": ("pixels", "own choice"),
        "seed": ("seed", "own choice"),
    },
    SplitConfig: {
        "val_per_class": ("images", "own choice; the paper holds none out"),
        "seed": ("seed", "own choice"),
    },
    ViewConfig: {
        "resize": ("pixels", "paper 4.3"),
        "crop": ("pixels", "paper 4.3"),
        "flip": ("probability", "paper 4.3"),
        "evaluation": ("", "method notes 18"),
    },
    WeightsConfig: {
        "classifier": ("", "paper 4.3"),
        "regressor": ("", "method notes 19; paper 4.3"),
    },
    RegressorConfig: {
        "head": ("", "paper 3.1; method notes 23"),
        "maps": ("", "paper 3.1; method notes 23"),
        "omit": ("blocks", "paper 3.1; method notes 23"),
        "frozen": ("", "paper 3.1; method notes 23"),
    },
    PseudoBoxConfig: {
        "source": ("", "Algorithm 1"),
        "normalization": ("", "method notes 1"),
        "maps": ("", "method notes 2"),
        "component": ("", "method notes 4"),
        "enlargement": ("", "method notes 3"),
        "mirror": ("", "Algorithm 1 has none"),
        "size": ("pixels", "DDT, Wei et al. 2019"),
        "further_sizes": ("pixels", "own choice"),
        "weights": ("", "own choice"),
        "network": ("", "own choice"),
        "omit": ("blocks", "DDT, Wei et al. 2019: none"),
        "axis": ("", "PSOL, Zhang et al. 2020"),
        "axes": ("axes", "PSOL, Zhang et al. 2020"),
        "descriptors": ("", "DDT, Wei et al. 2019"),
        "threshold": ("share", "DDT, Wei et al. 2019"),
        "transformer": ("", "LOST, Simeoni et al. 2021; TokenCut, Wang et al. 2022"),
        "similarity": ("cosine", "TokenCut, Wang et al. 2022"),
        "patches": ("patches", "LOST, Simeoni et al. 2021"),
    },
    ConfidenceConfig: {
        "score": ("", "paper 3.2; method notes 21"),
        "keep": ("share", "Eq. 6 has none; method notes 21"),
        "shrink": ("share", "own choice"),
        "folds": ("folds", "own choice"),
    },
    OptimizerConfig: {
        "momentum": ("factor", "paper 4.3"),
        "weight_decay": ("factor", "paper 4.3"),
    },
    DescentConfig: {
        "report": ("", "method notes 16"),
        "average_momentum": ("factor", "own choice"),
        "schedule": ("", "paper 4.3; method notes 15"),
        "warmup": ("steps", "paper 4.3; method notes 15"),
        "clip": ("norm", "paper 4.3; method notes 15"),
        "augmented_share": ("probability", "paper 4.3; method notes 24"),
    },
    InitializationConfig: {
        "epochs": ("epochs", "paper 4.3"),
        "batch_size": ("images", "paper 4.3"),
        "classifier_rate": ("rate", "paper 4.3"),
        "classifier_decay": ("factor", "paper 4.3"),
        "regressor_rate": ("rate", "paper 4.3"),
        "regressor_start": ("epochs", "paper 3.1"),
        "classifier_epochs": ("epochs", "paper 3.1"),
        "attention_maps": ("maps", "paper 4.3"),
        "bap_scale": ("factor", "WS-DAN; method notes 8"),
        "augmentation": ("", "paper 3.1"),
    },
    RefinementConfig: {
        "epochs": ("epochs", "paper 4.3"),
        "batch_size": ("images", "paper 4.3"),
        "rate": ("rate", "paper 4.3"),
        "alpha": ("factor", "Eq. 6; method notes 11"),
        "teacher": ("", "Eq. 4; method notes 9"),
        "weak_statistics": ("", "method notes 9"),
        "teacher_momentum": ("factor", "method notes 9"),
        "backend": ("", "paper 4.3; method notes 20"),
        "rejected": ("", "Eq. 6; method notes 12"),
    },
    EvaluationConfig: {
        "batch_size": ("images", "own choice"),
        "every": ("epochs", "own choice"),
    },
    ComputeConfig: {
        "precision": ("", "own choice"),
        "maps_precision": ("", "own choice"),
        "channels_last": ("", "own choice"),
        "onednn": ("", "own choice"),
        "compile": ("", "own choice"),
        "cpu_threads": ("threads", "own choice"),
        "deterministic": ("", "own choice"),
    },
    TrialConfig: {
        "seed": ("seed", "own choice"),
        "delta": ("share", "Algorithm 1; Table 3"),
        "tau": ("probability", "Eq. 6; Table 4"),
        "alpha": ("factor", "Eq. 3; paper 4.3"),
        "beta": ("factor", "Eq. 7; paper 4.3"),
        "augmentation": ("", "paper 3.2; Table 6"),
        "backbone": ("", "Table 5"),
        "classifier": ("", "paper 4.3"),
        "box_format": ("", "method notes 13"),
        "classes_from": ("", "Eq. 7; method notes 22"),
    },
    Objective: {
        "method": ("", "own choice"),
        "metric": ("", "own choice"),
    },
    Pruner: {
        "kind": ("", "Li et al. 2020"),
        "grace": ("epochs", "own choice"),
        "reduction": ("factor", "Optuna's is 4"),
        "startup": ("suggestions", "Optuna's"),
    },
    Stop: {
        "hours": ("hours", "own choice"),
        "gpu_hours": ("hours of one GPU", "own choice"),
        "patience": ("suggestions", "own choice"),
    },
    Search: {
        "trials": ("suggestions", ""),
        "sampler": ("", "Optuna's"),
        "seed": ("seed", "own choice"),
        "first": ("", "own choice"),
        "grid": ("", "own choice"),
        "warm_start": ("", "own choice"),
        "group": ("suggestions", "own choice"),
        "cost": ("", "own choice"),
        "pruner": ("", "own choice"),
    },
    Table: {
        "name": ("", "own choice"),
        "by": ("", "own choice"),
        "metrics": ("", f"paper 4.2: {METRICS[GT_KNOWN].title}"),
        "split": ("", "own choice"),
        "fixed": ("", "own choice"),
        "paper": ("", "Tables 1 to 6"),
    },
    Resources: {
        "cpus": ("cores", "own choice"),
        "gpus": ("GPUs", "own choice"),
        "concurrent": ("trials", "own choice"),
        "time_limit": ("hours", "own choice"),
    },
    Failures: {
        "retries": ("times", "own choice"),
        "stop_after": ("trials", "own choice"),
        "silent": ("minutes", "own choice"),
    },
    StudyKeys: {
        "preset": ("", "own choice"),
        "vary": ("", "own choice"),
        "search": ("", "own choice"),
        "seeds": ("seeds", "own choice"),
        "references": ("", "own choice"),
        "claims": ("", "own choice"),
        "tables": ("", "own choice"),
    },
}
"""Model to field to its unit (of numbers; empty elsewhere) and the source of its default (empty where it has none).
A field that a model inherits stands under the one that declares it.
"""


def unit_and_source(model: type[BaseModel], field: str) -> tuple[str, str]:
    """The unit of a field, and where its default comes from."""
    return next((ORIGINS[one][field] for one in model.__mro__ if field in ORIGINS.get(one, {})), ("", ""))
