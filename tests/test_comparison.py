"""Comparing models: a chapter that runs once, after all others, and what it gets to read."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pandas as pd
import pytest

import trivial
from made_up_runs import (
    RETRIEVAL,
    STAGES,
    claim,
    finding,
    make_project,
    save,
    shares,
    stages_of,
    write_failure,
    write_run,
)
from ovectors import (
    batch,
    catalogue,
    cli,
    comparison,
    fragments,
    notebooks,
    pages,
    paths,
    record,
    runs,
)
from ovectors.catalogue import ModelSpec
from ovectors.errors import UserError
from ovectors.notebooks import Chapter

ACROSS = "06_across_models"


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    return trivial.enter(make_project(tmp_path / "project"), monkeypatch)


def write_across(project: Path, **settings: str) -> Path:
    path = trivial.write_chapter(project, ACROSS, **settings)
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["ovectors"] = {"scope": "all models"}
    nbformat.write(notebook, path)
    return path


def chapter(name: str) -> Chapter:
    return next(one for one in notebooks.find_chapters() if one.name == name)


# What is gathered


def test_a_whole_run_is_read_with_its_claims_and_tables(project):
    write_run(STAGES, "gpt2", stages_of("gpt2"), table=shares({"past_tense": 0.5}))
    one = finding("gpt2")
    assert (one.condition, one.origin, one.changed) == ("whole", "run here", ())
    assert [found.verdict for found in one.claims] == ["supported"]
    assert pd.read_parquet(one.table("stage-shares"))["relation"].unique() == ["past_tense"]
    others = [one for one in comparison.gather() if one.chapter != STAGES]
    assert {one.condition for one in others} == {"not run"} and len(others) > 3
    assert {one.model for one in comparison.gather()} == {"gpt2"}


def test_nothing_run_is_nothing_gathered(project):
    assert comparison.gather() == []


def test_what_was_made_from_other_sources_says_so(project):
    write_run(STAGES, "gpt2", stages_of("gpt2"))
    trivial.write_chapter(project, STAGES, text="# Another text")
    assert finding("gpt2").changed == ("chapter",)
    assert finding("gpt2").condition == "whole"


def test_failed_refused_and_broken_are_told_apart(project):
    write_failure(STAGES, "gpt2", "ZeroDivisionError: division by zero (in code cell 3)")
    write_failure(RETRIEVAL, "gpt2", "it fails its self-check", refused=True)
    place = write_run("05_zero_shot", "gpt2")
    place.notebook.write_text("changed")
    told = {one.chapter: (one.condition, one.reason) for one in comparison.gather()}
    assert told[STAGES] == ("failed", "ZeroDivisionError: division by zero (in code cell 3)")
    assert told[RETRIEVAL] == ("refused", "it fails its self-check")
    assert told["05_zero_shot"] == ("broken", "its notebook is missing or was changed")
    assert all(one.claims == [] for one in comparison.gather())


def test_a_whole_run_counts_whatever_failed_after_it(project):
    write_run(STAGES, "gpt2", stages_of("gpt2"))
    write_failure(STAGES, "gpt2", "ZeroDivisionError")
    assert finding("gpt2").condition == "whole" and len(finding("gpt2").claims) == 1


@pytest.mark.parametrize("damage", ["claim", "table", "stray", "gone"])
def test_a_claim_that_was_altered_does_not_count(project, damage):
    place = write_run(STAGES, "gpt2", stages_of("gpt2"), table=shares({"past_tense": 0.5}))
    path = place.results / "claims" / "stages.json"
    if damage == "claim":
        path.write_text(path.read_text().replace("supported", "partly"))
    elif damage == "table":
        shares({"past_tense": 0.9}).to_parquet(place.results / "stage-shares.parquet")
    elif damage == "stray":
        (place.results / "claims" / "beyond.json").write_text("{}")
    else:
        path.unlink()
    one = finding("gpt2")
    assert (one.condition, one.claims) == ("broken", [])


def test_runs_by_hand_count_after_those_of_the_batch(project, tmp_path):
    by_hand = tmp_path / "elsewhere" / "results"
    folder = by_hand / "gpt2" / STAGES
    folder.mkdir(parents=True)
    save(folder, STAGES, "gpt2", stages_of("gpt2"), {}, {"model": "gpt2", "n_items": 7}, 5)
    assert comparison.gather() == []
    one = finding("gpt2", by_hand=by_hand)
    assert (one.origin, one.kept.parameters["n_items"], len(one.claims)) == ("run by hand", 7, 1)
    (folder / "claims" / "stages.json").write_text("{}")
    assert finding("gpt2", by_hand=by_hand).condition == "broken"
    write_run(STAGES, "gpt2", stages_of("gpt2"))
    assert finding("gpt2", by_hand=by_hand).origin == "run here"


def test_a_model_that_has_gone_leaves_its_results(project):
    """Its folder was removed: the run stands, and nothing of it is said to have changed."""
    folder = trivial.write_model(project / "mine")
    spec = ModelSpec(name="mine", folder=folder)
    place = write_run(STAGES, spec, stages_of("mine"))
    assert runs.recorded_state(place, chapter(STAGES)).kind == "current"
    shutil.rmtree(folder)
    assert runs.recorded_state(place, chapter(STAGES)).kind == "current"
    assert finding(place.model).changed == ()


# When the chapter is run


def plan(*models: str, **given: str) -> list[batch.Job]:
    return [*batch.plan(models, notebooks.find_chapters(), given)]


def test_it_is_planned_once_and_last(project):
    write_across(project)
    trivial.write_model(project / "b-model")
    jobs = plan("./a-model", "./b-model")
    names = [(job.chapter.name, job.spec.name) for job in jobs]
    assert names[-1] == (ACROSS, "all") and names.count(names[-1]) == 1
    assert sum(name == "07_beyond" for name, _ in names) == 2
    assert jobs[-1].place.folder == project / "book" / "runs" / "all"
    assert jobs[-1].parameters["model"] == "all"


def test_its_parameters_are_its_own_unless_it_is_alone(project):
    write_across(project, parameters='model = "all"\nseed = 0')
    *_, job = plan("./a-model", n_items="3", seed="1")
    assert job.parameters == {"model": "all", "seed": 1}
    with pytest.raises(UserError, match="chapter 6 has no parameter 'n_items'"):
        batch.plan(["./a-model"], notebooks.choose_chapters(["6"]), {"n_items": "3"})
    with pytest.raises(UserError, match="has no parameter 'n_itmes'"):
        plan("./a-model", n_itmes="3")


def across_state() -> runs.State:
    place = runs.Place(model=runs.ALL, chapter=ACROSS)
    return comparison.recorded_state(place, chapter(ACROSS))


@pytest.fixture
def compared(project, monkeypatch):
    """A project in which the comparing chapter is whole and current, and reads one claim."""
    write_across(project)
    write_run(STAGES, "gpt2", stages_of("gpt2"))
    write_run(ACROSS, comparison.ALL_MODELS)
    (job,) = batch.plan([], notebooks.choose_chapters(["6"]), {})
    assert not job.needed
    assert across_state().kind == "current"
    return project


def test_it_goes_stale_when_anything_it_reads_changes(compared):
    def stale() -> bool:
        state = across_state()
        assert state.kind == "current" or state.changed == ("results",)
        assert state.shown == (state.kind == "current")
        return state.kind == "stale"

    claims_before = stages_of("gpt2")
    write_run(STAGES, "gpt2", [claim("stages", "gpt2", {"past_tense": 0.1})])
    assert stale()
    write_run(STAGES, "gpt2", claims_before)
    assert not stale()
    write_run(STAGES, "gpt2", claims_before, table=shares({"past_tense": 0.5}))
    assert stale()
    write_run(STAGES, "gpt2", claims_before)
    failed = write_failure(RETRIEVAL, "gpt2", "no memory").failed
    assert stale()
    failed.unlink()
    assert not stale()
    write_run(RETRIEVAL, "gpt2-medium")
    assert stale()
    shutil.rmtree(compared / "book" / "runs" / "gpt2-medium")
    assert not stale()
    record.publish("gpt2")
    assert not stale()  # what is hidden behind a run is not read
    shutil.rmtree(compared / "book" / "runs" / "gpt2")
    assert stale()


def test_another_text_of_a_chapter_makes_it_stale_too(compared):
    trivial.write_chapter(compared, STAGES, text="# Another text")
    assert across_state().changed == ("results",)


def test_what_fits_the_machine_changes_it_but_does_not_hide_the_page(compared, monkeypatch):
    monkeypatch.setattr(catalogue, "machine_memory", lambda: 10**9)
    state = across_state()
    assert (state.kind, state.changed, state.shown) == ("stale", ("model",), True)


@pytest.mark.kernel
def test_it_runs_after_the_others_and_again_only_when_they_changed(project):
    write_across(project)
    trivial.write_model(project / "b-model")
    for path in (project / "chapters").glob("*.ipynb"):
        if path.stem not in (STAGES, ACROSS):
            path.unlink()

    def run(*models: str, **given: str) -> list[str]:
        outcomes = batch.run_jobs(plan(*models, **given), report=lambda line: None)
        return [f"{one.kind} {one.job.chapter.number}" for one in outcomes]

    assert run("./a-model") == ["done 1", "done 6"]
    assert run("./a-model") == ["current 1", "current 6"]
    assert run("./a-model", "./b-model") == ["current 1", "done 1", "done 6"]
    assert trivial.executions(project)[-1].startswith(ACROSS)
    assert run("./b-model") == ["current 1", "current 6"]
    assert (project / "book" / "runs" / "all" / f"{ACROSS}.json").exists()
    assert len(runs.models_with_runs()) == 2
    trivial.write_chapter(project, STAGES, extra="1 / 0")
    outcomes = batch.run_jobs(plan("./a-model"), keep_going=True, report=lambda line: None)
    assert [one.kind for one in outcomes] == ["failed", "done"]


# What the book shows


TOC = {
    "parts": [
        {
            "caption": "Chapters",
            "chapters": [
                {"file": f"runs/gpt2/{STAGES}"},
                {"file": f"runs/all/{ACROSS}"},
                {"file": "runs/gpt2/07_beyond"},
            ],
        }
    ]
}


def test_the_book_shows_it_once_beside_the_reference_models_pages(compared):
    write_run("07_beyond", "gpt2")
    write_run(STAGES, "gpt2-medium", stages_of("gpt2-medium"))
    said: list[str] = []
    shown = [page.document for page in pages.collect_pages(TOC, said.append)]
    assert shown == [f"runs/gpt2/{STAGES}", "runs/gpt2/07_beyond", f"runs/gpt2-medium/{STAGES}"]
    assert f"left out: {ACROSS} on all, stale (changed since: results)" in said
    shutil.rmtree(compared / "book" / "runs" / "gpt2-medium")
    shutil.rmtree(compared / "book" / "runs" / "gpt2" / "07_beyond")
    (compared / "book" / "runs" / "gpt2" / "07_beyond.json").unlink()
    (compared / "book" / "runs" / "gpt2" / "07_beyond.ipynb").unlink()
    found = pages.collect_pages(TOC, said.append)
    assert [page.document for page in found] == [f"runs/gpt2/{STAGES}", f"runs/all/{ACROSS}"]
    assert all(page.is_reference for page in found)
    assert pages.reference_model(TOC) == "gpt2"
    assert pages.book_toc(TOC, found)["parts"][0]["chapters"] == [
        {"file": page.document} for page in found
    ]


def test_a_comparison_alone_is_no_book(compared):
    shutil.rmtree(compared / "book" / "runs" / "gpt2")
    with pytest.raises(UserError, match="no chapter has a whole and current run on gpt2"):
        pages.collect_pages(TOC, lambda line: None)


def test_the_front_page_quotes_the_reference_model_and_all_models(compared):
    found = pages.collect_pages(TOC, lambda line: None)
    said = "\n".join(fragments.quoted_findings(found))
    own, across = said.split(":::{dropdown} ")[1:]
    assert ", on gpt2\n" in own and f"\n- {STAGES} on gpt2." in own
    assert f"From {{doc}}`/runs/gpt2/{STAGES}`.\n:::\n" in own
    assert f"From {{doc}}`/runs/all/{ACROSS}`.\n:::\n" in across and "on gpt2\n:" not in across
    (card,) = fragments.claim_cards(found[:1])
    assert (card.claim.id, card.claim.verdict) == ("stages", "supported")


def test_results_are_not_copied_into_the_books_source(compared):
    (paths.BOOK / "index.md").write_text("# Index\n")
    (paths.ROOT / "_config.yml").write_text("title: A book\n")
    record.publish("gpt2")
    found = pages.collect_pages(TOC, lambda line: None)
    target = paths.BUILD / "source"
    pages.assemble(target, found, TOC)
    assert (target / "index.md").exists() and not (target / "results").exists()
    assert (target / "runs" / "all" / f"{ACROSS}.ipynb").exists()


def test_status_shows_it_once(compared, capsys):
    write_run(STAGES, "gpt2-medium")
    assert cli.main(["status"]) == 0
    rows = [line.split()[:3] for line in capsys.readouterr().out.splitlines() if ACROSS in line]
    assert rows == [["all", ACROSS, "stale"]]
