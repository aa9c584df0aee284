"""Loading: every family from disk, what is recorded, and when the weights are read."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file

from ovectors import models
from ovectors.errors import UserError
from ovectors.models import LanguageModel, load_model
from ovectors.selfcheck import self_check
from ovectors.stream import record
from tiny_models import CASES, PROMPTS, refused, save_tiny, tiny, tiny_model, tiny_tokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
IDS = torch.tensor([PROMPTS[0]])


@pytest.mark.parametrize("case", CASES)
def test_every_family_comes_back_from_disk(case: str, folders) -> None:
    model = load_model(folders[case])
    original = tiny_model(case)
    assert torch.equal(model.model(IDS).logits, original(IDS).logits)
    assert not model.model.training
    assert model.name == f"tiny-{case}"
    assert (model.n_layers, model.d_model, model.vocab_size) == (3, 24, 320)
    assert model.device == torch.device("cpu")
    assert model.max_length == (None if case == "bloom" else 96)
    assert model.tokenizer("Paris")["input_ids"] == tiny_tokenizer()("Paris")["input_ids"]


def test_what_was_loaded_is_on_record(folders) -> None:
    model = load_model(folders["llama"], dtype="bfloat16", device="cpu")
    before = dict(model.provenance)
    assert before["source"] == str(folders["llama"])
    assert before["dtype"] == "bfloat16"
    assert torch.__version__.startswith(before["versions"]["torch"].partition("+")[0])
    assert model.model.dtype == torch.bfloat16
    assert model.provenance["parameters"] == 33432
    assert model.provenance["device_map"] == {"": "cpu"}
    assert {key: model.provenance[key] for key in before} == before
    json.dumps(model.provenance)  # results keep it as JSON


def test_weights_are_loaded_when_they_are_needed_and_once(folders, monkeypatch) -> None:
    model = load_model(folders["gpt2"])
    assert model.n_layers == 3
    assert model.tokenizer.vocab_size
    assert not model.loaded
    first = model.model
    assert model.loaded
    monkeypatch.setattr(model, "load", Mock(side_effect=AssertionError("loaded again")))
    assert model.model is first


def test_the_self_check_runs_when_weights_are_loaded(folders) -> None:
    model = load_model(folders["bloom"])
    model.architecture = replace(model.architecture, ffn="mlp")
    for _ in range(2):  # and what failed is not used the second time either
        with pytest.raises(UserError, match="bloom is refused: at layer"):
            _ = model.model
        assert not model.loaded


def test_the_self_check_can_be_left_to_the_caller(folders) -> None:
    model = load_model(folders["bloom"], check=False)
    model.architecture = replace(model.architecture, ffn="mlp")
    assert model.model is not None
    assert not self_check(model, strict=False).passed


def test_a_model_in_memory_can_be_wrapped() -> None:
    plain = tiny_model("gpt2")
    model = LanguageModel.of(plain, tiny_tokenizer(), name="in-training")
    assert model.model is plain
    assert model.architecture.family == "gpt2"
    assert self_check(model).passed


# What is stored, and as what ---------------------------------------------------------------------


def test_pytorch_weights_are_read_where_there_is_nothing_else(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    assert torch.equal(load_model(folder).model(IDS).logits, tiny_model("gpt2")(IDS).logits)


def test_safetensors_are_preferred(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"this would not load")
    assert torch.equal(load_model(folder).model(IDS).logits, tiny_model("gpt2")(IDS).logits)


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["OVECTORS_TEST_TRAP"],)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_that_would_run_code_is_refused(folder: Path, tmp_path, monkeypatch) -> None:
    trap = tmp_path / "trap"
    monkeypatch.setenv("OVECTORS_TEST_TRAP", str(trap))
    (folder / "model.safetensors").unlink()
    torch.save({"transformer.wte.weight": Evil()}, folder / "pytorch_model.bin")
    refused(folder, "the weights of .* cannot be loaded")
    assert not trap.exists()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    refused(folder, "the weights of .* cannot be loaded")
    assert not trap.exists()


def test_sharded_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    tiny_model("gpt2").save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert torch.equal(load_model(folder).model(IDS).logits, tiny_model("gpt2")(IDS).logits)
    next(folder.glob("model-*.safetensors")).unlink()
    refused(folder, "lacks model-0000.*safetensors, which its model.safetensors.index.json names")


@pytest.mark.parametrize(
    ("stored", "asked", "expected"),
    [
        (torch.float32, "auto", torch.float32),
        (torch.bfloat16, "auto", torch.bfloat16),
        (torch.float16, "auto", torch.float32),  # half precision on a CPU: slow, and only noise
        (torch.float16, "float16", torch.float16),
        (torch.float32, "bfloat16", torch.bfloat16),
    ],
)
def test_dtypes(stored, asked, expected, tmp_path) -> None:
    model = load_model(save_tiny("gpt2", tmp_path / "m", dtype=stored), dtype=asked, device="cpu")
    assert model.model.dtype == expected
    assert model.provenance["dtype"] == str(expected).removeprefix("torch.")


def test_the_catalogues_dtype_is_what_auto_means(folder: Path, monkeypatch) -> None:
    spec = models.ModelSpec(name="mine", folder=folder, dtype="bfloat16")
    monkeypatch.setattr(models, "model_spec", lambda name: spec)
    assert load_model("mine").model.dtype == torch.bfloat16


@pytest.mark.parametrize("case", ["bloom", "gptj", "gpt2"])
def test_layers_on_disk_give_the_same_numbers(case: str, folders) -> None:
    """accelerate's hooks move offloaded weights in and out: ours must live beside them."""
    whole = load_model(folders[case])
    base = ["wte", "wpe"] if case == "gpt2" else ["wte"]
    base = ["word_embeddings", "word_embeddings_layernorm"] if case == "bloom" else base
    device_map = dict.fromkeys([f"transformer.{name}" for name in [*base, "ln_f", "h.0"]], "cpu")
    device_map |= {"transformer.h.1": "disk", "transformer.h.2": "disk"}
    device_map["lm_head"] = "disk" if case == "gptj" else "cpu"  # the others' is tied
    split = load_model(folders[case], device=device_map)
    for part in ("before", "attention", "ffn", "after"):
        expected = record(whole, PROMPTS, parts=[part])[part]
        assert torch.equal(record(split, PROMPTS, parts=[part])[part], expected)
    assert split.provenance["device_map"] == device_map
    assert split.device == torch.device("cpu")
    assert next(split.layers[1].parameters()).device == torch.device("meta")
    report = self_check(split)
    assert report.rows == tuple(self_check(whole).rows)


def test_layer_numbers() -> None:
    model = tiny("gpt2")
    assert model.layer_numbers(None) == (0, 1, 2)
    assert model.layer_numbers([2, -3]) == (2, 0)
    with pytest.raises(UserError, match="tiny-gpt2 has no layer -4: its layers are 0 to 2"):
        model.layer_numbers([-4])
