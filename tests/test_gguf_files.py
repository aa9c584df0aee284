"""GGUF files against the package that writes them, transformers' reading, the model itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from ovectors import catalogue as module
from ovectors import gguf_files, keys, paths, runs
from ovectors.catalogue import Gguf, ModelSpec, is_here, model_spec
from ovectors.errors import UserError
from ovectors.models import load_model
from tiny_gguf import FAMILIES, KINDS, dequantised, random_model, write_gguf
from tiny_models import refused, tiny_tokenizer

IDS = torch.tensor([[5, 17, 99, 3, 250, 31, 8, 44, 12]])
TEXTS = ("The capital of Poland is", " 12 tokens\n\nand  more", "żółć")


@pytest.fixture(autouse=True)
def cached(tmp_path: Path, monkeypatch) -> Path:
    """A cache of its own."""
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_folder_holds_what_the_file_holds(family: str, kind: str, tmp_path: Path) -> None:
    model = write_gguf(tmp_path / "tiny.gguf", family, kind)
    folder = model_spec(tmp_path / "tiny.gguf").folder
    known = {
        name: dequantised(family, kind, name, weights)
        for name, weights in model.state_dict().items()
    }
    found = load_file(folder / "model.safetensors")
    assert set(found) <= set(known)
    assert all(torch.equal(weights, known[name]) for name, weights in found.items())
    read = AutoModelForCausalLM.from_pretrained(folder)
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="tiny.gguf", dtype=torch.float32
    )
    assert torch.equal(logits(read), logits(theirs))
    model.load_state_dict(known)  # and positions, windows, norms: all of the config has come over
    assert torch.equal(logits(read), logits(model))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if family == "gemma3":
        tokens = ["<bos>", "t", "▁a", "▁b", "d", "<0x5A>"]  # and a byte for what no token is
        assert tokenizer("t a bdZ").tokens() == tokens
        return
    assert [tokenizer(text).input_ids for text in TEXTS] == [
        tiny_tokenizer()(text).input_ids for text in TEXTS
    ]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_large_models_are_stored_in_bfloat16(family: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(gguf_files, "MOST_IN_FLOAT32", 1000)
    model = write_gguf(tmp_path / "tiny.gguf", family, "Q8_0")
    folder = model_spec(tmp_path / "tiny.gguf").folder
    assert module.manifest_of(folder)["dtype"] == "bfloat16"
    read = AutoModelForCausalLM.from_pretrained(folder)
    assert read.dtype == torch.bfloat16
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="tiny.gguf", dtype=torch.bfloat16
    )
    assert torch.equal(logits(read), logits(theirs))
    model.load_state_dict(
        {name: dequantised(family, "Q8_0", name, one) for name, one in model.state_dict().items()}
    )
    for name, weights in load_file(folder / "model.safetensors").items():
        assert torch.equal(weights, model.state_dict()[name].to(torch.bfloat16))


def test_the_manifest_tells_what_was_converted(tmp_path: Path) -> None:
    write_gguf(tmp_path / "my tiny.gguf", "llama", "Q4_0")
    spec = model_spec(tmp_path / "my tiny.gguf")
    told = json.loads((spec.folder / "manifest.json").read_text())
    assert spec.name == "my-tiny" and spec.source == "my tiny.gguf" and is_here(spec)
    assert told["tensors"] == {"Q4_0": 16, "F32": 5}  # two layers of 7 matrices, embedding, head
    assert told["gguf"]["quantisation"] == "Q4_0" and told["dtype"] == "float32"
    assert set(told["versions"]) == {"torch", "transformers", "gguf"}
    assert (spec.gguf.file, spec.gguf.quantisation) == ("my tiny.gguf", "Q4_0")
    assert str(tmp_path) not in "".join(
        path.read_text("utf-8") for path in spec.folder.glob("*.json")
    )


def test_a_file_is_a_model_like_any_other(tmp_path: Path, monkeypatch) -> None:
    write_gguf(tmp_path / "tiny.gguf", "llama", "Q8_0")
    model = load_model(tmp_path / "tiny.gguf")
    assert model.model.dtype == torch.float32  # loaded, and checked
    assert model.provenance["quantisation"] == "Q8_0" and model.provenance["source"] == "tiny.gguf"
    spec = model_spec(tmp_path / "tiny.gguf")
    assert model_spec(spec.folder) == spec  # which is what a notebook is given
    # Neither key nor place depends on where the cache is.
    identity, place = keys.model_identity(spec), runs.folder_of(spec)
    monkeypatch.setattr(paths, "CACHE", tmp_path / "elsewhere")
    moved = model_spec(tmp_path / "tiny.gguf")
    assert moved.folder != spec.folder
    assert (keys.model_identity(moved), runs.folder_of(moved)) == (identity, place)
    # It is the file's content that counts.
    write_gguf(tmp_path / "tiny.gguf", "llama", "Q4_0")
    assert keys.model_identity(model_spec(tmp_path / "tiny.gguf")) != identity


def test_a_file_is_converted_once(tmp_path: Path, monkeypatch) -> None:
    write_gguf(tmp_path / "tiny.gguf", "qwen2")
    folder = model_spec(tmp_path / "tiny.gguf").folder
    shutil.copy(tmp_path / "tiny.gguf", tmp_path / "other.gguf")
    monkeypatch.setattr(gguf_files, "_write", None)  # it would be called
    assert model_spec(tmp_path / "tiny.gguf").folder == folder
    assert model_spec(tmp_path / "other.gguf").folder == folder
    monkeypatch.undo()


def test_a_folder_that_lost_a_file_is_made_again(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", "qwen2")
    spec = model_spec(tmp_path / "tiny.gguf")
    (spec.folder / "model.safetensors").write_bytes(b"cut")
    assert not is_here(spec)
    assert is_here(model_spec(tmp_path / "tiny.gguf"))


def test_a_catalogues_file_that_a_user_has_is_that_model(tmp_path: Path, monkeypatch) -> None:
    write_gguf(tmp_path / "tiny.gguf", "qwen2")
    state = (tmp_path / "tiny.gguf").stat()
    sha256 = gguf_files.sha256_of(tmp_path / "tiny.gguf", state.st_size, state.st_mtime_ns)
    gguf = Gguf(file="theirs.gguf", sha256=sha256, bytes=state.st_size, quantisation="F32")
    folder = module.converted_folder("theirs", sha256)
    spec = ModelSpec(name="theirs", group="follow-up", hub_id="a/b", folder=folder, gguf=gguf)
    for place in (module, gguf_files):
        monkeypatch.setattr(place, "catalogue", lambda: {"theirs": spec})
    refused("theirs", r"theirs is not here: `ovectors fetch theirs` gets it \(\d+ kB\)")
    before = keys.model_identity(spec)
    assert model_spec(tmp_path / "tiny.gguf") is spec
    assert model_spec("a/b:theirs.gguf") is spec and spec.source == "a/b:theirs.gguf"
    assert is_here(spec) and keys.model_identity(spec) == before


def test_a_file_on_the_hub_is_got_once(tmp_path: Path, monkeypatch) -> None:
    asked = []

    def download(hub_id: str, file: str, **_: object) -> str:
        asked.append((hub_id, file))
        write_gguf(tmp_path / "snapshot.gguf", "qwen2")
        return str(tmp_path / "snapshot.gguf")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    spec = model_spec("some-one/Tiny.GGUF:snapshot.gguf")
    assert spec.source == "some-one/Tiny.GGUF:snapshot.gguf" and spec.name == "snapshot"
    assert model_spec(spec.source) == spec and asked == [("some-one/Tiny.GGUF", "snapshot.gguf")]


def test_what_cannot_be_converted_is_refused_in_one_line(tmp_path: Path, cached: Path) -> None:
    model = random_model("llama")
    path = tmp_path / "bad.gguf"
    refused(path, "there is no file")
    refused("~/no-such.gguf", "there is no file")
    path.write_bytes(b"not a model")
    refused(path, "GGUF file of bad.gguf cannot be loaded")
    write_gguf(path, "llama", model=model, architecture="unheard-of")
    refused(path, "unheard-of")
    bias = {"blk.0.attn_q.bias": np.ones(64, dtype=np.float32)}
    write_gguf(path, "llama", model=model, extra=bias)
    refused(path, "holds blk.0.attn_q.bias, which transformers would ignore")
    write_gguf(path, "llama", model=model, fields={"llama.rope.scaling.factor": 8.0})
    refused(path, "holds llama.rope.scaling.factor, which transformers would ignore")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, "GGUF file of bad.gguf cannot be loaded")
    del model.model.layers[1].mlp.up_proj
    write_gguf(path, "llama", model=model)
    refused(path, "bad.gguf lacks 1 tensors, model.layers.1.mlp.up_proj.weight")
    assert [one.name for one in cached.iterdir() if not one.name.endswith(".lock")] == []


def test_a_hub_that_cannot_be_reached_is_told_in_one_line(monkeypatch) -> None:
    def download(*_: object, **__: object) -> str:
        raise OSError("no network\nat all")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(UserError, match=r"a/b:c.gguf cannot be had from the hub: no network$"):
        model_spec("a/b:c.gguf")
