"""The data of a study's trials, and what of their stages is finished, by their places in the store."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

from lchp.data.config import DatasetConfig
from lchp.data.opened import ReadDataset
from lchp.errors import refusing
from lchp.store.datasets import keep_classes, keep_list
from lchp.store.exchange import arrives
from lchp.store.folder import StageFolder
from lchp.store.shared import SharedFolder, StoreAway
from lchp.training.config import ComputeConfig, TrialConfig
from lchp.training.environment import slow_precision
from lchp.training.material import Material, Runtime


class Materials:
    """The data of trials. A dataset's files are read once, whatever splits, weights and views trials make of it."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.prepared: dict[Hashable, Material] = {}
        self._computes: set[ComputeConfig] = set()
        self._read = cache(partial(ReadDataset.read, cache=runtime.cache))
        self._split = cache(lambda dataset, split: self._read(dataset).split(split))
        self._shared: set[str] = set()
        """The places of stages that are here and in the shared store."""
        self._leaves = True
        """Whether the shared store takes what is finished here."""

    def of(self, config: TrialConfig) -> Material:
        """The data of one configuration.

        Raises:
            Refusal: what is missing or wrong, by name.
        """
        self._computes.add(config.compute)
        key = Material.key(config)
        if key not in self.prepared:
            with refusing():
                data = self._split(config.dataset, config.split)
                self.prepared[key] = Material.of(data, config, self.runtime)
        return self.prepared[key].serving(config, self.runtime)

    def by_dataset(self) -> dict[DatasetConfig, dict[Hashable, Material]]:
        """What was prepared, by :meth:`Material.key`, in parts that have a dataset in common: a part that is pickled
        holds it once.
        """
        parts: dict[DatasetConfig, dict[Hashable, Material]] = {}
        for key, material in self.prepared.items():
            parts.setdefault(material.config.dataset, {})[key] = material
        return parts

    @property
    def findings(self) -> list[str]:
        """What people should know before they wait for a score or trust it, one line each: of the data, and of a
        precision that is slow here.
        """
        slow = (slow_precision(compute, self.runtime.device) for compute in self._computes)
        of_data = (line for material in self.prepared.values() for line in material.data.findings)
        return list(dict.fromkeys([*of_data, *filter(None, slow)]))

    def lists(self) -> list[Path]:
        """The lists of the images of every dataset, which are written into the store where they are missing, and the
        names of their classes with them.
        """
        for material in self.prepared.values():
            keep_classes(self.runtime.store, material.digest.total, material.dataset.classes)
        digests = {material.digest.total: material.digest for material in self.prepared.values()}
        return [keep_list(self.runtime.store, digest) for digest in digests.values()]

    def folder(self, config: TrialConfig) -> str:
        """The trial's folder in the store, relative to it."""
        return self.of(config).trial_folder(config).relative_to(self.runtime.store).as_posix()

    def initialization(self, config: TrialConfig) -> str:
        """The folder of the trial's initialization in the store, relative to it."""
        return self.of(config).initialization_folder(config).relative_to(self.runtime.store).as_posix()

    def has(self, place: str, say: Callable[[str], None]) -> bool:
        """Whether the stage at this place of the store is done and whole; what another machine has left of it is
        brought, and what is finished here is left for them: it may have been before they shared a store. StoreAway
        where it is not here and the shared store cannot tell.
        """
        path = self.runtime.store / place
        stage = StageFolder(path, SharedFolder(self.runtime.shared, place) if self.runtime.shared else None)
        if stage.shared is None or place in self._shared or (stage.whole and not self._leaves):
            return stage.whole
        try:
            # A worker of this machine may be at it.
            with suppress(BlockingIOError), stage.lock(wait=False):
                if arrives(stage, say):
                    self._shared.add(place)
        except StoreAway as error:
            if not stage.whole:
                raise
            self._keep(error, say)
        return stage.whole

    def offer(self, config: TrialConfig, say: Callable[[str], None]) -> None:
        """Leave what is finished here of a trial's stages, and where longer ones go on from, as :meth:`has` does."""
        if not self.runtime.shared:
            return
        for folder in self.stages(config):
            if StageFolder(folder).whole:
                self.has(folder.relative_to(self.runtime.store).as_posix(), say)
        material = self.of(config)
        try:
            if self._leaves:
                material.initialization_course(config).offer(config.initialization.epochs)
                material.trial_course(config).offer(config.refinement.epochs)
        except StoreAway as error:
            self._keep(error, say)

    def _keep(self, error: StoreAway, say: Callable[[str], None]) -> None:
        """The shared store takes nothing now: what is finished here need not wait for it."""
        self._leaves = False
        say(f"{error}: what is finished here is left there when the command is run again")

    def stages(self, config: TrialConfig) -> dict[Path, Path]:
        """The folders of the stages that the trial trains or finds done, each with that of its course; others may share
        all but the last, its own.
        """
        material = self.of(config)
        stages = {material.initialization_folder(config): material.initialization_course(config).path}
        if config.confidence.out_of_fold:
            judges = material.out_of_fold_folder(config)
            stages[judges] = judges
        return {**stages, material.trial_folder(config): material.trial_course(config).path}

    def reference(self, config: TrialConfig, method: str) -> str:
        """The folder of a reference for the trial in the store, relative to it."""
        return self.of(config).reference_folder(config, method).relative_to(self.runtime.store).as_posix()
