"""Computing and executing as jobs of their own, and what of it is left to do."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import trivial
from ovectors import cli, keys, made_on, paths, runs, store, workplan
from ovectors.errors import UserError
from test_explain import ASKS
from tiny_models import save_tiny

pytestmark = pytest.mark.kernel


SECOND = ASKS.strip().replace("n_items=n_items", "n_items=n_items, seed=1")
BOTH = ("01_first", "02_second")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Two chapters that ask for one table each, and one across models."""
    root = trivial.enter(trivial.make_project(tmp_path / "project"), monkeypatch)
    save_tiny("gpt2", root / "tiny")
    trivial.write_chapter(root, extra=ASKS.strip())
    trivial.write_chapter(root, "02_second", extra=SECOND)
    write_across(root)
    return root


def write_across(root: Path) -> None:
    """A chapter across models, which asks for nothing."""
    parameters = 'model = "all"\nn_items = 2\nseed = 0'
    path = trivial.write_chapter(root, "03_across", parameters=parameters)
    notebook = json.loads(path.read_text())
    notebook["metadata"]["ovectors"] = {"scope": "all models"}
    path.write_text(json.dumps(notebook))


def left(**given) -> tuple[tuple[str, ...], bool]:
    (work,) = workplan.plan(["./tiny"], given=given, gpu_gb=0).models.values()
    return work.chapters, work.computes


def run(*arguments: str) -> int:
    return cli.main(["run", "-m", "./tiny", "--beside", *arguments])


def test_computing_and_executing_apart_end_as_together(project, capsys):
    assert left() == (BOTH, True)
    assert run("--tables-only", "--keep-going") == 0
    assert "tables: 1 computed, 0 known" in capsys.readouterr().out
    (folder,) = (path for path in paths.RUNS.iterdir() if path.is_dir())
    assert [path.name for path in folder.iterdir() if path.suffix] == []
    assert len([*folder.glob(".store/*.parquet")]) == 2
    assert left() == (BOTH, True)  # nobody knows yet which tables they ask for
    for number in ("1", "2"):
        assert run("--made-on", "cpu", "-c", number) == 0
        assert "tables: 0 computed, 1 known" in capsys.readouterr().out
    assert left() == ((), False)
    assert cli.main(["run", "-m", "./tiny", "--dry-run", "-c", "1", "-c", "2"]) == 0
    assert capsys.readouterr().out.count("already whole and current") == 2
    assert trivial.executions(project) == ["01_first 2", "02_second 2"] * 2


def test_what_is_left_follows_keys_and_not_times(project):
    assert run("-c", "1", "-c", "2") == 0
    times = {path: path.stat().st_mtime_ns for path in paths.CHAPTERS.iterdir()}
    trivial.write_chapter(project, extra=ASKS.strip(), text="# Another caption")
    for path, time in times.items():
        os.utime(path, ns=(time, time))
    assert left() == (("01_first",), False)
    assert left(n_items=3) == (BOTH, True)
    trivial.write_chapter(project, extra=ASKS.strip())
    for path in paths.CHAPTERS.iterdir():
        path.touch()
    assert left() == ((), False)


def test_a_lost_table_and_a_failure_are_computed_again(project, capsys):
    assert run("-c", "1", "-c", "2") == 0
    (folder,) = (path for path in paths.RUNS.iterdir() if path.is_dir())
    (folder / "01_first.ipynb").write_text("{}")
    assert left() == (("01_first",), False)
    recorded = json.loads((folder / "01_first.json").read_text())
    use = recorded["tables"][0]
    trivial.write_chapter(project, extra=ASKS.strip(), text="# Another caption")
    store.table_path(folder / ".store", use["name"], use["key"]).unlink()
    assert left() == (("01_first",), True)
    assert run("--made-on", "cpu", "-c", "1") == cli.BAD_INPUT
    assert "was not computed on cpu yet, and this run may compute none" in capsys.readouterr().err
    # What is wrongly taken to be known fails once: then it is computed.
    assert runs.failure_of(folder / "failed" / "01_first.ipynb")
    assert run("--tables-only", "-c", "1") == 0
    assert not (folder / "failed" / "01_first.ipynb").exists()
    assert run("--made-on", "cpu", "-c", "1") == 0
    assert left() == ((), False)


def test_what_failed_to_compute_is_not_executed_and_says_why(project, capsys):
    trivial.write_chapter(project, extra="1 / 0")
    assert run("--tables-only", "--keep-going") == cli.FAILED
    capsys.readouterr()
    assert run("--made-on", "cpu", "-c", "1") == cli.FAILED
    assert "ZeroDivisionError: division by zero (in code cell 3)" in capsys.readouterr().err
    assert trivial.executions(project).count("01_first 2") == 1
    assert run("--made-on", "cpu", "-c", "2") == 0
    assert left() == (("01_first",), True)


def pretend_made_on(folder: Path, kind: str) -> None:
    """Turn the tables of a store into those that another kind of device would have left."""
    for sidecar in [*folder.glob("*.json")]:
        told = json.loads(sidecar.read_text())
        told["parts"]["device"] = kind
        told["key"] = keys.key_of(told["parts"])
        table = store.table_path(folder, told["experiment"], told["key"])
        sidecar.with_suffix(".parquet").rename(table)
        sidecar.unlink()
        store.sidecar_path(table).write_text(json.dumps(told))


def test_tables_made_on_a_gpu_are_taken_where_there_is_none(project, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert run("--tables-only", "-c", "1") == 0
    (folder,) = (path for path in paths.RUNS.iterdir() if path.is_dir())
    pretend_made_on(folder / ".store", "cuda")
    assert run("--made-on", "cuda", "-c", "1") == 0
    assert "tables: 0 computed, 1 known" in capsys.readouterr().out
    assert json.loads((folder / "01_first.json").read_text())["parts"]["device"] == "cuda"
    assert run("--made-on", "cpu", "-c", "1") == cli.BAD_INPUT
    assert made_on.device() == ""  # it is over with the command


def test_what_is_asked_of_a_model_that_is_not_here(project):
    """Planning needs neither weights nor a machine that has room for them."""
    plan = workplan.plan(["bloom", "gpt2"], gpu_gb=80)
    assert [(name, work.chapters) for name, work in plan.models.items()] == [
        ("bloom", BOTH),
        ("gpt2", BOTH),
    ]
    assert plan.own == BOTH and plan.across == ("03_across",)
    blind = workplan.plan(["bloom"], gpu_gb=80, look=False)
    assert blind.models["bloom"].chapters == () and blind.own == BOTH
    for bad in (["gtp2"], ["gpt2", "openai-community/gpt2"]):
        with pytest.raises(UserError, match=r"unknown model 'gtp2'|are the same model"):
            workplan.plan(bad, gpu_gb=80)
    with pytest.raises(UserError, match="no chapter '9'"):
        workplan.plan(["gpt2"], ["9"], gpu_gb=80)
    assert cli.main(["run", "--tables-only", "--made-on", "cpu"]) == cli.BAD_INPUT
