"""The pages on what fits, on BLOOM, on published results: their numbers are the results' own."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

import made_up_runs
import trivial
from made_up_runs import claim
from ovectors import costing, fitting, paths
from ovectors.catalogue import catalogue
from ovectors.claims import Cost
from ovectors.machines import TYPICAL
from ovectors.prose import fits, plan_bloom, published
from ovectors.record import publish
from ovectors.terminal import duration

CHAPTER = "01_stages_of_processing"


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    return trivial.enter(made_up_runs.make_project(tmp_path / "project"), monkeypatch)


def run(project: Path, value: float, *, seconds: float = 1.0, memory: int = 10**8) -> None:
    found = claim("stages", "a-model", {"past_tense": value, "uppercase": 0.7})
    cost = Cost(seconds=seconds, peak_memory_bytes=memory)
    made_up_runs.COST, before = cost, made_up_runs.COST
    try:
        made_up_runs.write_run(CHAPTER, str(project / "a-model"), [found], given={"seed": 0})
    finally:
        made_up_runs.COST = before


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_measured_time_and_memory_are_those_of_the_runs(project):
    assert fits.measured_costs() == fits.NOTHING
    run(project, 0.8, seconds=150, memory=3 * 10**9)
    said = fits.measured_costs()
    assert f"| {{chapter}}`{CHAPTER}` | 2.5 minutes, 3 GB |" in said.splitlines()
    assert said.splitlines()[0] == "| measured | `a-model` |"
    run(project, 0.8, seconds=30, memory=10**7)  # its process held 100 MB
    assert f"| {{chapter}}`{CHAPTER}` | 30 seconds, 100 MB |" in fits.measured_costs()


def test_every_model_of_the_catalogue_is_calculated():
    lines = fits.fits_table().splitlines()
    assert cells(lines[0]) == ["calculated", "weights", "in all", *TYPICAL]
    rows = {cells(line)[0].strip("`"): cells(line) for line in lines[2:] if line.startswith("|")}
    assert [*rows] == [*catalogue()]
    assert rows["bloom"][1] == "352 GB, bfloat16"
    assert rows["bloom"][3] == "no" and rows["bloom"][6] == "yes"
    assert rows["bloom"][4].startswith("offloaded")
    assert rows["gpt2"][3:] == ["yes"] * 4
    small = fitting.Fit(where="no", narrower="bfloat16")
    assert (fits._short(small), fits._short(fitting.Fit(where="no"))) == ("in bfloat16", "no")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 seconds"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (7199, "120 minutes"),
        (9000, "2.5 hours"),
        (86_400 * 2, "2 days"),
        (86_400 * 1500, "1,500 days"),
    ],
)
def test_durations(seconds, said):
    assert duration(seconds) == said


def test_a_dtype_that_would_fit_is_named():
    assert fits.where(fitting.Fit(where="no", narrower="bfloat16")) == "in bfloat16"
    spread = fitting.Offload(gpus=1, memory=2 * 10**9, disk=0, seconds=7200)
    found = fitting.Fit(where="offloaded", narrower="bfloat16", offload=spread)
    said = "offloaded: 2 GB in memory, 2 hours of moving weights; in bfloat16"
    assert fits.where(found) == said


@pytest.fixture
def counts(monkeypatch) -> dict:
    """One chapter, as deep as it is: a million token passes a block at 10 layers of width 100."""
    found = {"blocks": 10**6 * 2 * 12 * 100**2, "attention": 10**6 * 100, "head": 4_000 * 100 * 500}
    found |= {"other": 0, "stream": 1000, "tokens": 50, "items": 2000}
    deeper = {str(n): {"all": {k: v * n // 10 for k, v in found.items()}} for n in (10, 20, 30, 40)}
    for depth in deeper.values():
        depth[CHAPTER] = depth["all"]
    told = {
        "sizes": {"layers": 10, "width": 100, "vocabulary": 500},
        "chapters": {CHAPTER: found, "all": found},
        "by_layers": deeper,
        "model": "small",
        "n_items": 0,
        "few_items": 5,
        "date": "2026-01-02",
        "versions": {"torch": "1.2"},
    }
    monkeypatch.setattr(costing, "counted", lambda root=None: told)
    return told


def test_the_plan_says_what_the_arithmetic_gives(counts):
    said = plan_bloom.plan()
    operations = 7 * 10**6 * 2 * 12 * 14_336**2 + 7 * 4_000 * 14_336 * 250_880
    shown = plan_bloom._number(operations)
    row = next(line for line in said.splitlines() if line.startswith(f"| {{chapter}}`{CHAPTER}"))
    assert cells(row)[1] == "2,000" and cells(row)[4] == shown
    assert plan_bloom._number(3.26e12) == "$3.3 \\times 10^{12}$"
    assert "= 2,466,250,752 weights" in said and "vocabulary of 250,880 tokens" in said
    least = re.search(r"fit on (\d+) GPUs of 80 GB", said)
    needs = fitting.needs_of(catalogue()["bloom"])
    assert (int(least[1]) - 1) * 72e9 < needs.on_device <= int(least[1]) * 72e9
    assert "is 0.0% off what was counted" in said


def test_every_column_of_the_plan_says_what_its_numbers_are(counts):
    lines = plan_bloom.plan().splitlines()
    heads = [one for one, rule in itertools.pairwise(lines) if rule.startswith("| ---")]
    assert len(heads) == 3
    for head in heads:
        assert re.search("counted|calculated", head)


def test_more_in_a_batch_takes_less_time(counts):
    spec = catalogue()["bloom"]
    (done, _) = costing.work(counts, costing.Shape(layers=70, width=14_336, vocabulary=9)).values()
    took = []
    for budget in plan_bloom.BUDGETS:
        needs = fitting.needs_of(spec, budget=budget)
        batch = needs.rows * needs.tokens
        how = {"weights": needs.in_dtype, "layers": 70, "batch": batch}
        took.append(costing.seconds(done, costing.ACCELERATORS[0], **how))
    assert took[1] < took[0]


def test_without_counts_nothing_is_planned(monkeypatch):
    monkeypatch.setattr(costing, "counted", lambda root=None: None)
    assert plan_bloom.plan() == plan_bloom.NOTHING
    assert "not been counted" in fits.chapter_needs()


def test_chapters_needs_are_their_own(counts):
    counts["chapters"]["02_more"] = {**counts["chapters"][CHAPTER], "stream": 3000}
    for depth in counts["by_layers"].values():
        depth["02_more"] = {**depth[CHAPTER], "stream": 3 * depth[CHAPTER]["stream"]}
    first, second = (cells(line) for line in fits.chapter_needs(["gpt2"]).splitlines()[2:4])
    assert (first[0], second[0]) == (f"{{chapter}}`{CHAPTER}`", "{chapter}`02_more`")
    batches = [cell.partition("; ")[0] for cell in (first[1], second[1])]
    assert batches[0] == batches[1] and re.fullmatch(r"\d+, with [\d.]+ MB", batches[0])
    assert first[1].endswith("; 3.69 MB") and second[1].endswith("; 11.1 MB")


def test_published_results_stand_beside_the_runs_here(project):
    assert published.published() == published.NOTHING
    run(project, 0.8)
    publish(str(project / "a-model"))
    said = published.published()
    assert "1 of 1 verdicts are the same; of the numbers, 4 equal." in said
    assert "| Stages | supported | supported | 4 equal | nothing |" in said
    assert "These are from the very runs that were published" in said
    (sidecar,) = paths.RUNS.glob("*/*.json")
    sidecar.write_text(sidecar.read_text().replace("2026-01-01T00", "2026-01-02T00"))
    assert "very runs" not in published.published()
    run(project, 0.3)
    said = published.published()
    (row,) = (line for line in said.splitlines() if line.startswith("| Stages |"))
    assert cells(row)[3] == "3 equal and 1 apart"
    (row,) = (line for line in said.splitlines() if "0.80 [0.70, 0.90]" in line and "apart" in line)
    assert cells(row)[2:] == [
        "0.80 [0.70, 0.90], n = 100",
        "0.30 [0.20, 0.40], n = 100",
        "**apart**",
    ]


def test_published_results_that_were_changed_are_told(project):
    run(project, 0.8)
    publish(str(project / "a-model"))
    (path,) = paths.PUBLISHED.rglob("claims/*.json")
    path.write_text(path.read_text().replace("0.8", "0.9"))
    said = published.published()
    assert "cannot be compared:** A: claims/stages.json is not what was published." in said


def test_a_chapter_that_was_not_run_here_is_no_difference(project):
    run(project, 0.8)
    publish(str(project / "a-model"))
    next(paths.RUNS.iterdir()).rename(paths.RUNS / "other")
    assert published.published() == published.NOTHING
