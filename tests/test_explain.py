"""Why something would run again: the part that changed is named, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import trivial
from ovectors import cli, explain, keys, notebooks, paths, runs, store
from ovectors.errors import UserError
from ovectors.experiments.stages import measure
from tiny_models import save_tiny

pytestmark = pytest.mark.kernel

ASKS = """
from ovectors.experiments.stages.measure import stages
from ovectors.store import Store
table = Store(model).table(stages, relation="uppercase", n_items=n_items)
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Path:
    """A project whose chapter asked for one table, and has run."""
    root = trivial.make_project(tmp_path_factory.mktemp("explain") / "project")
    save_tiny("gpt2", root / "tiny")
    trivial.write_chapter(root, extra=ASKS.strip())
    result = trivial.command(root, "run", "-m", "./tiny")
    assert result.returncode == 0, result.stderr
    assert "tables: 1 computed, 0 known" in result.stdout
    return root


@pytest.fixture
def project(ran, tmp_path, monkeypatch) -> Path:
    """A copy of it, with a copy of the library, in the same place for the folder's name."""
    for inside in ("book", "chapters"):
        shutil.copytree(ran / inside, tmp_path / inside)
    trivial.enter(tmp_path, monkeypatch)
    package = tmp_path / "library" / "ovectors"
    shutil.copytree(paths.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(paths, "PACKAGE", package)
    monkeypatch.chdir(ran)
    keys._remembered_hash.cache_clear()
    return tmp_path


def told(**given) -> explain.Explanation:
    (chapter,) = notebooks.find_chapters()
    return explain.explain("./tiny", chapter, given)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_nothing_would_run_again(project):
    found = told()
    assert (found.run.state, found.run.reasons) == ("current", ())
    (table,) = found.tables
    assert (table.what, table.state, table.reasons) == ("stages-stages", "current", ())
    assert table.settings == {"relation": "uppercase", "n_items": 2}


def test_a_rule_or_a_caption_runs_the_chapter_and_no_table(project):
    edit(paths.PACKAGE / "claims.py", "RULES", "_MORE = 1\nRULES")
    edit(paths.PACKAGE / "published.toml", "", "# more\n")
    found = told()
    assert found.run.state == "stale" and found.tables[0].state == "current"
    assert "library: claims.py is another" in found.run.reasons
    assert "data: published.toml is another" in found.run.reasons
    path = trivial.write_chapter(project, extra=ASKS.strip(), text="# Another caption")
    assert path.exists() and "chapter is another" in told().run.reasons
    assert told().tables[0].state == "current"


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        ("the experiment", "TOP_TOKENS = 5", "TOP_TOKENS = 6", "measure.TOP_TOKENS"),
        ("lens.py", "def decode(", "@staticmethod\ndef decode(", "library: lens.decode is another"),
        ("data/uppercase.csv", "argument", "argument", ""),
        ("data/uppercase.csv", "\n", "\nzebra,Zebra,colour\n", "data: data/uppercase.csv is"),
    ],
)
def test_what_a_table_is_made_of_is_named(project, file, old, new, reason):
    if file == "the experiment":
        inside = measure.stages.__module__.split(".")[1:]
        file = "/".join(inside) + ".py"
    edit(paths.PACKAGE / file, old, new)
    (table,) = told().tables
    assert table.state == ("stale" if reason else "current")
    assert len(table.reasons) == bool(reason)
    assert all(reason in line for line in table.reasons)


def test_parameters_versions_and_weights_are_named(project, ran, monkeypatch):
    found = told(n_items="3")
    assert found.run.reasons == ("parameters: n_items was 2, is 3",)
    weights = ran / "tiny" / "model.safetensors"
    content = weights.read_bytes()
    try:
        weights.write_bytes(content[:-1] + b"\x01")
        keys._remembered_hash.cache_clear()
        said = "model: files: model.safetensors is another"
        assert told().run.reasons == told().tables[0].reasons == (said,)
    finally:
        weights.write_bytes(content)
        keys._remembered_hash.cache_clear()
    versions = {**keys.results.versions(), "torch": "9.9"}
    monkeypatch.setattr(keys.results, "versions", lambda: versions)
    assert told().tables[0].reasons[0].startswith('versions: torch was "2')


def test_damage_and_what_is_gone_are_named(project):
    (path,) = (project / "book" / "runs").rglob("*.parquet")
    path.write_bytes(b"damaged")
    table = told().tables[0]
    assert (table.state, table.reasons) == ("broken", ("its table is not the one that was kept",))
    path.unlink()
    store.sidecar_path(path).unlink()
    assert told().tables[0].state == "missing"
    (run,) = (project / "book" / "runs").glob("*/01_first.json")
    run.unlink()
    found = told()
    assert found.run.state == "broken" and found.tables_of == "model" and found.tables == ()


def test_without_a_list_the_tables_kept_of_the_model_are_told(project):
    (run,) = (project / "book" / "runs").glob("*/01_first.json")
    run.unlink()
    found = told()
    assert found.tables_of == "model" and [table.state for table in found.tables] == ["current"]


def test_the_command_says_it_in_lines_and_as_json(project, capsys):
    edit(paths.PACKAGE / "lens.py", "def ranks(", "@staticmethod\ndef ranks(")
    assert cli.main(["explain", "./tiny", "first"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("on tiny: stale: library: lens.py is another")
    assert lines[1] == "tables of its last run: 0 current, 1 to compute again"
    assert lines[2].endswith("n_items=2): stale: library: lens.ranks is another")
    assert cli.main(["explain", "./tiny", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["run"]["state"] == said["tables"][0]["state"] == "stale"
    assert said["tables"][0]["reasons"] == ["library: lens.ranks is another"]
    for bad in (["gtp2", "1"], ["./tiny", "9"], ["all", "1"], ["./tiny", "1", "-p", "x=1"]):
        assert cli.main(["explain", *bad]) == cli.BAD_INPUT
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_chapter_across_models_is_explained_for_all(project):
    path = trivial.write_chapter(project, "02_across")
    notebook = json.loads(path.read_text())
    notebook["metadata"]["ovectors"] = {"scope": "all models"}
    path.write_text(json.dumps(notebook))
    _, chapter = notebooks.find_chapters()
    assert explain.explain(runs.ALL, chapter, {}).run.state == "missing"
    with pytest.raises(UserError, match=r"'all', not for './tiny'"):
        explain.explain("./tiny", chapter, {})
