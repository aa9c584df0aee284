"""The explorer's data as files: scripts, which a page opened from a folder may load too.

    book/explorer/<model>/<task>.js   `ovectorsExplorer.add({...})`

Beside the data stands what they were made from. Data of a model whose weights have changed are not
shown.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovectors import catalogue, keys, paths, results, runs
from ovectors.errors import UserError
from ovectors.relations import MORE_RELATIONS, RELATIONS

if TYPE_CHECKING:
    from ovectors.catalogue import ModelSpec

BEFORE, AFTER = "ovectorsExplorer.add(", ");\n"
EXPERIMENT = "ovectors.explorer.data:explore"
SHOWN_IN = "explorer"  # the folder of the built book


def folder() -> Path:
    """Where the data of all models are."""
    return paths.BOOK / "explorer"


def write(
    name: str,
    *,
    tasks: Sequence[str] = (),
    n_items: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    seed: int = 0,
    report: Callable[[str], None] = print,
) -> list[Path]:
    """Compute the explorer's data of a model, task by task; what is current is left alone.

    UserError for an unknown model or task. A file appears whole or not at all.
    """
    from ovectors.explorer import data
    from ovectors.models import load_model

    tasks = tuple(tasks) or data.TASKS
    if unknown := [task for task in tasks if task not in (*RELATIONS, *MORE_RELATIONS)]:
        known = ", ".join((*RELATIONS, *MORE_RELATIONS))
        raise UserError(f"unknown task {unknown[0]!r}: it is one of {known}")
    spec = catalogue.model_spec(name)
    settings = {"n_items": n_items or data.N_ITEMS, "seed": seed}
    written, model = [], None
    for task in tasks:
        asked, on = {"relation": task, **settings}, {"device": device, "dtype": dtype}
        key = keys.key_of(keys.table_parts(EXPERIMENT, asked, spec, **on))[:16]
        path = folder() / runs.folder_of(spec) / f"{task}.js"
        if path.is_file() and read(path).get("made", {}).get("key") == key:
            report(f"{spec.name}, {task}: current")
            continue
        model = model or load_model(name, **on)
        found = data.explore(model, **asked, progress=True)
        found["made"] = {"key": key, "identity": identity(spec), **_made(model)}
        path.parent.mkdir(parents=True, exist_ok=True)
        with results.atomic_path(path) as temporary:
            temporary.write_text(f"{BEFORE}{data.as_json(found)}{AFTER}", "utf-8")
        size = path.stat().st_size / 1000
        report(f"{spec.name}, {task}: {len(found['items'])} items, {size:.0f} kB")
        written.append(path)
    return written


def _made(model: Any) -> dict[str, Any]:
    state = results.git_state()
    return {
        "dtype": str(model.provenance["dtype"]),
        "commit": state["commit"],
        "dirty": state["dirty"],
        "versions": {name: results.versions().get(name) for name in ("torch", "transformers")},
    }


def identity(spec: ModelSpec) -> str:
    """Which weights a model means, in short."""
    return keys.key_of(keys.model_identity(spec))[:16]


def read(path: Path) -> dict[str, Any]:
    """The data of one file; UserError where it is none of ours."""
    text = path.read_text("utf-8")
    if not (text.startswith(BEFORE) and text.endswith(AFTER)):
        raise UserError(f"{path} is no data of the explorer: remove it, or make it again")
    try:
        return json.loads(text[len(BEFORE) : -len(AFTER)])
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is broken ({error.msg}): make it again") from None


def shown() -> tuple[list[dict[str, Any]], list[str]]:
    """What the book shows, a row a file, and one line for each model that it leaves out.

    A row: model, task, title, file (below the explorer's folder), path. A model that is a folder of
    the project has to have the weights that the data were made from.
    """
    rows, left_out = [], []
    found_in = {path: read(path) for path in sorted(folder().glob("*/*.js"))}
    order = catalogue.by_size(found["model"] for found in found_in.values())
    for path, found in sorted(found_in.items(), key=lambda one: order.index(one[1]["model"])):
        spec = catalogue.catalogue().get(found["model"])
        changed = (
            spec is not None
            and spec.folder is not None
            and catalogue.is_here(spec)
            and found.get("made", {}).get("identity") != identity(spec)
        )
        if changed:
            said = f"`{spec.name}`: made from other weights; `ovectors explore {spec.name}`"
            left_out += [] if said in left_out else [said]
            continue
        file = path.relative_to(folder()).as_posix()
        row = {"model": found["model"], "task": found["task"], "title": found["title"]}
        rows.append({**row, "file": file, "path": path})
    return rows, left_out


def put(target: Path) -> str:
    """Copy what is shown into the folder that the book's root is made from, with a list of it.

    Returns Markdown on what there is.
    """
    from ovectors.explorer.data import as_json

    rows, left_out = shown()
    place = target / SHOWN_IN
    for row in rows:
        (place / row["file"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(row["path"], place / row["file"])
    listed = [{name: value for name, value in row.items() if name != "path"} for row in rows]
    place.mkdir(parents=True, exist_ok=True)
    (place / "index.js").write_text(f"ovectorsExplorer.list({as_json(listed)});\n", "utf-8")
    models = [f"`{name}`" for name in dict.fromkeys(row["model"] for row in rows)]
    said = f"There are data of {', '.join(models)}." if models else "There are no data yet."
    return "\n".join([said, *(f"- Left out: {line}" for line in left_out)])
