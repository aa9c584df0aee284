"""Measured tables, each computed once: kept as Parquet under the key of all that made it.

    <experiment>-<key>.parquet   the table
    <experiment>-<key>.json      its sidecar: hash, key parts, cost, provenance; written last

Where the key is known, no weights are loaded. A table counts only with a sidecar whose hash is
right: what was half-written or changed is computed again, and said so. While one process computes
a table, others that want it wait for it.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import resource
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from ovectors import catalogue, keys, locks, made_on, paths, reach, results
from ovectors.claims import Cost
from ovectors.errors import UserError
from ovectors.uses import TableUse, write_use

if TYPE_CHECKING:
    from ovectors.models import LanguageModel

FOLDER_VARIABLE = "OVECTORS_STORE"
# The sources as they were when this process began to import them, which it goes on using.
_LOADED = reach.sources_of(paths.PACKAGE)


class TableSidecar(BaseModel):
    """What is known of a kept table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[2] = 2
    experiment: str
    key: str
    parts: dict[str, Any]
    sha256: str
    rows: int
    seconds: float
    peak_memory_bytes: int
    provenance: dict[str, Any]
    environment: dict[str, Any]


class Store:
    """The tables of one model, on one device and in one dtype.

    The folder is the one that OVECTORS_STORE names, otherwise `results/<model>/store/` below the
    current folder.
    """

    def __init__(
        self, model: str, *, device: str = "auto", dtype: str = "auto", folder: Path | None = None
    ) -> None:
        self.name, self.device, self.dtype = model, device, dtype
        self.spec = catalogue.model_spec(model)
        self.folder = Path(folder or store_folder(self.spec.name))
        self._used: dict[str, TableSidecar] = {}

    @cached_property
    def model(self) -> LanguageModel:
        """The model, opened; its weights follow when an experiment first needs them."""
        from ovectors.in_memory import open_model

        return open_model(self.name, device=self.device, dtype=self.dtype)

    def table(self, experiment: Callable[..., pd.DataFrame], **settings: Any) -> pd.DataFrame:
        """The table of `experiment(model, **settings)`, from the store where it is known.

        `experiment` is a function of `ovectors.experiments`; `settings` are plain values (names,
        numbers, tuples of them), which belong to the key. What is computed is kept before it is
        returned, and read back, so that a table is the same whichever way it came.
        """
        name = _table_name(experiment)
        parts = self.key_parts(experiment, settings)
        key = keys.key_of(parts)
        path = table_path(self.folder, name, key)
        how, damage = "known", ""
        if (sidecar := read_sidecar(path)) is None:
            made_on.refuse_to_compute(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with locks.lock(path.with_suffix(".lock"), wait=True, about=name):
                if (sidecar := read_sidecar(path)) is None:
                    how, damage = "computed", damage_of(path)
                    sidecar = self._compute(experiment, settings, path, name=name, parts=parts)
        self._used[key] = sidecar
        self._tell(name, parts, how, damage)
        return pd.read_parquet(path)

    def _tell(self, name: str, parts: dict[str, Any], how: str, damage: str) -> None:
        """Write down the use of a table; where nobody reads that, warn of damage."""
        use = TableUse(
            name=name,
            function=parts["experiment"],
            settings=parts["settings"],
            device=self.device,
            dtype=self.dtype,
            key=keys.key_of(parts),
            how=how,
            damage=damage,
        )
        if not write_use(use) and damage:
            warnings.warn(f"{name}: {damage}; it was computed again", stacklevel=3)

    @property
    def provenance(self) -> dict[str, Any]:
        """What is on record of the model (`LanguageModel.provenance`), weights loaded or not."""
        for sidecar in self._used.values():
            return sidecar.provenance
        return results.plain(self.model.provenance)

    @property
    def cost(self) -> Cost:
        """What it took to compute every table asked for so far, whenever that was."""
        return Cost(
            seconds=round(sum(one.seconds for one in self._used.values()), 3),
            peak_memory_bytes=max(
                (one.peak_memory_bytes for one in self._used.values()), default=0
            ),
        )

    def key_parts(
        self, experiment: Callable[..., pd.DataFrame], settings: dict[str, Any]
    ) -> dict[str, Any]:
        """Everything that can change the table, part by part (`keys.table_parts`)."""
        return keys.table_parts(
            function_name(experiment),
            settings,
            self.spec,
            device=self.device,
            dtype=self.dtype,
            sources=foreign_sources(experiment),
        )

    def _compute(
        self,
        experiment: Callable[..., pd.DataFrame],
        settings: dict[str, Any],
        path: Path,
        *,
        name: str,
        parts: dict[str, Any],
    ) -> TableSidecar:
        """Run the experiment and keep its table, the sidecar last."""
        _refuse_edited(parts)
        began = time.monotonic()
        shown = {"progress": True} if _takes_progress(experiment) else {}
        table = experiment(self.model, **settings, **shown)
        seconds = time.monotonic() - began
        for file in (path, sidecar_path(path)):
            results.remove_unfinished(file)
        sidecar_path(path).unlink(missing_ok=True)  # it would vouch for what is about to change
        with results.atomic_path(path) as temporary:
            table.reset_index(drop=True).to_parquet(temporary, index=False)
        sidecar = TableSidecar(
            experiment=name,
            key=keys.key_of(parts),
            parts=parts,
            sha256=results.sha256_of(path),
            rows=len(table),
            seconds=round(seconds, 3),
            peak_memory_bytes=peak_memory(),
            provenance=results.plain(self.model.provenance),
            environment=results.environment(),
        )
        results.write_json(sidecar_path(path), sidecar.model_dump())
        return sidecar


def function_name(experiment: Callable[..., pd.DataFrame]) -> str:
    """Which function an experiment is, as `module:name`."""
    return f"{experiment.__module__}:{experiment.__qualname__}"


def foreign_sources(experiment: Callable[..., pd.DataFrame]) -> dict[str, str] | None:
    """None for an experiment of this package; for any other, hashes of what it is made of.

    For one of a file these are all Python files beside it. What is typed into a notebook or closes
    over values could depend on anything: its hash is one that no other has, so that it is never
    found again.
    """
    if experiment.__closure__ or experiment.__module__ == "__main__":
        return {function_name(experiment): uuid.uuid4().hex}
    if is_ours(experiment.__module__):
        return None
    beside = sorted(Path(inspect.getfile(experiment)).parent.glob("*.py"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in beside}


def is_ours(function: str) -> bool:
    """Whether a function, or a module, is of this package."""
    return function.split(".")[0] == paths.PACKAGE.name


def _refuse_edited(parts: Mapping[str, Any]) -> None:
    """UserError where the sources have changed since this process loaded them.

    It would compute with the old ones, and keep the table as made by the new ones.
    """
    if reach.sources_of(paths.PACKAGE) == _LOADED:
        return
    function = parts["experiment"] if is_ours(parts["experiment"]) else None
    then, now = (
        keys.reached_by(function, texts).hashes
        for texts in (_LOADED, reach.sources_of(paths.PACKAGE))
    )
    loaded = {name.partition(".")[2] for name in sys.modules if is_ours(name)}
    changed = keys.changed_parts(then, now)
    if changed := [one for one in changed if one.rpartition(".")[0] in loaded]:
        raise UserError(
            f"{changed[0]} of the library was changed after this session had loaded it: restart "
            "the kernel, so that it is the new one that computes"
        )


def store_folder(model: str) -> Path:
    """Where a model's tables are kept: the batch's folder, else `results/<model>/store/` here."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named)
    return Path.cwd() / "results" / results.folder_name(model) / "store"


def table_path(folder: Path, name: str, key: str) -> Path:
    """The file of a table, whether it is there or not."""
    return folder / f"{name}-{key[:16]}.parquet"


def sidecar_path(table: Path) -> Path:
    """The sidecar of a kept table."""
    return table.with_suffix(".json")


def read_sidecar(table: Path) -> TableSidecar | None:
    """The sidecar of a table that is whole; None where there is none or the table is not it."""
    try:
        sidecar = TableSidecar.model_validate_json(sidecar_path(table).read_bytes())
        return sidecar if results.sha256_of(table) == sidecar.sha256 else None
    except (OSError, ValidationError):
        return None


def damage_of(table: Path) -> str:
    """What is wrong with a kept table that does not count; empty where it was never finished."""
    if not sidecar_path(table).exists():
        return ""
    try:
        TableSidecar.model_validate_json(sidecar_path(table).read_bytes())
    except (OSError, ValidationError):
        return "its sidecar cannot be read"
    return "its table is not the one that was kept" if table.exists() else "its table is gone"


def peak_memory() -> int:
    """The most memory that this process has held so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def _takes_progress(experiment: Callable[..., pd.DataFrame]) -> bool:
    return "progress" in inspect.signature(experiment).parameters


def _table_name(experiment: Callable) -> str:
    """`linear_update-switches-switches`: the question's folder, the module, the function."""
    inside = experiment.__module__.split(".")[1:] or [experiment.__module__]
    parts = [part for part in inside if part not in ("experiments", "measure")]
    return "-".join([*parts, experiment.__name__])
