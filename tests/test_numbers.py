"""Numbers in prose come from the tables: alter these, run a chapter again, and all of them change.

A chapter's cells are executed in this process, several times on one store of tables. A second run
has to say the same without loading weights. Then every measured value in the tables is made another
one, table and sidecar in step, and no sentence may keep its numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from ovectors import notebooks, results, store
from ovectors.models import LanguageModel
from ovectors.notebooks import Chapter

CHAPTERS = [chapter for chapter in notebooks.find_chapters() if not chapter.across]
NAMES = [chapter.name for chapter in CHAPTERS]
MADE_FROM = "*Made from commit"
CHOOSES_NOTHING = ("01_stages_of_processing",)
"""Chapters without a choice on development items: the altered tables alone are asked for."""
GIVEN = {"model": "mini-2m", "n_items": 9, "device": "cpu"}
# A measured value as the chapters print it, with its interval where it has one; bounds of rules and
# published numbers are printed otherwise.
VALUE = re.compile(r"(?<![\d.])-?\d+\.\d\d(?!\d|\.\d)(?: \[[^\]]*\])?")
# Columns that hold what was measured; the others say of what, and under which setting.
MEASURED = re.compile(r"rank|lead|cosine|squared|correct|same_top|top_token$|outcome")


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()
    plt.close("all")


def shown_by(shell: InteractiveShell, chapter: Chapter, **given: object) -> dict[str, list[str]]:
    """Execute a chapter's code cells; the Markdown that each of them displays, by cell id."""
    shell.reset(new_session=False)
    shown: dict[str, list[str]] = {}
    for cell in notebooks.read_notebook(chapter.path).cells:
        if cell.cell_type != "code":
            continue
        with capture_output() as captured:
            ran = shell.run_cell(cell.source)
            if "parameters" in cell.metadata.get("tags", []):
                shell.user_ns.update(given)
        ran.raise_error()
        texts = [output.data.get("text/markdown", "") for output in captured.outputs]
        shown[cell.id] = [text for text in texts if text and not text.startswith(MADE_FROM)]
    return shown


def rewrite(path: Path, table: pd.DataFrame) -> None:
    """Put another table in a store's place, with a sidecar that vouches for it."""
    sidecar = store.read_sidecar(path)
    table.to_parquet(path, index=False)
    told = {"sha256": results.sha256_of(path), "rows": len(table)}
    results.write_json(store.sidecar_path(path), sidecar.model_copy(update=told).model_dump())
    assert store.read_sidecar(path) is not None


def altered(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The same rows with other values: who was on top is not, and the other way round.

    Where FFNs are removed, most rows and in each table others: chapter 4 takes differences, and
    what was zero would be zero again.
    """
    table = table.copy()
    number = np.arange(len(table))
    most = np.random.default_rng(seed).random(len(table)) < 0.8
    for name in filter(MEASURED.match, table.columns):
        column = table[name]
        if "rank" in name:
            table[name] = np.where(column == 1, 2.0 + number % 3, 1.0).astype(column.dtype)
        elif pd.api.types.is_bool_dtype(column):
            table[name] = column ^ most if "removed" in table else ~column
        elif pd.api.types.is_float_dtype(column):
            table[name] = (0.7 * column + 0.13).astype(column.dtype)
        elif name == "top_token":
            table[name] = np.where(number % 3 == 0, " another", column)
        else:  # one of a few words: each becomes the next
            words = list(dict.fromkeys(column))
            table[name] = column.map(dict(zip(words, words[1:] + words[:1], strict=True)))
    return table


def alter_all(tables: Path) -> None:
    paths = sorted(tables.glob("*.parquet"))
    assert paths
    for seed, path in enumerate(paths):
        before = pd.read_parquet(path)
        after = altered(before, seed)
        assert before.empty or not after.equals(before), path.name
        rewrite(path, after)


@pytest.fixture
def folders(tmp_path, monkeypatch) -> tuple[Path, Path]:
    tables, output = tmp_path / "tables", tmp_path / "output"
    monkeypatch.setenv(store.FOLDER_VARIABLE, str(tables))
    monkeypatch.setenv(results.OUTPUT_VARIABLE, str(output))
    monkeypatch.chdir(tmp_path)
    # Drawing takes half of the time, and figures are no prose.
    monkeypatch.setattr(results.ChapterRun, "save_figure", lambda *_, **__: ())
    return tables, output


def forbid_weights(patch: pytest.MonkeyPatch) -> None:
    def no_weights(model: LanguageModel) -> None:
        raise AssertionError(f"{model.name}: weights were asked for, though every table is known")

    patch.setattr(LanguageModel, "model", property(no_weights))


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS, ids=NAMES)
def test_what_is_known_is_said_again_without_weights_and_what_is_altered_is_not(
    chapter, shell, folders
):
    tables, output = folders
    first = shown_by(shell, chapter, **GIVEN)
    findings = results.load_json(output, "numbers")["findings"]
    with pytest.MonkeyPatch.context() as patch:
        forbid_weights(patch)
        assert shown_by(shell, chapter, **GIVEN) == first
    alter_all(tables)
    with pytest.MonkeyPatch.context() as patch:
        if chapter.name in CHOOSES_NOTHING:
            forbid_weights(patch)  # others may choose anew, and ask for tables of that choice
        second = shown_by(shell, chapter, **GIVEN)
    assert results.load_json(output, "numbers")["findings"] != findings
    with_values = 0
    for cell, texts in first.items():
        for before, after in zip(texts, second[cell], strict=True):
            values, others = VALUE.findall(before), VALUE.findall(after)
            with_values += bool(values)
            said = f"of {chapter.name}, {cell}:\n{before}\n---\n{after}"
            assert not values or values != others, f"kept its numbers {said}"
            if chapter.name in CHOOSES_NOTHING and len(values) == len(others):
                kept = [one for one, two in zip(values, others, strict=True) if one == two]
                assert not kept, f"kept {kept} {said}"
    assert with_values >= 3
