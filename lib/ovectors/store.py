"""Measured tables, each computed once: kept as Parquet under the key of all that made it.

    <experiment>-<key>.parquet   the table
    <experiment>-<key>.json      its sidecar: hash, key parts, cost, provenance; written last

Where the key is known, no weights are loaded. A table counts only with a sidecar whose hash is
right: what was half-written or changed is computed again.
"""

from __future__ import annotations

import inspect
import os
import resource
import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from ovectors import catalogue, keys, results
from ovectors.claims import Cost

if TYPE_CHECKING:
    from ovectors.models import LanguageModel

FOLDER_VARIABLE = "OVECTORS_STORE"


class TableSidecar(BaseModel):
    """What is known of a kept table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = 1
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
        from ovectors.models import load_model

        return load_model(self.name, device=self.device, dtype=self.dtype)

    def table(self, experiment: Callable[..., pd.DataFrame], **settings: Any) -> pd.DataFrame:
        """The table of `experiment(model, **settings)`, from the store where it is known.

        `experiment` is a function of `ovectors.experiments`; `settings` are plain values (names,
        numbers, tuples of them), which belong to the key. What is computed is kept before it is
        returned, and read back, so that a table is the same whichever way it came.
        """
        name = f"{experiment.__module__.rpartition('.')[2]}-{experiment.__name__}"
        parts = self.key_parts(experiment, settings)
        key = keys.key_of(parts)
        path = self.folder / f"{name}-{key[:16]}.parquet"
        if read_sidecar(path) is None:
            began = time.monotonic()
            shown = {"progress": True} if _takes_progress(experiment) else {}
            table = experiment(self.model, **settings, **shown)
            self._keep(path, table, name, key, parts, seconds=time.monotonic() - began)
        if (sidecar := read_sidecar(path)) is not None:
            self._used[sidecar.key] = sidecar
        return pd.read_parquet(path)

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
        """Everything that can change the table, part by part, as for a chapter's run."""
        return {
            "experiment": f"{experiment.__module__}.{experiment.__name__}",
            "settings": results.plain(settings),
            "library": keys.library_hash([f"import {experiment.__module__}"]),
            "data": keys.data_hash(),
            "model": keys.model_identity(self.spec),
            "dtype": self.dtype,
            "device": keys.device_class(self.device),
            "versions": results.versions(),
        }

    def _keep(
        self,
        path: Path,
        table: pd.DataFrame,
        name: str,
        key: str,
        parts: dict[str, Any],
        *,
        seconds: float,
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        sidecar_path(path).unlink(missing_ok=True)  # it would vouch for what is about to change
        with results.atomic_path(path) as temporary:
            table.reset_index(drop=True).to_parquet(temporary, index=False)
        sidecar = TableSidecar(
            experiment=name,
            key=key,
            parts=parts,
            sha256=results.sha256_of(path),
            rows=len(table),
            seconds=round(seconds, 3),
            peak_memory_bytes=peak_memory(),
            provenance=results.plain(self.model.provenance),
            environment=results.environment(),
        )
        results.write_json(sidecar_path(path), sidecar.model_dump())


def store_folder(model: str) -> Path:
    """Where a model's tables are kept: the batch's folder, else `results/<model>/store/` here."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named)
    return Path.cwd() / "results" / results.folder_name(model) / "store"


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


def peak_memory() -> int:
    """The most memory that this process has held so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def _takes_progress(experiment: Callable[..., pd.DataFrame]) -> bool:
    return "progress" in inspect.signature(experiment).parameters
