"""A chapter run once on a few items, as the tests of studies do it."""

from __future__ import annotations

from pathlib import Path

from ovectors import notebooks, results, store
from ovectors.claims import Claim
from ovectors.execution import execute


def claims_of(name: str, *, model: Path | str, folder: Path, n_items: int = 12) -> dict[str, Claim]:
    """The claims, by id, that a chapter leaves on a model; ChapterFailed where it does not end."""
    (chapter,) = notebooks.choose_chapters([name])
    given = {"model": str(model), "n_items": n_items}
    environment = {
        results.OUTPUT_VARIABLE: str(folder / "results"),
        store.FOLDER_VARIABLE: str(folder / "store"),
    }
    parameters = notebooks.check_parameters(chapter, given)
    execute(chapter, parameters, output=folder / "run.ipynb", environment=environment)
    saved = results.read_manifest(folder / "results")
    assert saved.chapter == name
    files = [folder / "results" / one.file for one in saved.files if one.kind == "claim"]
    found = [Claim.model_validate_json(file.read_bytes()) for file in files]
    return {claim.id: claim for claim in found}
