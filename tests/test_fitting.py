"""What models need, told without their weights, against what a machine has."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

import trivial
from ovectors import (
    batch,
    budget,
    catalogue,
    cli,
    costing,
    fitting,
    forward,
    notebooks,
    paths,
)
from ovectors.catalogue import catalogue as known
from ovectors.catalogue import model_spec
from ovectors.errors import UserError
from ovectors.fitting import fit, needs_of
from ovectors.machines import Machine
from ovectors.prose.fits import where
from ovectors.record import read_record
from ovectors.sweeps import one_token
from ovectors.terminal import duration, size

GB = 10**9
LAPTOP = Machine(memory=16 * GB, gpus=0, disk=500 * GB)
SERVER = Machine(memory=500 * GB, gpus=160 * GB, disk=4000 * GB)


@pytest.fixture(params=["counted", "of a few items", "never counted"], autouse=True)
def counts(request, monkeypatch) -> dict | None:
    """Chapter one records 1,200 vectors on 12 layers, twice that on 24; its prompts have 50 tokens.

    All chapters together take 7,200 token passes through 12 blocks: 600 through the model.
    """
    told = None
    if request.param != "never counted":
        one = {"blocks": 7_200 * 2 * 12, "attention": 0, "head": 0, "stream": 1200}
        one |= {"tokens": 50, "items": 3}
        twice = {name: 2 * number for name, number in one.items()}
        every = {"chapters": {"one": one, "all": {**one, "tokens": 64}}}
        told = {
            "n_items": 0 if request.param == "counted" else 5,
            "sizes": {"layers": 12, "width": 1, "vocabulary": 1},
            **every,
            "by_layers": {
                "12": {"one": one, "all": one},
                "24": {"one": twice, "all": twice},
            },
        }
    monkeypatch.setattr(costing, "counted", lambda root=None: told)
    return told if told and not told["n_items"] else None


def test_the_arithmetic_of_bloom(counts):
    """By hand: 176,247,271,424 parameters, 70 layers of width 14,336, in two bytes each."""
    needs = needs_of(known()["bloom"])
    assert needs.dtype == "bfloat16" and needs.in_dtype == 352_494_542_848
    assert needs.weights["float32"] == 704_989_085_696
    token = 2 * 70 * 14_336 * 2  # keys and values
    assert needs.keys_values == needs.rows * 64 * token
    pass_of_one = 64 * (token + (10 + 24) * 14_336 * 2)
    assert needs.rows * pass_of_one <= 2**28 or needs.rows == 1
    vectors = 1200 * 70 / 12 if counts else 3 * 70 * 2_000
    assert needs.stream == vectors * 14_336 * 4
    device = 352.5e9 * 1.2 + needs.keys_values + 2 * max(2**29, needs.rows * pass_of_one)
    assert needs.on_device == pytest.approx(device, rel=1e-3)
    assert needs.total == needs.on_device + needs.stream + fitting.LIBRARIES


def test_what_a_chapter_takes_is_its_own(counts):
    if counts is None:
        pytest.skip("where nothing is counted, chapters are all alike")
    spec = known()["gpt2-medium"]
    one, every = needs_of(spec, chapter="one"), needs_of(spec)
    assert (one.tokens, every.tokens) == (50, 64) and one.rows > every.rows
    assert one.stream == 2 * 1200 * 1024 * 4


def test_batches_are_as_large_as_the_ones_that_are_made(mini):
    """Against the library's own batches: as many prompts of 64 tokens as fit into half a budget."""
    prompts = [[7] * 63 + [number] for number in range(8, 40)]
    budget = 24 * 2**20
    made = one_token._batches(mini, prompts, range(32), 0, budget // 2)
    needs = needs_of(model_spec("mini-2m"), dtype="float64", budget=budget)
    assert 1 < len(made[0].rows) < 32
    assert needs.rows == pytest.approx(len(made[0].rows), abs=2)


def test_the_budget_of_batches_is_the_same_everywhere_unless_it_is_said(monkeypatch):
    assert forward.BUDGET_BYTES == budget.DEFAULT
    before = needs_of(known()["bloom"])
    monkeypatch.setenv(budget.VARIABLE, "16e9")
    after = needs_of(known()["bloom"])
    assert after.rows > 20 * before.rows and after.activations > before.activations
    for said in ("much", "-1", "inf", "nan", "0"):
        monkeypatch.setenv(budget.VARIABLE, said)
        with pytest.raises(UserError, match=f"OVECTORS_BUDGET is bytes.*{said}"):
            budget.budget_bytes()


@pytest.mark.parametrize(
    ("model", "machine", "device", "dtype", "place"),
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
def test_where_a_model_fits(model, machine, device, dtype, place):
    found = fit(known()[model], machine, device=device, dtype=dtype, here=False)
    assert found.where == place


def test_the_reason_names_what_is_wanted_and_what_is_there():
    said = fit(known()["gpt-j-6b"], LAPTOP, dtype="float32").reason
    assert "GB of memory (weights 24.2 GB in float32), 16 GB are free" in said
    assert "fits" not in said  # 12.1 GB in two bytes, and what comes beside it, are too much too
    larger = Machine(memory=25 * GB, gpus=0, disk=500 * GB)
    found = fit(known()["gpt-j-6b"], larger, dtype="float32")
    assert found.reason.endswith("--dtype bfloat16 fits") and found.narrower == "bfloat16"
    assert fit(known()["gpt-j-6b"], larger, dtype=found.narrower).where == "memory"
    assert fit(known()["bloom"], LAPTOP).narrower == ""


def test_a_dtype_that_fits_is_taken_where_it_is_asked_for(monkeypatch):
    fitting._fitting_dtype.cache_clear()
    monkeypatch.setattr(fitting, "this_machine", lambda: replace(LAPTOP, memory=9 * GB))
    chapters = notebooks.find_chapters()[:2]
    planned = batch.plan(["gpt2-xl", "gpt2"], chapters, {"dtype": "fit"}, dry=True)
    dtypes = [(job.spec.name, job.parameters["dtype"], bool(job.unfit)) for job in planned]
    assert dtypes == [("gpt2-xl", "bfloat16", False)] * 2 + [("gpt2", "auto", False)] * 2
    as_it_is = batch.plan(["gpt2-xl"], chapters, {}, dry=True)
    assert [job.unfit.endswith("--dtype bfloat16 fits") for job in as_it_is] == [True, True]
    fitting._fitting_dtype.cache_clear()
    monkeypatch.setattr(fitting, "this_machine", lambda: replace(LAPTOP, memory=3 * GB))
    (job,) = batch.plan(["gpt2-xl"], chapters[:1], {"dtype": "fit"}, dry=True)
    assert job.parameters["dtype"] == "auto" and "are free" in job.unfit
    fitting._fitting_dtype.cache_clear()


def test_the_main_memory_beside_a_gpu_counts():
    small = Machine(memory=GB, gpus=80 * GB, disk=500 * GB)
    assert fit(known()["gpt2"], small, here=True).where != "gpus"
    assert fit(known()["gpt2"], replace(small, memory=8 * GB), here=True).where == "gpus"


def test_an_offload_has_an_estimate(counts):
    """BLOOM on 160 GB of GPUs, with 100 GB of memory: by hand."""
    machine = Machine(memory=100 * GB, gpus=160 * GB, disk=4000 * GB)
    needs, found = needs_of(known()["bloom"]), fit(known()["bloom"], machine, here=True)
    spread = found.offload
    assert spread.gpus + spread.memory + spread.disk == needs.in_dtype
    assert spread.gpus * 1.2 + needs.keys_values + needs.activations == pytest.approx(160 * GB)
    assert spread.memory == 100 * GB - needs.beside
    if counts is None:
        assert spread.seconds is None
        return
    passes = 600  # of one token through the whole model, as many at every depth here
    batches = passes / (needs.rows * 64)
    moved = spread.memory / 12e9 + spread.disk / 1e9
    assert spread.seconds == pytest.approx(batches * moved)
    assert where(found).startswith(f"offloaded: {size(spread.memory)} in memory and")
    assert where(found).endswith(f"{duration(spread.seconds)} of moving weights")
    assert f"offloading ({spread}); --unfit-too" in found.reason  # `run` offers it
    nowhere = replace(machine, disk=GB)
    assert fit(known()["bloom"], nowhere, here=True).where == "no"


@pytest.mark.parametrize("model", ["mini-2m", "mini-6m"])
def test_what_was_measured_is_less_than_what_is_calculated(model, monkeypatch):
    """The most memory that any chapter's process held, of the committed runs."""
    monkeypatch.undo()
    peaks = [kept.peak_memory_bytes for kept in read_record(paths.PUBLISHED / model).chapters]
    assert peaks and max(peaks) < needs_of(known()[model]).total < 4 * max(peaks)


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
