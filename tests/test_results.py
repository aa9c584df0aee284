"""What a chapter leaves behind can be trusted, or is refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from ovectors import results

FRAME = pd.DataFrame({"layer": [0, 1], "rank": [1.5, 1.0], "task": ["a", "b"]})


def start(folder, **more):
    settings = {"chapter": "01_first", "model": "mini-2m", "parameters": {"n_items": np.int64(3)}}
    return results.ChapterRun(**{**settings, **more}, folder=folder)


def finished(folder):
    run = start(folder)
    run.save("ranks", FRAME, about="ranks by layer")
    run.save_json("numbers", {"mean": np.float32(0.5), "all": np.arange(3)})
    run.finish()
    return folder


def test_what_was_saved_comes_back(tmp_path):
    finished(tmp_path)
    pd.testing.assert_frame_equal(results.load_table(tmp_path, "ranks"), FRAME)
    assert results.load_json(tmp_path, "numbers") == {"mean": 0.5, "all": [0, 1, 2]}
    manifest = results.read_manifest(tmp_path)
    assert (manifest.chapter, manifest.model) == ("01_first", "mini-2m")
    assert manifest.parameters == {"n_items": 3}
    assert (manifest.file("ranks").rows, manifest.file("ranks").columns) == (2, [*FRAME.columns])
    assert manifest.provenance["versions"]["torch"]


def test_a_chapter_that_did_not_finish_is_refused(tmp_path):
    start(tmp_path).save("ranks", FRAME, about="")
    with pytest.raises(results.BrokenResult, match="did not finish"):
        results.read_manifest(tmp_path)


def test_starting_again_takes_the_old_manifest_away(tmp_path):
    start(finished(tmp_path))
    with pytest.raises(results.BrokenResult, match="did not finish"):
        results.read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["ranks.parquet", "numbers.json"])
def test_a_changed_file_is_refused_by_name(tmp_path, name):
    path = finished(tmp_path) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(results.BrokenResult, match=f"{name} is not what"):
        results.read_manifest(tmp_path)
    path.unlink()
    with pytest.raises(results.BrokenResult, match=f"{name} is missing"):
        results.read_manifest(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "field", "unknown"])
def test_a_broken_manifest_is_refused_in_one_line(tmp_path, damage):
    path = finished(tmp_path) / results.MANIFEST
    manifest = json.loads(path.read_text())
    if damage == "cut":
        path.write_text(path.read_text()[:-20])
    elif damage == "field":
        path.write_text(json.dumps({**manifest, "files": None}))
    else:
        path.write_text(json.dumps({**manifest, "surprise": 1}))
    with pytest.raises(results.BrokenResult, match=r"manifest.json is broken: .+") as raised:
        results.read_manifest(tmp_path)
    assert "\n" not in str(raised.value)


def test_the_same_work_gives_the_same_bytes(tmp_path):
    contents = []
    for name in ("one", "two"):
        run = start(tmp_path / name)
        figure = Figure()
        figure.subplots().plot([1, 2, 3], label="line")
        run.save_figure("line", figure, about="a line that rises")
        run.save("ranks", FRAME, about="")
        run.finish()
        contents.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]
    assert {*contents[0]} == {"line.svg", "line.png", "ranks.parquet", results.MANIFEST}
    assert contents[0]["line.svg"].startswith(b"<?xml") and contents[0]["line.png"][1:4] == b"PNG"


def test_a_figure_names_the_tables_it_was_drawn_from(tmp_path):
    run = start(tmp_path)
    run.save("ranks", FRAME, about="")
    run.save_json("numbers", 1)
    for name in ("none-such", "numbers"):
        with pytest.raises(ValueError, match=f"drawn from '{name}'"):
            run.save_figure("line", Figure(), data=["ranks", name])
    run.save_figure("line", Figure(), data=["ranks"])
    drawn = [one for one in run.finish().files if one.kind == "figure"]
    assert [one.data for one in drawn] == [["ranks"], ["ranks"]]


def test_what_is_no_result_is_refused(tmp_path):
    run = start(tmp_path)
    with pytest.raises(ValueError, match="saved nothing"):
        run.finish()
    with pytest.raises(ValueError, match="has no columns"):
        run.save("empty", pd.DataFrame(), about="")
    with pytest.raises(ValueError, match="reset_index"):
        run.save("grouped", FRAME.set_index("task"), about="")
    with pytest.raises(ValueError, match="not 'Two Words'"):
        run.save_json("Two Words", 1)
    with pytest.raises(ValueError, match="JSON compliant"):
        run.save_json("nan", {"mean": float("nan")})
    run.save_json("numbers", 1)
    with pytest.raises(ValueError, match="already saved"):
        run.save("numbers", FRAME, about="")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["numbers.json"]


def test_that_no_item_qualified_is_a_result(tmp_path):
    run = start(tmp_path)
    run.save("ranks", FRAME[:0], about="")
    assert run.finish().file("ranks").rows == 0
    assert [*results.load_table(tmp_path, "ranks").columns] == [*FRAME.columns]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    results.write_json(path, {"old": 1})
    with pytest.raises(RuntimeError), results.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_results_go_where_the_batch_says_or_beside_the_user(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(results.OUTPUT_VARIABLE, raising=False)
    here = results.output_folder(chapter="01_first", model="EleutherAI/gpt-j-6b")
    assert here == tmp_path / "results" / "EleutherAI--gpt-j-6b" / "01_first"
    monkeypatch.setenv(results.OUTPUT_VARIABLE, str(tmp_path / "given"))
    assert results.output_folder(chapter="01_first", model="m") == tmp_path / "given"


@pytest.mark.parametrize(
    ("model", "folder"),
    [("gpt2", "gpt2"), ("a/b", "a--b"), ("/data/my model", "data--my-model"), ("..", "model")],
)
def test_a_model_name_is_safe_as_a_folder(model, folder):
    assert results.folder_name(model) == folder
