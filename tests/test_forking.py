"""A fork is a chapter of its own that shares nothing with its source, and all of it or nothing."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

import trivial
from ovectors import batch, cli, keys, notebooks, studies
from ovectors.claims import RULES
from ovectors.forking import files
from ovectors.forking.files import fork
from ovectors.labels import own_labels
from ovectors.prose import beyond as prose
from trial_run import claims_of, copy_without_studies

SOURCES = sorted({int(rule.chapter[:2]) for rule in RULES.values()})
PAIRS = "argument,answer\n" + "".join(f"{word},{word.upper()}\n" for word in ("cat", "dog", "cow"))


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    return trivial.enter(copy_without_studies(tmp_path / "project"), monkeypatch)


@pytest.fixture
def refused(project, capsys):
    """Runs `ovectors fork`; gives its one line after checking that it wrote nothing."""

    def run(*arguments: str) -> str:
        before = trivial.files_below(project)
        code = cli.main(["fork", *arguments])
        out, err = capsys.readouterr()
        assert (code, out) == (2, "") and err.count("\n") == 1 and err.startswith("ovectors: ")
        assert trivial.files_below(project) == before
        return err

    return run


def cells(path: Path) -> list[nbformat.NotebookNode]:
    return nbformat.read(path, as_version=4).cells


def listed(project: Path) -> list[str]:
    toc = yaml.safe_load((project / "_toc.yml").read_text())
    return [entry["file"] for part in toc["parts"] for entry in part["chapters"]]


@pytest.mark.parametrize("source", SOURCES)
def test_a_fork_has_names_labels_ids_and_rules_of_its_own(project, source):
    (parent,) = notebooks.choose_chapters([str(source)])
    study, made = fork("my-study", str(source))
    assert study.chapter == "08_my_study" and all(path.is_file() for path in made)
    notebook = notebooks.read_notebook(study.notebook)
    nbformat.validate(notebook)
    labels, others = own_labels(notebook), own_labels(notebooks.read_notebook(parent.path))
    assert len(labels) == len(others) and not labels & others
    assert all(cell.id.startswith("my-study-") for cell in notebook.cells)
    sources_of_cells = notebooks.code_of(study.notebook)
    assert len(sources_of_cells) <= 20 and max(one.count("\n") for one in sources_of_cells) < 15
    code = "\n".join(sources_of_cells)
    assert f'"{study.chapter}"' in code and parent.name not in code
    captions = [
        c.metadata.get("mystnb", {}).get("figure", {}).get("caption") for c in cells(made[0])
    ]
    assert not [one for one in captions if one and f"({parent.name}/" in one]
    rules = studies.rules_of(study.chapter)
    assert next(iter(rules)) == "my_study" and not rules.keys() & RULES.keys()
    sources = [rule.id for rule in RULES.values() if rule.chapter == parent.name]
    assert [one.judges for one in studies.read_rules(study.chapter).values()] == sources
    assert code.count("studies.judge(") == len(rules) == code.count("save_claim(")


def test_a_fork_keeps_the_story_and_leaves_the_exercises(project):
    path = notebooks.choose_chapters(["5"])[0].path
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(
        -1, nbformat.v4.new_markdown_cell("## Exercises", metadata={"tags": ["exercises"]})
    )
    nbformat.write(notebook, path)
    study, _ = fork("more", "zero_shot", title="More of it")
    texts = [cell.source for cell in cells(study.notebook)]
    assert texts[0].startswith("# More of it\n\n:::{note}\nForked from {chapter}`zero shot <05_")
    assert "# Zero-shot prompts" not in texts[0] and "**What this chapter asks.**" in texts[0]
    assert not any("## Exercises" in text for text in texts)
    kept = [
        cell.source for cell in notebook.cells if "exercises" not in cell.metadata.get("tags", [])
    ]
    assert len(texts) == len(kept)
    assert any("ovectors run --model gpt2-medium --chapter 8" in text for text in texts)


def test_the_table_of_contents_gets_one_line_and_keeps_its_others(project):
    before = (project / "_toc.yml").read_text()
    fork("my-study", "03_content_independence")
    after = (project / "_toc.yml").read_text()
    (new,) = set(after.splitlines()) - set(before.splitlines())
    assert new.strip() == "- file: runs/mini-2m/08_my_study"
    assert after.replace(new + "\n", "") == before and before.startswith("#")
    assert listed(project).index("runs/mini-2m/08_my_study") == 1 + listed(project).index(
        "runs/mini-2m/07_beyond"
    )


def test_a_fork_can_be_forked(project):
    fork("first", "3")
    (project / "chapters" / "08_first" / "words.csv").write_text(PAIRS)
    study, made = fork("second", "first")
    assert study.number == 9 and study.folder / "words.csv" in made
    assert [*studies.rules_of(study.chapter)] == ["second", "second_first_function_specificity"]
    judged = [one.judges for one in studies.read_rules(study.chapter).values()]
    assert judged == ["content_independence", "function_specificity"]
    text = "\n".join(cell.source for cell in cells(study.notebook))
    assert "08_first" not in text.replace("<08_first>", "") and text.count("Forked from") == 1
    assert text.count("studies.judge(") == 2 and text.count("studies, studies") == 0


def test_pairs_take_the_place_of_the_relations(project, tmp_path):
    (tmp_path / "loud_words.csv").write_text(PAIRS)
    study, _ = fork("loud", "7", pairs=tmp_path / "loud_words.csv")
    assert (study.folder / "loud_words.csv").read_text() == PAIRS
    (cell,) = [c for c in cells(study.notebook) if "relations" in c.metadata.get("tags", [])]
    assert "MORE_RELATIONS" not in cell.source

    class Run:
        chapter = study.chapter

    names = {"studies": studies, "run": Run}
    exec(cell.source.split("display(")[0], names)
    (relation,) = names["relations"]
    assert relation.name == "loud_words" and relation.items[1].answer == "DOG"
    (rule,) = studies.rules_of(study.chapter).values()
    assert rule.needed == 1 and "loud words" in rule.question
    assert "| a reader's own | `Q: cat A: CAT` | 3 | 3 |" in prose.relation_table([relation])


BAD = {
    ("my-study", "--from", "12"): "there is no chapter '12'",
    ("my-study", "--from", ""): "there is no chapter ''",
    ("My Study", "--from", "3"): "cannot be called 'My Study'",
    ("3rd", "--from", "3"): "cannot be called '3rd'",
    ("a" * 41, "--from", "3"): "at most 40",
    ("../up", "--from", "3"): "cannot be called '../up'",
    ("beyond", "--from", "3"): "chapters/07_beyond.ipynb is there already",
    ("linear-update", "--from", "3"): "chapters/02_linear_update.ipynb is there already",
    ("function-specificity", "--from", "3"): "has a rule 'function_specificity'",
    ("my-study", "--from", "6"): "chapter 6 saves no claim",
    ("my-study", "--from", "3", "--pairs", "good.csv"): "--pairs goes with --from 7",
    ("my-study", "--from", "7", "--pairs", "none.csv"): "none.csv: no such file",
    ("my-study", "--from", "7", "--pairs", "bad.csv"): "bad.csv:3: the argument 'cat'",
    ("my-study", "--from", "7", "--pairs", "my words.csv"): "name the file of pairs",
    ("my-study", "--from", "7", "--title", "a\nb"): "a title is one line",
    ("my-study",): "Missing option '--from'",
}


@pytest.mark.parametrize("arguments", BAD, ids=" ".join)
def test_bad_input_is_one_line_and_writes_nothing(project, refused, arguments):
    (project / "good.csv").write_text(PAIRS)
    (project / "bad.csv").write_text(PAIRS.replace("dog,", "cat,"))
    assert BAD[arguments] in refused(*arguments)


@pytest.mark.parametrize("left", ["tests/test_my_study.py", "chapters/08_my_study/rules.toml"])
def test_half_an_earlier_study_is_named_and_left_alone(project, refused, left):
    (project / left).parent.mkdir(exist_ok=True)
    (project / left).write_text("[mine]\n" if left.endswith("py") else "")
    assert str(Path(left).parent if left.endswith("toml") else left) in refused(
        "my-study", "--from", "1"
    )


@pytest.mark.parametrize(
    "toc", ["", "format: jb-book\n", "parts: [{chapters: [{file: runs/mini-2m/07_beyond}]}]\n"]
)
def test_a_table_of_contents_that_takes_no_line_is_refused(project, refused, toc):
    (project / "_toc.yml").write_text(toc)
    assert "_toc.yml" in refused("my-study", "--from", "1")


@pytest.mark.parametrize("at", range(4))
def test_a_failure_while_writing_leaves_nothing(project, monkeypatch, at):
    before, writes = trivial.files_below(project), []
    real = files.atomic_path

    def failing(path):
        writes.append(path)
        if len(writes) > at:
            raise OSError(28, "No space left on device", str(path))
        return real(path)

    monkeypatch.setattr(files, "atomic_path", failing)
    assert cli.main(["fork", "my-study", "--from", "3"]) == 2
    assert len(writes) == at + 1 and trivial.files_below(project) == before
    assert not (project / "chapters" / "08_my_study").exists()


def test_undoing_a_fork_leaves_no_trace(project):
    before = trivial.files_below(project)
    study, made = fork("my-study", "2")
    for path in made[:-1]:
        path.unlink()
    study.folder.rmdir()
    toc = [
        one for one in made[-1].read_text().splitlines(keepends=True) if "08_my_study" not in one
    ]
    made[-1].write_text("".join(toc))
    assert trivial.files_below(project) == before


def test_a_fork_takes_a_rule_over_with_the_share_that_it_needs(project, tmp_path, monkeypatch):
    shared = dataclasses.replace(RULES["beyond"], share=1 / 3)
    monkeypatch.setitem(RULES, "beyond", shared)
    whole, _ = fork("my-study", "7")
    (rule,) = studies.rules_of(whole.chapter).values()
    assert (rule.needed, rule.share, rule.sentence) == (5, 1 / 3, shared.sentence)
    (tmp_path / "loud_words.csv").write_text(PAIRS)
    one, _ = fork("loud", "7", pairs=tmp_path / "loud_words.csv")
    (rule,) = studies.rules_of(one.chapter).values()
    assert (rule.needed, rule.share) == (1, 0)


def test_what_a_study_has_of_its_own_belongs_to_its_key_and_to_no_other(project):
    study, _ = fork("my-study", "1")
    mine, source = notebooks.choose_chapters(["8"])[0], notebooks.choose_chapters(["1"])[0]
    before = {one.name: keys.source_parts(one) for one in (mine, source)}
    rules = study.folder / "rules.toml"
    assert tomllib.loads(rules.read_text())["my_study"]["needed"] == 2
    rules.write_text(rules.read_text().replace("needed = 2", "needed = 3"))
    (study.folder / "pairs.csv").write_text(PAIRS)
    after = keys.source_parts(mine)
    told = keys.differences(before[mine.name], after)
    assert told == [
        "data: 08_my_study/pairs.csv is new",
        "data: 08_my_study/rules.toml is another",
    ]
    assert keys.source_parts(source) == before[source.name]


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_a_fork_runs_and_ends_in_verdicts_by_its_own_rules(
    project, source, untrained_folder, tmp_path, monkeypatch
):
    study, _ = fork("my-study", str(source))
    monkeypatch.setenv("OVECTORS_ROOT", str(project))
    found = claims_of(study.chapter, model=untrained_folder, folder=tmp_path)
    rules = studies.rules_of(study.chapter)
    assert found.keys() == rules.keys()
    for name, claim in found.items():
        assert (claim.chapter, claim.rule) == (study.chapter, rules[name].sentence)
        assert claim.verdict in ("not supported", "not testable here")
    saved = json.loads((tmp_path / "results" / "manifest.json").read_text())
    assert len([one for one in saved["files"] if one["kind"] == "claim"]) == len(rules)


def test_a_fork_is_planned_like_any_chapter(project):
    study, _ = fork("my-study", "3")
    trivial.write_model(project / "a-model")
    (job,) = batch.plan(["./a-model"], notebooks.choose_chapters(["my_study"]), {})
    assert (job.chapter.name, job.why) == (study.chapter, "never run")
