"""The explorer's data are what a pass by hand gives, and its files are read as written."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from ovectors import paths
from ovectors.cli import main
from ovectors.errors import UserError
from ovectors.experiments.shared.layers import Layers
from ovectors.explorer import data, files

SCRIPT = Path(__file__).resolve().parents[1] / "book" / "_static" / "explorer.js"
LAYERS = Layers(source=6, start=8)


@pytest.fixture(scope="module")
def found(mini):
    return data.explore(mini, "world_capitals", n_items=5, layers=LAYERS)


def by_hand(mini, text, change=None, *, capture=None):
    """Logits at the last token, with each FFN's output changed or captured by a plain hook."""
    handles = []
    for layer, block in enumerate(mini.model.transformer.h):

        def hook(module, args, output, layer=layer):
            if capture is not None:
                capture[layer] = output[0, -1].clone()
            if change is not None and layer >= LAYERS.start:
                return change.expand_as(output).clone()
            return None

        handles.append(block.mlp.register_forward_hook(hook))
    try:
        with torch.no_grad():
            ids = mini.tokenizer(text, return_tensors="pt")["input_ids"]
            return mini.model(ids).logits[0, -1]
    finally:
        for handle in handles:
            handle.remove()


def rank(logits, mini, word):
    (token,) = mini.tokenizer(f" {word}", add_special_tokens=False)["input_ids"][:1]
    return 1 + int((logits > logits[token]).sum())


def test_the_last_state_of_a_question_is_the_models_own_answer(mini, found):
    for item in found["items"]:
        logits = by_hand(mini, item["question"])
        tokens, shown, rank_argument, rank_answer = item["states"]["after"][-1]
        best = logits.topk(data.TOP)
        assert [found["words"][token] for token in tokens] == [
            mini.tokenizer.decode([int(token)]) for token in best.indices
        ]
        assert shown == pytest.approx(best.values.tolist(), abs=0.006)
        assert rank_answer == rank(logits, mini, item["answer"])
        assert rank_argument == rank(logits, mini, item["argument"])
        assert item["correct"] == (rank_answer == 1)


def test_changes_are_those_of_a_pass_by_hand(mini, found):
    example = next(one for one in found["items"] if one["argument"] == "Poland")
    outputs: dict = {}
    by_hand(mini, example["question"], capture=outputs)
    own = outputs[LAYERS.source]
    assert found["vector"] == {
        "argument": "Poland",
        "answer": "Warsaw",
        "source": LAYERS.source,
        "start": LAYERS.start,
        "chosen": "given",
    }
    for item in found["items"]:
        passes = {
            "pattern": by_hand(mini, item["pattern"]),
            "vector": by_hand(mini, item["pattern"], own),
            "removed": by_hand(mini, item["question"], torch.zeros_like(own)),
        }
        for name, logits in passes.items():
            token, rank_argument, rank_answer = item["runs"][name][-1]
            assert found["words"][token] == mini.tokenizer.decode([int(logits.argmax())])
            assert rank_argument == rank(logits, mini, item["argument"])
            assert rank_answer == rank(logits, mini, item["answer"])


def test_below_the_start_layer_nothing_is_changed(found):
    changed = 0
    for item in found["items"]:
        before = item["runs"]["pattern"]
        for name in ("vector", "random"):
            assert item["runs"][name][: LAYERS.start] == before[: LAYERS.start]
            changed += item["runs"][name] != before
    assert changed > 0


def test_the_papers_example_comes_first_and_no_item_is_there_twice(found):
    texts = [item["question"] for item in found["items"]]
    assert found["items"][0]["argument"] == "Poland" and len(set(texts)) == len(texts) == 5


def test_data_are_cut_to_the_budget(mini, monkeypatch, found):
    whole = data.size_of(found)
    monkeypatch.setattr(data, "MOST_BYTES", whole)
    few = data.explore(mini, "world_capitals", n_items=5, layers=LAYERS)
    assert 1 <= len(few["items"]) < 5 and data.size_of(few) < whole


def test_parallel_blocks_have_no_mid_state():
    from tiny_models import tiny

    model = tiny("gptj")
    found = data.explore(model, "world_capitals", n_items=2, layers=Layers(source=0, start=1))
    assert found["parts"] == ["after"] and "mid" not in found["items"][0]["states"]


def test_json_ends_no_script_element():
    assert json.loads(data.as_json({"a": "</script>"})) == {"a": "</script>"}
    assert "</" not in data.as_json({"a": "</script>"})


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BOOK", tmp_path / "book")
    return tmp_path / "book" / "explorer"


