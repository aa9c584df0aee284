"""The store: a table is computed once, and again when anything that made it changed."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ovectors import keys, results, store, uses
from ovectors.errors import UserError
from ovectors.interventions import next_token_logits
from ovectors.models import LanguageModel
from ovectors.store import Store
from tiny_models import PROMPTS, tiny_model

CALLS: list[dict] = []


def last_logits(
    model: LanguageModel, *, scale: float = 1.0, words: tuple[str, ...] = ("a",), seed: int = 0
) -> pd.DataFrame:
    """An experiment that needs weights and tells when it is really run."""
    CALLS.append({"scale": scale, "words": words, "seed": seed})
    logits = next_token_logits(model, PROMPTS)[:, 5].numpy() * scale
    rows = {"model": model.name, "item": range(len(logits)), "logit": logits}
    return pd.DataFrame(rows | {"words": [list(words)] * len(logits)})


@pytest.fixture(autouse=True)
def no_calls_yet():
    CALLS.clear()
    keys._remembered_hash.cache_clear()
    yield
    keys._remembered_hash.cache_clear()


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    return tmp_path / "tables"


def opened(folder: Path, tables: Path, **settings: str) -> Store:
    return Store(str(folder), folder=tables, **settings)


def only_table(tables: Path) -> Path:
    (path,) = tables.glob("*.parquet")
    return path


def test_a_known_key_loads_no_weights(folder, tables):
    first = opened(folder, tables).table(last_logits, scale=2.0)
    again = opened(folder, tables)
    pd.testing.assert_frame_equal(again.table(last_logits, scale=2.0), first)
    assert len(CALLS) == 1
    assert not again.model.loaded
    assert again.provenance["parameters"] > 1000  # known from the sidecar, weights or not
    assert not again.model.loaded


def test_where_everything_is_known_the_model_is_not_even_opened(folder, tables):
    first = opened(folder, tables).table(last_logits)
    again = opened(folder, tables)
    pd.testing.assert_frame_equal(again.table(last_logits), first)
    assert again.provenance["dtype"] == "float32" and "model" not in vars(again)


def test_a_table_is_the_same_computed_or_read(folder, tables):
    computed = opened(folder, tables).table(last_logits, words=("a", "b"))
    assert list(computed["words"].iloc[0]) == ["a", "b"]
    read = opened(folder, tables).table(last_logits, words=("a", "b"))
    pd.testing.assert_frame_equal(computed, read)
    logits = computed["logit"].to_numpy()
    assert logits.std() > 0 and np.isfinite(logits).all()


@pytest.mark.parametrize("changed", [{"scale": 2.0}, {"seed": 1}, {"words": ("a", "b")}])
def test_other_settings_are_another_table(folder, tables, changed):
    kept = opened(folder, tables)
    plain = kept.table(last_logits)
    other = kept.table(last_logits, **changed)
    assert len(CALLS) == 2 and CALLS[1] == {**CALLS[0], **changed}
    assert (other["logit"] != plain["logit"]).any() == ("scale" in changed)
    assert len([*tables.glob("*.parquet")]) == 2
    pd.testing.assert_frame_equal(kept.table(last_logits), plain)
    assert len(CALLS) == 2


def test_another_experiment_is_another_table(folder, tables):
    def last_logits_again(model: LanguageModel) -> pd.DataFrame:
        return last_logits(model, scale=-1.0)

    kept = opened(folder, tables)
    kept.table(last_logits)
    kept.table(last_logits_again)
    assert [call["scale"] for call in CALLS] == [1.0, -1.0]


def test_other_weights_are_another_table(folder, tables):
    before = opened(folder, tables).table(last_logits)
    tiny_model("gpt2", seed=1).save_pretrained(folder)
    keys._remembered_hash.cache_clear()  # a new process would have nothing in it
    after = opened(folder, tables).table(last_logits)
    assert len(CALLS) == 2 and (before["logit"] != after["logit"]).any()


def test_another_dtype_is_another_table(folder, tables):
    opened(folder, tables).table(last_logits)
    other = opened(folder, tables, dtype="float64")
    other.table(last_logits)
    assert len(CALLS) == 2 and other.provenance["dtype"] == "float64"


def test_a_changed_source_is_computed_again(folder, tables, monkeypatch):
    opened(folder, tables).table(last_logits)
    monkeypatch.setattr(store, "foreign_sources", lambda experiment: {"test_store.py": "another"})
    opened(folder, tables).table(last_logits)
    assert len(CALLS) == 2


def test_what_closes_over_values_is_never_taken_from_the_store(folder, tables):
    number = 1.0

    def closing(model: LanguageModel) -> pd.DataFrame:
        return last_logits(model, scale=number)

    kept = opened(folder, tables)
    assert kept.table(closing)["logit"].sum() != 0
    number = 0.0
    assert kept.table(closing)["logit"].sum() == 0


def test_a_session_does_not_compute_with_sources_that_were_edited(folder, tables, monkeypatch):
    """Its key would be that of the new ones, and its numbers those of the old."""
    was = tuple(
        (name, text.replace("its table is gone", "it is gone")) for name, text in store._LOADED
    )
    opened(folder, tables).table(last_logits)
    assert was != store._LOADED
    monkeypatch.setattr(store, "_LOADED", was)
    opened(folder, tables).table(last_logits)  # known: nothing is computed
    with pytest.raises(UserError, match="was changed after this session had loaded it: restart"):
        opened(folder, tables).table(last_logits, seed=1)
    assert len(CALLS) == 1


DAMAGE = {
    "cut": "its table is not the one that was kept; it was computed again",
    "changed": "its table is not the one that was kept",
    "gone": "its table is gone",
    "no sidecar": "",  # it was never finished: no damage
    "half a sidecar": "its sidecar cannot be read",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_half_written_or_altered_is_computed_again(folder, tables, damage):
    first = opened(folder, tables).table(last_logits)
    path = only_table(tables)
    sidecar = store.sidecar_path(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "changed":  # a table that can be read, with another number in it
        first.assign(logit=0.0).to_parquet(path, index=False)
    elif damage == "gone":
        path.unlink()
    elif damage == "no sidecar":
        sidecar.unlink()
    else:
        sidecar.write_text(sidecar.read_text()[:40])
    said = DAMAGE[damage]
    with pytest.warns(UserWarning, match=said) if said else contextlib.nullcontext():
        again = opened(folder, tables).table(last_logits)
    assert len(CALLS) == 2
    pd.testing.assert_frame_equal(again, first)
    assert store.read_sidecar(path) is not None


def test_the_batch_is_told_of_every_table(folder, tables, tmp_path, monkeypatch):
    log = tmp_path / "tables.jsonl"
    monkeypatch.setenv(uses.LOG_VARIABLE, str(log))
    kept = opened(folder, tables)
    kept.table(last_logits, scale=2.0)
    kept.table(last_logits, scale=2.0)
    only_table(tables).unlink()
    kept.table(last_logits, scale=2.0)
    asked = uses.read_uses(log)
    assert [use.how for use in asked] == ["computed", "known", "computed"]
    assert [use.damage for use in asked] == ["", "", "its table is gone"]
    assert asked[0].function == "test_store:last_logits" and asked[0].settings == {"scale": 2.0}
    log.write_text(log.read_text()[:-9])  # killed while it wrote
    assert uses.read_uses(log) == asked[:2]


COMPUTE = """
import sys, time
import pandas as pd
from ovectors.store import Store

