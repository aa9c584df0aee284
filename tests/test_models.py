"""Loading: every family from disk, what is recorded, and one plain line for whatever is wrong."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub import errors as hub
from safetensors.torch import load_file, save_file

from ovectors import models
from ovectors.errors import UserError
from ovectors.models import LanguageModel, load_model
from ovectors.selfcheck import self_check
from ovectors.stream import record
from tiny_models import CASES, PROMPTS, save_tiny, tiny, tiny_model, tiny_tokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
IDS = torch.tensor([PROMPTS[0]])


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Every tiny model on disk, not to be changed."""
    root = tmp_path_factory.mktemp("models")
    return {case: save_tiny(case, root / case) for case in CASES}


@pytest.fixture
def folder(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A tiny GPT-2 on disk that a test may break."""
    return Path(shutil.copytree(folders["gpt2"], tmp_path / "gpt2-copy"))


def refused(name: object, message: str, **arguments) -> None:
    """Opening the model and using it fails with one line that holds `message`."""
    with pytest.raises(UserError, match=message) as caught:
        _ = load_model(name, **arguments).model
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", CASES)
def test_every_family_comes_back_from_disk(case: str, folders) -> None:
    model = load_model(folders[case])
    original = tiny_model(case)
    assert torch.equal(model.model(IDS).logits, original(IDS).logits)
    assert not model.model.training
    assert model.name == case
    assert (model.n_layers, model.d_model, model.vocab_size) == (3, 24, 320)
    assert model.device == torch.device("cpu")
    assert model.max_length == (None if case == "bloom" else 96)
    assert model.tokenizer("Paris")["input_ids"] == tiny_tokenizer()("Paris")["input_ids"]


def test_what_was_loaded_is_on_record(folders) -> None:
    model = load_model(folders["llama"], dtype="bfloat16", device="cpu")
    before = dict(model.provenance)
    assert before["source"] == str(folders["llama"])
    assert before["dtype"] == "bfloat16"
    assert before["versions"]["torch"] == torch.__version__
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


# What can be wrong with the arguments ------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "bfloat61"}, "unknown dtype 'bfloat61', did you mean bfloat16?"),
        ({"dtype": "int8"}, "unknown dtype 'int8'.*: it is one of auto, float16"),
        ({"device": "gpu"}, "unknown device 'gpu': it is auto, cpu, cuda"),
        ({"device": "cuda:x"}, "unknown device 'cuda:x'"),
        ({"revision": "main"}, "a local folder, which has no revisions"),
    ],
)
def test_bad_arguments(arguments: dict, message: str, folders) -> None:
    refused(folders["gpt2"], message, **arguments)


def test_a_gpu_that_is_not_there(folders, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(folders["gpt2"], "'cuda' was asked for, but no CUDA GPU is here", device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    refused(folders["gpt2"], "there is no device 'cuda:3': this machine has 1", device="cuda:3")


def test_unknown_names_are_told_before_anything_is_loaded() -> None:
    refused("gpt2-medum", "unknown model 'gpt2-medum', did you mean gpt2-medium")
    refused("./nowhere", "there is no folder ./nowhere")


# What can be wrong with a folder -----------------------------------------------------------------


def test_a_folder_without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    refused(folder, "has no weights")


def test_an_empty_folder(tmp_path: Path) -> None:
    refused(tmp_path, "holds no model: it lacks config.json and weights")


def test_a_tokenizer_without_a_model(tmp_path: Path) -> None:
    tiny_tokenizer().save_pretrained(tmp_path)
    refused(tmp_path, "holds a tokenizer but no model: it lacks config.json")


def test_a_model_without_a_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    refused(folder, "has a model but no tokenizer")


def test_a_tokenizer_that_transformers_makes_up_is_not_taken(folder: Path) -> None:
    """Without its real files, it builds one that knows nothing, and says nothing."""
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    (folder / "vocab.json").write_text('{"<|endoftext|>": 0}')
    (folder / "merges.txt").write_text("")
    refused(folder, "has a model but no tokenizer")


def test_a_broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{broken")
    refused(folder, "the tokenizer of .* cannot be loaded")


def test_another_models_tokenizer(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 300}))
    refused(folder, "has 309 tokens, its model 300: they do not belong together")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "opt"}, "of architecture 'opt', which is not supported: .*gpt2, gptj"),
        ({"model_type": "something-new"}, "architecture 'something-new', which is not supported"),
        ({}, "architecture None, which is not supported"),
        ({"model_type": "gpt2", "n_embd": "wide"}, "the config of .* cannot be loaded"),
        ({"model_type": "bloom", "slow_but_exact": True, "pretraining_tp": 4}, "slow_but_exact"),
        ({"model_type": "gpt2", "quantization_config": {"quant_method": "gptq"}}, "quantised"),
    ],
)
def test_a_config_that_cannot_be_used(config: dict, message: str, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder, message)


def test_a_config_that_is_no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{broken")
    refused(folder, "the config of .* cannot be loaded")


@pytest.mark.parametrize("keep", [0, 5, 500, -1])
def test_broken_safetensors_are_seen_before_loading(keep: int, folder: Path) -> None:
    """A download that stopped early: no header, half a header, half the tensors, one byte short."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"no whole safetensors file.*get it again"):
        load_model(folder)


def test_weights_that_lack_a_tensor(folder: Path) -> None:
    """transformers would fill it with random numbers and carry on."""
    weights = load_file(folder / "model.safetensors")
    del weights["transformer.h.1.mlp.c_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, "lack 1 tensors, transformer.h.1.mlp.c_proj.weight among them")


def test_weights_of_another_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_inner": 48}))
    refused(folder, "the weights of .* cannot be loaded")


def test_weights_that_are_not_numbers(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["transformer.h.1.mlp.c_proj.weight"][:] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, "layer 1 is not a number in float32")


# The hub -----------------------------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch) -> None:
    def unreachable(*_args, **_kwargs):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(HfApi, "model_info", unreachable)


@pytest.fixture
def cached(folders, tmp_path: Path, monkeypatch) -> str:
    """A tiny model in the hub's local cache, under one commit."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--some--tiny"
    shutil.copytree(folders["qwen3"], repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return "some/tiny"


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_cached_model_needs_no_network(revision, cached: str, offline) -> None:
    model = load_model(cached, revision=revision)
    assert torch.equal(model.model(IDS).logits, tiny_model("qwen3")(IDS).logits)
    assert model.name == "some--tiny"
    assert model.provenance["commit"] == COMMIT
    assert model.provenance["revision"] == revision


def test_a_branch_is_resolved_to_its_commit_first(cached: str, monkeypatch) -> None:
    asked = Mock(return_value=Mock(sha=COMMIT))
    monkeypatch.setattr(HfApi, "model_info", asked)
    model = load_model(cached, revision="main")
    assert asked.call_args.kwargs["revision"] == "main"
    assert model.provenance["commit"] == COMMIT


def test_a_hub_that_cannot_be_reached(offline) -> None:
    refused("some/model", r"the hub cannot be reached \(no route to host\), and some/model is")
    refused("gpt2-xl", "openai-community/gpt2-xl is neither a folder here nor in the local cache")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (hub.RepositoryNotFoundError, "no model 'gpt2x/gpt2-medium' here nor on the hub, did you"),
        (hub.GatedRepoError, "is gated: accept its licence on the hub and log in"),
        (hub.RevisionNotFoundError, "has no revision 'v9' on the hub"),
    ],
)
def test_what_the_hub_refuses(error: type[Exception], message: str, monkeypatch) -> None:
    answer = Mock(side_effect=error("long\nserver\nmessage", response=Mock()))
    monkeypatch.setattr(HfApi, "model_info", answer)
    refused("gpt2x/gpt2-medium", message, revision="v9")


def test_layer_numbers() -> None:
    model = tiny("gpt2")
    assert model.layer_numbers(None) == (0, 1, 2)
    assert model.layer_numbers([2, -3]) == (2, 0)
    with pytest.raises(UserError, match="tiny-gpt2 has no layer -4: its layers are 0 to 2"):
        model.layer_numbers([-4])