def test_files_are_written_once_read_back_and_listed(place, tmp_path, monkeypatch):
    said: list[str] = []
    settings = {"tasks": ["uppercase"], "n_items": 2, "report": said.append}
    (path,) = files.write("mini-2m", **settings)
    assert path == place / "mini-2m" / "uppercase.js"
    content = files.read(path)
    assert content["task"] == "uppercase" and len(content["items"]) == 2
    assert path.stat().st_size < data.MOST_BYTES
    assert files.write("mini-2m", **settings) == [] and said[-1].endswith("current")
    told = files.put(tmp_path / "out")
    assert told == "There are data of `mini-2m`."
    index = (tmp_path / "out" / "explorer" / "index.js").read_text("utf-8")
    assert json.loads(index[len("ovectorsExplorer.list(") : -len(");\n")]) == [
        {"model": "mini-2m", "task": "uppercase", "title": "Upper-casing"}
        | {"file": "mini-2m/uppercase.js"}
    ]
    assert (tmp_path / "out" / "explorer" / "mini-2m" / "uppercase.js").is_file()
    content["made"]["identity"] = "of other weights"
    path.write_text(f"{files.BEFORE}{data.as_json(content)}{files.AFTER}", "utf-8")
    assert "weights of `mini-2m` have changed since" in files.put(tmp_path / "again")
    assert (tmp_path / "again" / "explorer" / "mini-2m" / "uppercase.js").is_file()
    monkeypatch.setattr(files.catalogue, "is_here", lambda spec: False)
    assert files.put(tmp_path / "weightless") == "There are data of `mini-2m`."


def test_a_book_without_data_says_so(place, tmp_path):
    assert files.put(tmp_path) == "There are no data yet."
    assert (tmp_path / "explorer" / "index.js").read_text() == "ovectorsExplorer.list([]);\n"


def test_bad_input_is_one_line(place, tmp_path):
    with pytest.raises(UserError, match="unknown task 'nothing'"):
        files.write("mini-2m", tasks=["nothing"])
    wrong = tmp_path / "wrong.js"
    for text in ("alert(1)", f"{files.BEFORE}{{{files.AFTER}"):
        wrong.write_text(text)
        with pytest.raises(UserError, match=r"wrong\.js is"):
            files.read(wrong)
    assert not place.exists()


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_the_script_reads_the_data_as_they_are_meant(tmp_path, found):
    (tmp_path / "data.json").write_text(data.as_json(found), "utf-8")
    code = f"""
    const {{ parts }} = require({json.dumps(str(SCRIPT))});
    const data = require({json.dumps(str(tmp_path / "data.json"))});
    const item = data.items[0];
    console.log(JSON.stringify({{
        stages: [parts.stage(1, 1), parts.stage(1, 2), parts.stage(3, 2)],
        before: [parts.stateAt(item, "before", 0), parts.stateAt(item, "before", 4)],
        mid: parts.stateAt(item, "mid", 4),
        clean: parts.run(item, "none"),
        vector: parts.run(item, "vector"),
        said: parts.summary(item, [[0, 1, 2], [0, 5, 1], [0, 1, 3]], [" end"]),
        signs: [parts.visible(" Warsaw"), parts.visible("\\n"), parts.visible(" ")],
    }}));
    """
    told = json.loads(subprocess.run(["node", "-e", code], capture_output=True, check=True).stdout)
    item = found["items"][0]
    assert told["stages"] == ["answer", "argument", "neither"]
    assert told["before"] == [item["states"]["entry"][0], item["states"]["after"][3]]
    assert told["mid"] == item["states"]["mid"][4]
    assert told["clean"] == [[s[0][0], s[2], s[3]] for s in item["states"]["after"]]
    assert told["vector"] == item["runs"]["vector"]
    assert told["said"] == (
        "Poland is on top after 2 of the layers, first 0, last 2. "
        "Warsaw is on top after layer 1 alone. In the end end is on top."
    )
    assert told["signs"] == ["Warsaw", "↵", "␣"]


def test_the_command_writes_the_file_and_refuses_what_it_does_not_know(place, capsys):
    assert main(["explore", "mini-2m", "--task", "uppercase", "--n-items", "1"]) == 0
    assert "uppercase: 1 items" in capsys.readouterr().out
    assert len(files.read(place / "mini-2m" / "uppercase.js")["items"]) == 1
    assert main(["explore", "mini-2m", "--task", "nothing"]) == 2
