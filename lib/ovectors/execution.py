"""Executing one chapter through papermill, and finding out whether it really ran to its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat

from ovectors import paths, results, store
from ovectors.errors import UserError
from ovectors.notebooks import Chapter, default_parameters

if TYPE_CHECKING:
    from ovectors.kernel import KernelSlot, PrivateKernel

INJECTED_TAG = "injected-parameters"


class ChapterFailed(Exception):
    """A run that gave no result: the reason in one line, and the notebook as far as it came.

    `by_user` means that the chapter itself refused its input (it raised a UserError).
    """

    def __init__(
        self, reason: str, notebook: nbformat.NotebookNode | None = None, *, by_user: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason, self.notebook, self.by_user = reason, notebook, by_user


@dataclass(frozen=True, kw_only=True)
class Execution:
    """A notebook whose every cell ran without an error, and what that took (seconds, bytes)."""

    notebook: nbformat.NotebookNode
    started: datetime
    seconds: float
    peak_memory: int


def told_where(*, output: Path, tables: Path) -> dict[str, str]:
    """The variables that tell a chapter where to save its results and where tables are kept."""
    return {results.OUTPUT_VARIABLE: str(output), store.FOLDER_VARIABLE: str(tables)}


def execute(
    chapter: Chapter,
    parameters: Mapping[str, Any],
    *,
    output: Path,
    environment: Mapping[str, str],
    slot: KernelSlot,
    on_cell: Callable[[int, int], None] | None = None,
) -> Execution:
    """Execute a chapter in the slot's kernel, made new for it, writing to `output` while it goes.

    `environment` is added to the kernel's; `on_cell` gets how many cells are done, and of how many.
    Raises ChapterFailed when a cell raised or did not run, or the kernel died: the slot has no
    kernel then, since nobody knows in which state such a chapter has left model and libraries.
    """
    started, began = datetime.now(UTC), time.monotonic()
    try:
        notebook, peak = _in_new_kernel_if_need_be(
            chapter, parameters, output=output, environment=environment, slot=slot, on_cell=on_cell
        )
        _check_every_cell(notebook)
    except BaseException:
        slot.close()
        raise
    seconds = time.monotonic() - began
    _tidy(notebook, chapter)
    return Execution(notebook=notebook, started=started, seconds=seconds, peak_memory=peak)


_PREPARATION = "__import__('ovectors.fresh').fresh.begin({environment!r}, model={model!r})"


def _in_new_kernel_if_need_be(
    chapter: Chapter,
    parameters: Mapping[str, Any],
    *,
    environment: Mapping[str, str],
    slot: KernelSlot,
    **how: Any,
) -> tuple[nbformat.NotebookNode, int]:
    """The executed notebook and the kernel's peak memory; a kernel that an earlier chapter has left
    in a state that cannot be mended is replaced."""
    from ovectors.kernel import NotReady

    # What an interpreter is started with; every chapter gets the same.
    interpreter = {"OVECTORS_ROOT": str(paths.ROOT), "PYTHONHASHSEED": "0"}
    model = "" if chapter.across else str(parameters.get("model", ""))
    how["preparation"] = _PREPARATION.format(environment=dict(environment), model=model)
    while True:
        kernel = slot.get(interpreter)
        used_before = kernel.started
        try:
            return _papermill(chapter, parameters, kernel=kernel, **how), kernel.peak_memory
        except NotReady as why:
            slot.close()
            if not used_before:
                raise ChapterFailed(f"the kernel could not be started: {why}") from None


def _papermill(
    chapter: Chapter,
    parameters: Mapping[str, Any],
    *,
    output: Path,
    kernel: PrivateKernel,
    preparation: str,
    on_cell: Callable[[int, int], None] | None,
) -> nbformat.NotebookNode:
    """The executed notebook; ChapterFailed when a cell raised or the kernel died."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    from ovectors.kernel import ENGINE, in_place

    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        return papermill.execute_notebook(
            in_place(chapter.path),
            in_place(output),
            parameters=_differing(chapter, parameters),
            engine_name=ENGINE,
            kernel=kernel,
            preparation=preparation,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            on_cell=on_cell,
        )
    except papermill.PapermillExecutionError as error:
        notebook = _without_banners(nbformat.read(output, as_version=4))
        where = f" (in code cell {_number(notebook, _first_error(notebook))})"
        by_user = error.ename == UserError.__name__
        said = " ".join(str(error.evalue).split())
        reason = said if by_user else _plainly(error.ename, said) + where
        raise ChapterFailed(reason, notebook, by_user=by_user) from None
    except (DeadKernelError, RuntimeError) as error:
        notebook = nbformat.read(output, as_version=4) if output.exists() else None
        why = kernel.cause_of_death() if isinstance(error, DeadKernelError) else str(error)
        where = f" in code cell {_number(notebook, _last_started(notebook))}" if notebook else ""
        raise ChapterFailed(f"the kernel died{where}: {why}", notebook) from None


