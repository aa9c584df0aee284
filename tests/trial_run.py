"""A chapter run once on a few items, and a project as it is without anybody's studies."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

from ovectors import notebooks, results, studies
from ovectors.claims import Claim
from ovectors.execution import execute, told_where
from ovectors.kernel import KernelSlot

REPOSITORY = Path(__file__).resolve().parents[1]


def claims_of(name: str, *, model: Path | str, folder: Path, n_items: int = 12) -> dict[str, Claim]:
    """The claims, by id, that a chapter leaves on a model; ChapterFailed where it does not end."""
    (chapter,) = notebooks.choose_chapters([name])
    given = {"model": str(model), "n_items": n_items}
    environment = told_where(output=folder / "results", tables=folder / "store")
    parameters = notebooks.check_parameters(chapter, given)
    with closing(KernelSlot()) as slot:
        output = folder / "run.ipynb"
        execute(chapter, parameters, output=output, environment=environment, slot=slot)
    saved = results.read_manifest(folder / "results")
    assert saved.chapter == name
    files = [folder / "results" / one.file for one in saved.files if one.kind == "claim"]
    found = [Claim.model_validate_json(file.read_bytes()) for file in files]
    return {claim.id: claim for claim in found}


def copy_without_studies(project: Path) -> Path:
    """A new folder with the chapters and what else a fork touches, as they are without any fork."""
    shutil.copytree(REPOSITORY / "chapters", project / "chapters")
    (project / "tests").mkdir()
    (project / "book").mkdir()
    for name in ("pyproject.toml", "_toc.yml"):
        shutil.copy(REPOSITORY / name, project / name)
    remove_studies(project)
    return project


def remove_studies(project: Path) -> None:
    """Undo every fork in a copy of the project, so that the next one is chapter 8."""
    for rules in project.glob(f"chapters/*/{studies.RULES_FILE}"):
        name, toc = rules.parent.name, project / "_toc.yml"
        shutil.rmtree(rules.parent)
        rules.parent.with_suffix(".ipynb").unlink()
        (project / "tests" / f"test_{name[3:]}.py").unlink(missing_ok=True)
        lines = toc.read_text("utf-8").splitlines(keepends=True)
        toc.write_text("".join(one for one in lines if f"/{name}" not in one), "utf-8")
