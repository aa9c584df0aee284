"""What models need, told without their weights, against what a machine has."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

import trivial
from ovectors import batch, catalogue, cli, fitting, notebooks
from ovectors.catalogue import catalogue as known
from ovectors.catalogue import model_spec
from ovectors.fitting import Machine, fit, needs_of

GB = 10**9
LAPTOP = Machine(memory=16 * GB, gpus=0, disk=500 * GB)
SERVER = Machine(memory=500 * GB, gpus=160 * GB, disk=4000 * GB)


def test_the_arithmetic_of_bloom():
    """By hand: 176,247,271,424 parameters, 70 layers of width 14,336."""
    needs = needs_of(known()["bloom"])
    assert needs.dtype == "bfloat16" and needs.in_dtype == 352_494_542_848
    assert needs.weights["float32"] == 704_989_085_696
    assert needs.keys_values == 2 * 70 * 14_336 * 2 * fitting.ROWS * fitting.TOKENS
    assert needs.stream == 3 * 70 * 14_336 * 2_000 * 4
    assert needs.total == pytest.approx(352.5e9 * 1.2 + needs.keys_values + needs.stream, rel=1e-3)


@pytest.mark.parametrize(
    ("model", "machine", "device", "dtype", "where"),
    [
        ("gpt2", LAPTOP, "auto", "auto", "memory"),
        ("gpt2", SERVER, "auto", "auto", "gpus"),
        ("gpt2", SERVER, "cpu", "auto", "memory"),
        ("bloom", LAPTOP, "auto", "auto", "no"),
        ("bloom", SERVER, "auto", "auto", "offloaded"),
        ("bloom", SERVER, "cuda", "auto", "no"),
        ("bloom", SERVER, "auto", "float64", "offloaded"),
        ("gpt-j-6b", LAPTOP, "auto", "float32", "no"),
        ("gpt2", Machine(memory=GB * 16, gpus=0, disk=1000), "auto", "auto", "no"),
    ],
)
def test_where_a_model_fits(model, machine, device, dtype, where, monkeypatch):
    monkeypatch.setattr(fitting, "is_here", lambda spec: False)
    assert fit(known()[model], machine, device=device, dtype=dtype).where == where


def test_the_reason_names_what_is_wanted_and_what_is_there():
    said = fit(known()["gpt-j-6b"], LAPTOP, dtype="float32").reason
    assert "GB of memory (weights 24.2 GB in float32), 16 GB are free" in said
    assert said.endswith("--dtype bfloat16 takes less")
    assert "takes less" not in fit(known()["bloom"], LAPTOP).reason


@pytest.mark.parametrize("case", ["gpt2", "bloom", "llama"])
def test_a_config_alone_is_enough(case, folders, tmp_path):
    """What shapes without numbers count is what the real model has."""
    config = Path(shutil.copy(folders[case] / "config.json", tmp_path))
    needs = needs_of(catalogue.ModelSpec(name="x", folder=config.parent))
    model = AutoModelForCausalLM.from_pretrained(folders[case])
    counted = sum(one.numel() for one in model.parameters())
    assert needs.weights["float32"] == 4 * counted


def test_what_nobody_has_counted_is_unknown_and_runs(tmp_path):
    assert fit(model_spec("some/model"), LAPTOP).where == "unknown"
    (tmp_path / "config.json").write_text("{}")
    assert needs_of(catalogue.ModelSpec(name="x", folder=tmp_path)) is None


def test_the_machine_is_this_one():
    import psutil

    machine = fitting.this_machine()
    assert 0 < machine.memory <= psutil.virtual_memory().total and machine.disk > 0


@pytest.mark.kernel
def test_what_does_not_fit_is_skipped_with_a_reason(tmp_path, monkeypatch, capsys):
    project = trivial.enter(trivial.make_project(tmp_path / "project"), monkeypatch)
    tiny = fitting.Fit(where="memory")
    no = fitting.Fit(where="no", reason="it needs 9 GB of memory, 1 GB are free")
    monkeypatch.setattr(fitting, "fit", lambda spec, *_, **__: no if "big" in spec.name else tiny)
    trivial.write_model(project / "big")
    both = ["run", "-m", "./big", "-m", "./a-model"]
    assert cli.main([*both, "--dry-run"]) == 0
    assert "would be skipped: it needs 9 GB of memory" in capsys.readouterr().out
    assert cli.main(both) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"[1/2] 01_first on big: skipped: {no.reason}"
    assert out[-1] == "1 run, 1 skipped" and trivial.executions(project) == ["01_first 2"]
    assert cli.main(["run", "-m", "./big"]) == cli.BAD_INPUT
    assert no.reason in capsys.readouterr().err
    jobs = batch.plan(["./big"], notebooks.find_chapters(), {}, unfit_too=True)
    assert [job.unfit for job in jobs] == [""]
