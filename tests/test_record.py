"""What is kept of runs and committed: their claims (`test_published` has their pages)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import trivial
from made_up_runs import (
    RETRIEVAL,
    STAGES,
    claim,
    finding,
    make_project,
    shares,
    stages_of,
    write_failure,
    write_run,
)
from ovectors import cli, paths, record, runs
from ovectors.errors import UserError


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    return trivial.enter(make_project(tmp_path / "project"), monkeypatch)


def published_runs(project: Path, *names: str) -> Path:
    for name in names:
        write_run(name, "gpt2", stages_of("gpt2") if name == STAGES else [], table=None)
    return record.publish("gpt2")


def test_what_was_committed_counts_where_there_is_no_run(project):
    write_run(STAGES, "gpt2", stages_of("gpt2"), table=shares({"past_tense": 0.5}))
    folder = record.publish("gpt2")
    assert folder == project / "book" / "results" / "gpt2"
    assert {name for name in trivial.files_below(folder) if not name.startswith("pages/")} == {
        "record.json",
        "claims/stages.json",
        "stage-shares.parquet",
    }
    here = finding("gpt2")
    claims_here = here.claims
    shutil.rmtree(project / "book" / "runs")
    there = finding("gpt2")
    assert (there.condition, there.origin) == ("whole", "committed")
    assert there.claims == claims_here and there.kept == here.kept
    assert there.table("stage-shares").parent == folder
    write_run(STAGES, "gpt2", [claim("stages", "gpt2", {"past_tense": 0.1, "uppercase": 0.1})])
    assert finding("gpt2").origin == "run here"
    assert [one.verdict for one in finding("gpt2").claims] == ["not supported"]


@pytest.mark.parametrize("trouble", ["failed", "broken"])
def test_a_run_that_is_none_does_not_hide_what_was_committed(project, trouble):
    published_runs(project, STAGES)
    place = runs.Place(model="gpt2", chapter=STAGES)
    if trouble == "broken":
        place.notebook.write_text("changed")
    else:
        shutil.rmtree(place.folder)
        write_failure(STAGES, "gpt2", "no memory")
    assert finding("gpt2").origin == "committed"


@pytest.mark.parametrize("damage", ["claim", "record", "gone"])
def test_a_committed_claim_that_was_altered_does_not_count(project, damage):
    folder = published_runs(project, STAGES)
    shutil.rmtree(project / "book" / "runs")
    path = folder / ("record.json" if damage == "record" else "claims/stages.json")
    if damage == "gone":
        path.unlink()
    else:
        path.write_text(path.read_text().replace('"supported"', '"partly"')[:-3])
    one = finding("gpt2")
    assert one.condition == "broken" and "record.json" in one.reason and one.claims == []


def test_publishing_refuses_what_is_not_whole_and_current(project, capsys):
    with pytest.raises(UserError, match="no chapter has a run on gpt2"):
        record.publish("gpt2")
    first = write_run(STAGES, "gpt2", stages_of("gpt2"))
    second = write_run(RETRIEVAL, "gpt2")
    content = second.notebook.read_bytes()
    second.notebook.write_text("changed")
    assert cli.main(["publish", "gpt2"]) == cli.BAD_INPUT
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and f"{RETRIEVAL} on gpt2 is broken" in said
    second.notebook.write_bytes(content)
    trivial.write_chapter(project, STAGES, text="# Another text")
    with pytest.raises(UserError, match=rf"{STAGES} on gpt2 is stale \(changed since: chapter\)"):
        record.publish("gpt2")
    assert not (project / "book" / "results").exists()
    write_run(STAGES, "gpt2", stages_of("gpt2"))
    assert cli.main(["publish", "gpt2"]) == 0
    assert first.model in capsys.readouterr().out


def test_publishing_again_replaces_a_chapter_and_keeps_the_others(project):
    folder = published_runs(project, STAGES, RETRIEVAL)
    shutil.rmtree(project / "book" / "runs")
    write_run(STAGES, "gpt2", [claim("stages", "gpt2", {"past_tense": 0.1, "uppercase": 0.1})])
    (folder / "claims" / "stray.json").write_text("{}")
    record.publish("gpt2")
    kept = {one.chapter for one in record.read_record(folder).chapters}
    assert kept == {STAGES, RETRIEVAL}
    shutil.rmtree(project / "book" / "runs")
    assert [one.verdict for one in finding("gpt2").claims] == ["not supported"]
    assert finding("gpt2", RETRIEVAL).origin == "committed"
    assert not (folder / "claims" / "stray.json").exists()


@pytest.mark.parametrize("copied", [0, 1])
def test_publishing_that_was_ended_on_the_way_is_mended_by_the_same_command(
    project, monkeypatch, copied
):
    folder = published_runs(project, STAGES, RETRIEVAL)
    shutil.rmtree(project / "book" / "runs")
    new = [claim("stages", "gpt2", {"past_tense": 0.1, "uppercase": 0.1})]
    write_run(STAGES, "gpt2", new, table=shares({"past_tense": 0.5}))
    real, done = shutil.copyfile, []

    def ended(source: Path, target: Path) -> None:
        if len(done) == copied:
            raise KeyboardInterrupt
        done.append(real(source, target))

    with monkeypatch.context() as patch:
        patch.setattr(record.shutil, "copyfile", ended)
        with pytest.raises(KeyboardInterrupt):
            record.publish("gpt2")
    assert not [*folder.rglob(".*")]
    with monkeypatch.context() as patch:
        patch.setattr(paths, "RUNS", project / "nowhere")
        between = finding("gpt2")
        old = (between.condition, [one.verdict for one in between.claims])
        assert old == (("broken", []) if copied else ("whole", ["supported"]))
        assert finding("gpt2", RETRIEVAL).origin == "committed"
    record.publish("gpt2")
    shutil.rmtree(project / "book" / "runs")
    assert [one.verdict for one in finding("gpt2").claims] == ["not supported"]
    assert finding("gpt2", RETRIEVAL).origin == "committed"
