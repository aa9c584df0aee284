"""Loading gone wrong: one plain line for whatever a user gets wrong; and the hub, cached or not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub import errors as hub
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from ovectors.errors import UserError
from ovectors.lens import unused_rows
from ovectors.loading import TEXTS
from ovectors.models import load_model
from ovectors.stream import record
from tiny_models import (
    PROMPTS,
    refused,
    save_tiny,
    tiny_model,
    tiny_openai_gpt,
    tiny_starcoder2,
    tiny_tokenizer,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"
IDS = torch.tensor([PROMPTS[0]])


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


def change_tokenizer(folder: Path, *, tokenizer_class: str, **changed: object) -> None:
    """Other parts in `tokenizer.json`, and the class that is to load it."""
    named = {"tokenizer_class": tokenizer_class}
    for path, parts in (
        (folder / "tokenizer.json", changed),
        (folder / "tokenizer_config.json", named),
    ):
        path.write_text(json.dumps(json.loads(path.read_text()) | parts))


NFC, LOWER = {"type": "NFC"}, {"type": "Lowercase"}


@pytest.mark.parametrize(
    ("tokenizer_class", "normalizer", "text"),
    [
        ("GPT2Tokenizer", NFC, r"nai\\u0308ve cafe\\u0301"),  # it knows no normaliser
        ("GPT2Tokenizer", LOWER, "The capital of Poland"),
        ("GPTNeoXTokenizer", None, r"nai\\u0308ve cafe\\u0301"),  # it composes, unasked
    ],
)
def test_a_class_that_gives_other_ids_than_its_file(
    tokenizer_class: str, normalizer: dict | None, text: str, folder: Path
) -> None:
    change_tokenizer(folder, tokenizer_class=tokenizer_class, normalizer=normalizer)
    refused(folder, f"loaded as {tokenizer_class}, gives '{text}.*' other ids than its own")


@pytest.mark.parametrize(
    ("tokenizer_class", "normalizer"),
    [
        ("GPT2Tokenizer", None),
        ("GPTNeoXTokenizer", NFC),
        ("TokenizersBackend", NFC),
        ("TokenizersBackend", LOWER),
    ],
)
def test_a_class_that_gives_the_ids_of_its_file(
    tokenizer_class: str, normalizer: dict | None, folder: Path
) -> None:
    """What the file says beside its ids, where to cut and to pad, is not the class's to follow."""
    cut = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    pad = {"strategy": {"Fixed": 9}, "direction": "Right", "pad_id": 0, "pad_type_id": 0}
    pad |= {"pad_to_multiple_of": None, "pad_token": "<|endoftext|>"}
    changed = {"normalizer": normalizer, "truncation": cut, "padding": pad}
    change_tokenizer(folder, tokenizer_class=tokenizer_class, **changed)
    tokenizer = load_model(folder).tokenizer
    composed = tokenizer.encode("e\u0301") == tokenizer.encode("\u00e9")
    assert composed == (normalizer == NFC)
    assert (tokenizer.encode("ABC") == tokenizer.encode("abc")) == (normalizer == LOWER)


@pytest.mark.parametrize("name", ["mini-2m", "mini-6m", "mini-20m"])
def test_the_miniatures_tokenizers_give_their_files_ids(name: str) -> None:
    tokenizer = load_model(name).tokenizer
    assert "Poland" in tokenizer.decode(tokenizer.encode(TEXTS[0]))


def test_gpt2s_own_tokenizer_gives_its_files_ids(shared: Path, folder: Path) -> None:
    for path in (shared / "tokenizers" / "gpt2").iterdir():
        shutil.copy(path, folder / path.name)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 50257}))
    assert load_model(folder).tokenizer.encode(" Warsaw") == [32955]


def test_a_token_that_was_added_beyond_the_models_rows(folder: Path) -> None:
    """Gemma 3's tokenizer has one for pictures that its language model has no row for."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(folder)
    model = tiny_model("gpt2")
    rows = tokenizer.vocab_size
    model.resize_token_embeddings(rows)
    model.save_pretrained(folder)
    loaded = load_model(folder)
    assert loaded.vocab_size == rows == max(loaded.token_ids)
    assert not unused_rows(loaded).any()
    with pytest.raises(UserError, match=f"holds token {rows}"):
        record(loaded, [loaded.tokenizer.encode("<image>")], parts=["after"])


def test_a_class_that_transformers_takes_whatever_the_file_says(folders, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders["qwen2"], tmp_path / "qwen2"))
    change_tokenizer(folder, tokenizer_class="TokenizersBackend", normalizer=LOWER)
    refused(folder, "loaded as Qwen2Tokenizer, gives .* other ids than its own")


def test_another_models_tokenizer(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 300}))
    refused(folder, "has 309 tokens, its model 300: they do not belong together")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "t5"}, "of architecture 't5', which is not supported: .*gpt2, gptj"),
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


@pytest.mark.parametrize(
    ("case", "unlike", "message"),
    [
        ("llama", {"attention_bias": False}, r"hold 12 tensors .*self_attn.k_proj.bias among"),
        ("llama", {"num_hidden_layers": 2}, r"hold 16 tensors .* model.layers.2.input_layernorm"),
        ("qwen3", {"model_type": "qwen2"}, r"cannot be loaded|lack .* tensors|hold .* tensors"),
        ("gpt2", {"n_layer": 2}, r"hold 11 tensors .* transformer.h.2.attn.c_attn.weight among"),
    ],
)
def test_weights_that_the_config_has_no_place_for(case, unlike, message, tmp_path: Path) -> None:
    """They would be dropped without a word, and another model measured."""
    save_tiny(case, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | unlike))
    refused(tmp_path, message)


def test_masks_that_older_files_hold_are_no_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    for name in ("transformer.h.0.attn.bias", "transformer.h.0.attn.masked_bias"):
        weights[name] = torch.ones(1, 1, 4, 4)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_model(folder).model is not None


def test_a_family_in_no_table_is_opened_by_what_is_found(tmp_path: Path) -> None:
    tiny_starcoder2().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    model = load_model(tmp_path, check=False)  # but for the self-check it is never used
    assert model.known_architecture is None
    assert model.architecture.mid == "post_attention_layernorm"


def test_an_impostor_is_opened_by_nothing(tmp_path: Path) -> None:
    tiny_openai_gpt().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    refused(tmp_path, "'openai-gpt' is not among the known ones .* looked for and not found")


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


def test_a_cached_tokenizer_that_gives_other_ids_than_its_file(
    cached: str, offline, tmp_path: Path
) -> None:
    folder = tmp_path / "models--some--tiny" / "snapshots" / COMMIT
    change_tokenizer(folder, tokenizer_class="GPT2Tokenizer", normalizer=LOWER)
    refused(cached, "of some/tiny, loaded as GPT2Tokenizer, gives .* other ids")


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