# What Python, torch on a CPU and torch on a GPU say when there is no memory left.
_NO_MEMORY = ("MemoryError", "can't allocate memory", "OutOfMemoryError", "Cannot allocate memory")


def _plainly(kind: str, said: str) -> str:
    """An error in one line; what else it says of a lack of memory is for the notebook to show."""
    if any(sign in f"{kind}: {said}" for sign in _NO_MEMORY):
        return "out of memory: a smaller model, fewer items or another dtype needs less"
    return f"{kind}: {said}".removesuffix(": ")


def _differing(chapter: Chapter, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters to inject: the model, and what differs from the chapter's own defaults."""
    defaults = default_parameters(chapter)
    return {k: v for k, v in parameters.items() if k == "model" or v != defaults[k]}


def _check_every_cell(notebook: nbformat.NotebookNode) -> None:
    """ChapterFailed unless every code cell ran without an error.

    Papermill takes `sys.exit(0)` in a cell for success, though the cells after it never ran.
    """
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        errors = [out for out in cell.outputs if out.output_type == "error"]
        if errors:
            said = f"{errors[0].ename}: {errors[0].evalue}".rstrip(": ")
            raise ChapterFailed(f"{said} (in code cell {_number(notebook, index)})", notebook)
        if cell.source.strip() and cell.execution_count is None:
            raise ChapterFailed(f"code cell {_number(notebook, index)} never ran", notebook)


def _number(notebook: nbformat.NotebookNode, index: int) -> int:
    """The number of a code cell in the chapter's source: from 1, injected parameters left out."""
    cells = notebook.cells[: index + 1]
    return sum(
        cell.cell_type == "code" and INJECTED_TAG not in cell.metadata.get("tags", [])
        for cell in cells
    )


def _first_error(notebook: nbformat.NotebookNode) -> int:
    failed = [
        index
        for index, cell in enumerate(notebook.cells)
        if any(out.output_type == "error" for out in cell.get("outputs", []))
    ]
    return failed[0] if failed else len(notebook.cells) - 1


def _last_started(notebook: nbformat.NotebookNode) -> int:
    started = [
        index
        for index, cell in enumerate(notebook.cells)
        if cell.metadata.get("papermill", {}).get("start_time")
    ]
    return started[-1] if started else 0


def _without_banners(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without papermill's own error cells: ours says the same in one place."""
    from papermill.execute import remove_error_markers

    return remove_error_markers(notebook)


def _tidy(notebook: nbformat.NotebookNode, chapter: Chapter) -> None:
    """Take temporary and machine paths out of the metadata, and fold the injected cell away."""
    notebook.metadata.papermill.pop("output_path", None)
    notebook.metadata.papermill["input_path"] = f"chapters/{chapter.path.name}"
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if INJECTED_TAG in tags:
            cell.metadata["tags"] = [*tags, "hide-input"]
