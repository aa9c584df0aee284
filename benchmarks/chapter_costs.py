"""What each chapter computes and holds, counted while it runs: plans for larger models rest on it.

    .venv/bin/python -m benchmarks.chapter_costs             # half an hour on one core
    .venv/bin/python -m benchmarks.chapter_costs --n-items 6 --few 6 --depths 1 --shown   # quick
    .venv/bin/python -m benchmarks.chapter_costs --keep-depths    # all items alone, once more

Writes `benchmarks/chapter_costs.json`. Every chapter is run on the miniature twice over: with a few
items at several depths (`idle.stretched`), to see how its work grows with the number of layers, and
with all items. `ovectors.costing` reads the file.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers

from benchmarks import flops, idle
from benchmarks.counting import Counts, counting
from benchmarks.in_process import run_chapter
from ovectors import keys, notebooks, results, store
from ovectors.models import load_model

MODEL = "mini-2m"
OUTPUT = Path(__file__).with_name("chapter_costs.json")
FEW, DEPTHS = 12, (1, 2, 3)
"""Items of each task, and how many times as deep, where growth with depth is measured."""


@dataclass(kw_only=True)
class Counted:
    """What one model's tables took, and which of them each chapter asked for.

    Attributes:
        tables: by the name of their file.
        asked: the tables of each chapter; items: of each chapter, relation and item.
    """

    tables: dict[str, Counts] = field(default_factory=dict)
    asked: dict[str, set[str]] = field(default_factory=dict)
    items: dict[str, set[tuple[str, str]]] = field(default_factory=dict)

    def chapters(self) -> dict[str, dict[str, int]]:
        """Counts and items by chapter, as if it were run alone; `all`: every table once."""
        told = {
            chapter: asdict(sum((self.tables[name] for name in names), Counts()))
            | {"items": len(self.items[chapter])}
            for chapter, names in self.asked.items()
        }
        every = set().union(*self.items.values())
        told["all"] = asdict(sum(self.tables.values(), Counts())) | {"items": len(every)}
        return told


def count(model: str, *, n_items: int) -> Counted:
    """Run every chapter that has a model of its own, and count what its tables take."""
    found = Counted()
    given = {"model": model, "n_items": n_items, "device": "cpu"}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        for chapter in (one for one in notebooks.find_chapters() if not one.across):
            found.asked[chapter.name], found.items[chapter.name] = set(), set()
            with _watched(found, chapter.name):
                run_chapter(chapter, given, Path(folder))
            print(
                model, chapter.name, len(found.asked[chapter.name]), "tables", file=sys.__stderr__
            )
    return found


@contextlib.contextmanager
def _watched(found: Counted, chapter: str) -> Iterator[None]:
    """Count what is computed for a table, and note every table that is asked for.

    No figure is saved meanwhile: that takes longer than some chapters' tables.
    """
    compute, table = store.Store._compute, store.Store.table
    saved = results.ChapterRun.save_figure

    def counted(self: store.Store, experiment: Any, settings: Any, path: Path, **more: Any) -> Any:
        model = self.model
        model.model  # noqa: B018  # loaded and checked here: that is no part of the experiment
        with counting(model) as counts:
            made = compute(self, experiment, settings, path, **more)
        found.tables[path.stem] = counts
        return made

    def asked(self: store.Store, experiment: Any, **settings: Any) -> pd.DataFrame:
        made = table(self, experiment, **settings)
        key = keys.key_of(self.key_parts(experiment, settings))
        path = store.table_path(self.folder, store._table_name(experiment), key)
        found.asked[chapter].add(path.stem)
        if {"relation", "item"} <= set(made.columns):
            pairs = made[["relation", "item"]].drop_duplicates()
            found.items[chapter] |= set(pairs.itertuples(index=False, name=None))
        return made

    store.Store._compute, store.Store.table = counted, asked
    results.ChapterRun.save_figure = lambda *_, **__: ()
    try:
        yield
    finally:
        store.Store._compute, store.Store.table = compute, table
        results.ChapterRun.save_figure = saved


def measure(
    *, n_items: int, few: int, depths: Sequence[int], known: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """The content of `chapter_costs.json`, once for each model that was counted.

    The miniature itself comes last, since it takes longest with all items: until then the few stand
    for them. `known` are depths that were counted before.
    """
    model = load_model(MODEL, device="cpu", check=False)
    told = {
        "schema": 1,
        "date": datetime.now(UTC).date().isoformat(),
        "model": MODEL,
        "sizes": asdict(flops.sizes_of(model)),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "commit": results.environment()["commit"],
        "few_items": few,
        "by_layers": dict(known),
    }
    with tempfile.TemporaryDirectory() as folder:
        for times in depths:
            layers = str(times * model.n_layers)
            if layers not in known:
                deeper = idle.stretched(model, times, Path(folder) / f"{MODEL}-{times}")
                told["by_layers"][layers] = count(str(deeper), n_items=few).chapters()
            yield told | {"n_items": few, "chapters": told["by_layers"][str(model.n_layers)]}
    if n_items != few:
        yield told | {"n_items": n_items, "chapters": count(MODEL, n_items=n_items).chapters()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Count and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chapter_costs", description=__doc__)
    parser.add_argument("--n-items", type=int, default=0, help="of each task; 0: all")
    parser.add_argument("--few", type=int, default=FEW, help="of each task, at several depths")
    parser.add_argument("--depths", type=int, nargs="+", default=DEPTHS, help="times as deep")
    parser.add_argument("--keep-depths", action="store_true", help="take those of the file")
    parser.add_argument("--shown", action="store_true", help="show it in place of writing it")
    asked = parser.parse_args(arguments)
    known: Mapping[str, Any] = {}
    if asked.keep_depths:
        before = json.loads(OUTPUT.read_text("utf-8"))
        asked.few, known = before["few_items"], before["by_layers"]
    depths = sorted({1, *asked.depths})
    settings = {"n_items": asked.n_items, "few": asked.few, "depths": depths}
    for found in measure(**settings, known=known):
        if asked.shown:
            print(json.dumps(found, indent=1))
        else:
            results.write_json(OUTPUT, found)


if __name__ == "__main__":
    main()
