"""The models that ship: they load, they pass their check, and their cards say what is so."""

import json
import re
import shutil
from dataclasses import asdict

import pandas as pd
import pytest

from ovectors import paths
from ovectors.cli import main
from ovectors.models import load_model
from ovectors.selfcheck import self_check
from ovectors.training import evaluate
from ovectors.training.card import CARD, write_card
from ovectors.training.recipe import load_recipe
from ovectors.training.train import LOG, RECORD, data_hashes

SHIPPED = sorted(path.parent.name for path in paths.MODELS.glob("*/model.safetensors"))


def rows_of(name: str) -> pd.DataFrame:
    return pd.DataFrame(json.loads((paths.MODELS / name / "evaluation.json").read_text())["rows"])


def size_of(name: str) -> int:
    """Bytes of what ships of a model."""
    files = (paths.MODELS / name).iterdir()
    return sum(path.stat().st_size for path in files if path.suffix != ".pt")


def test_a_family_ships_of_the_sizes_that_the_names_say_and_deep():
    assert {"mini-2m", "mini-6m", "mini-20m"} <= set(SHIPPED)
    for name in SHIPPED:
        record = json.loads((paths.MODELS / name / RECORD).read_text())
        millions = float(name.removeprefix("mini-").removesuffix("m"))
        assert record["parameters"] == pytest.approx(millions * 1e6, rel=0.15)
        assert record["recipe"]["n_layer"] >= 12
    assert sum(map(size_of, SHIPPED)) < 90e6


@pytest.mark.parametrize("name", SHIPPED)
def test_it_passes_its_self_check(name):
    assert self_check(load_model(name, check=False)).passed


@pytest.mark.parametrize("name", SHIPPED)
def test_capitals_and_past_tense_are_known_as_its_evaluation_says(name):
    recorded = rows_of(name).set_index(["skill", "items"])
    model = load_model(name)
    for skill, relation, form, wanted in evaluate.SKILLS[:4]:
        for row in evaluate._skill_rows(model, skill, relation, form, wanted, seed=0):
            known = recorded.loc[(skill, row["items"])]
            assert (row["n"], row["excluded"]) == (known["n"], known["excluded"])
            # Another machine may round two close logits the other way: a few items, no more.
            assert row["accuracy"] == pytest.approx(known["accuracy"], abs=0.02 + 1 / row["n"])
            assert row["low"] > 0.9 or row["items"] == "held out" or row["n"] < 60


@pytest.mark.parametrize("name", SHIPPED)
def test_its_card_is_made_from_its_records(name, tmp_path):
    folder = paths.MODELS / name
    for file in (RECORD, LOG):
        shutil.copy(folder / file, tmp_path / file)
    write_card(tmp_path, rows_of(name))
    assert (tmp_path / CARD).read_text() == (folder / CARD).read_text()


@pytest.mark.parametrize("name", SHIPPED)
def test_its_record_is_that_of_the_recipe_and_the_data_of_now(name):
    record = json.loads((paths.MODELS / name / RECORD).read_text())
    assert record["recipe"] == asdict(load_recipe(name))
    # Relations may be added by a fork (and then change relations.toml); those it learned stay.
    pairs = {name: sha for name, sha in record["data"].items() if name.endswith(".csv")}
    assert len(pairs) > 20 and pairs.items() <= data_hashes().items()
    log = pd.read_csv(paths.MODELS / name / LOG)
    assert log["step"].tolist() == list(range(1, record["recipe"]["steps"] + 1))
    assert log["tokens"].iloc[-1] == record["tokens"]


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_small_enough_to_ship(name):
    assert size_of(name) < 50e6


def test_one_command_prints_the_figures_and_writes_them(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(evaluate, "SKILLS", evaluate.SKILLS[1:2])
    monkeypatch.setattr(paths, "BUILD", tmp_path / "_build")
    assert main(["evaluate", "mini-2m"]) == 0
    written = json.loads((paths.BUILD / "evaluation.json").read_text())["rows"]
    assert [(row["model"], row["items"]) for row in written] == [
        ("mini-2m", items) for items in ("all", "trained", "held out")
    ]
    printed = capsys.readouterr().out
    for row in written:
        assert re.search(rf"{row['items']} .*{row['n']} .*{row['accuracy']:.3f} \[", printed)


def test_a_wrong_name_is_told_before_anything_is_measured(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(evaluate, "load_model", lambda name: pytest.fail(f"{name} was loaded"))
    output = tmp_path / "figures.json"
    assert main(["evaluate", "mini-2m", "gtp2", "--output", str(output)]) == 2
    assert "unknown model 'gtp2'" in capsys.readouterr().err and not output.exists()