def slow(model):
    with open("calls", "a") as file:
        file.write("x")
    time.sleep(2)
    return pd.DataFrame({"number": [1]})

Store.model = type("Model", (), {"provenance": {}})()
slow.__module__ = "ovectors.experiments.stages.measure"
print(Store(sys.argv[1], folder=sys.argv[2]).table(slow)["number"][0])
"""


def test_two_processes_that_want_the_same_table_compute_it_once(folder, tables, tmp_path):
    command = [sys.executable, "-c", COMPUTE, str(folder), str(tables)]
    pair = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate(timeout=600)[0] for process in pair] == [b"1\n"] * 2
    assert (tmp_path / "calls").read_text() == "x"
    assert not [*tables.glob("*.lock")]


def test_the_sidecar_comes_last(folder, tables, monkeypatch):
    def killed(path: Path, value: object) -> None:
        assert only_table(tables).stat().st_size > 0  # the table is there, whole
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(results, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            opened(folder, tables).table(last_logits)
    path = only_table(tables)
    assert not store.sidecar_path(path).exists() and store.read_sidecar(path) is None
    opened(folder, tables).table(last_logits)
    assert len(CALLS) == 2


def test_a_sidecar_never_vouches_for_a_table_that_is_being_replaced(folder, tables, monkeypatch):
    opened(folder, tables).table(last_logits)
    path = only_table(tables)
    path.write_bytes(b"damaged")
    whole = pd.DataFrame.to_parquet

    def killed(self: pd.DataFrame, target: Path, **settings: object) -> None:
        assert not store.sidecar_path(path).exists()
        whole(self, target, **settings)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", killed)
        with pytest.raises(KeyboardInterrupt):
            opened(folder, tables).table(last_logits)
    assert [entry.name for entry in tables.iterdir()] == [path.name]  # no half-written file beside
    assert store.read_sidecar(path) is None


def test_an_experiment_that_raises_leaves_nothing(folder, tables):
    def broken(model: LanguageModel) -> pd.DataFrame:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        opened(folder, tables).table(broken)
    assert not [*tables.iterdir()]


def test_the_cost_is_that_of_the_tables_used_whenever_they_were_made(folder, tables):
    kept = opened(folder, tables)
    assert kept.cost.seconds == 0 and kept.cost.peak_memory_bytes == 0
    kept.table(last_logits)
    one = kept.cost
    kept.table(last_logits)  # the same table is not counted twice
    assert kept.cost == one and one.peak_memory_bytes > 10_000_000
    kept.table(last_logits, seed=1)
    both = kept.cost
    seconds = [store.read_sidecar(path).seconds for path in tables.glob("*.parquet")]
    assert both.seconds == pytest.approx(sum(seconds), abs=1e-3)
    later = opened(folder, tables)
    later.table(last_logits, seed=1)
    later.table(last_logits)
    assert later.cost == both and len(CALLS) == 2


def test_progress_is_asked_for_where_an_experiment_can_show_it(folder, tables):
    def shown(model: LanguageModel, *, progress: bool = False) -> pd.DataFrame:
        return pd.DataFrame({"progress": [progress]})

    assert opened(folder, tables).table(shown)["progress"].tolist() == [True]
    (sidecar,) = map(store.read_sidecar, tables.glob("*.parquet"))
    assert "progress" not in sidecar.parts["settings"]  # it changes nothing


def test_where_tables_are_kept(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(store.FOLDER_VARIABLE, raising=False)
    assert Store(str(folder)).folder == tmp_path / "results" / folder.name / "store"
    monkeypatch.setenv(store.FOLDER_VARIABLE, str(tmp_path / "given"))
    assert Store(str(folder)).folder == tmp_path / "given"
