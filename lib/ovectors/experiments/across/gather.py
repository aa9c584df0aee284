"""What every chapter left on the models: the runs and committed claims that are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ovectors import comparison, results, runs
from ovectors.catalogue import model_spec
from ovectors.comparison import Finding


def collect(model: str = "all") -> list[Finding]:
    """What every chapter left on the models: "all", or names separated by commas.

    Runs of the batch count, runs by hand in `results/` of the current folder, and what was
    committed; see `comparison.gather`. UserError for a name that can be no model.
    """
    found = _distinct(comparison.gather(comparison.by_hand_folder()))
    if model == runs.ALL:
        return found
    names = [name.strip() for name in model.split(",") if name.strip()]
    folders = {runs.folder_of(model_spec(name)) for name in names}
    folders |= {results.folder_name(name) for name in names}
    return [one for one in found if one.model in folders]


def _distinct(findings: Sequence[Finding]) -> list[Finding]:
    """Models of one name, folders of a user's, are told apart by the names of their run folders."""
    folders: dict[str, set[str]] = {}
    for one in findings:
        folders.setdefault(one.name, set()).add(one.model)
    return [replace(one, name=one.model) if len(folders[one.name]) > 1 else one for one in findings]
