"""The catalogue's figures against models built to their shape, and what a name means."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma3TextConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    LlamaConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from ovectors import catalogue as module
from ovectors.catalogue import (
    ModelSpec,
    by_size,
    catalogue,
    catalogue_rows,
    is_here,
    machine_memory,
    model_spec,
    parameters_in,
)
from ovectors.errors import UserError
from tiny_models import save_tiny

# name: heads (GPT-2, BLOOM); heads, vocabulary (Pythia); FFN, heads, kv heads (all others)
GPT2 = {"gpt2": 12, "gpt2-medium": 16, "gpt2-large": 20, "gpt2-xl": 25}
BLOOM = {"560m": 16, "1b1": 16, "1b7": 16, "3b": 32, "7b1": 32}
PYTHIA = {"70m": (8, 50304), "160m": (12, 50304), "410m": (16, 50304), "1b": (8, 50304)}
PYTHIA |= {"1.4b": (16, 50304), "2.8b": (32, 50304), "6.9b": (32, 50432), "12b": (40, 50688)}
LLAMA = {"1b": (8192, 32, 8), "3b": (8192, 24, 8)}
QWEN3 = {"0.6b": (3072, 16, 8), "1.7b": (6144, 16, 8), "4b": (9728, 32, 8)}
QWEN2 = {"0.5b": (4864, 14, 2), "1.5b": (8960, 12, 2)}
QWEN3 |= {"8b": (12288, 32, 8), "14b": (17408, 40, 8), "32b": (25600, 64, 8)}


def config_of(spec: ModelSpec) -> PretrainedConfig:
    """The shape that the model's own config.json gives, from what is public about it."""
    family, _, size = spec.name.rpartition("-")
    wide = {"hidden_size": spec.d_model, "num_hidden_layers": spec.layers}
    if spec.name in GPT2:
        return GPT2Config(n_embd=spec.d_model, n_layer=spec.layers, n_head=GPT2[spec.name])
    if spec.name == "gpt-j-6b":
        return GPTJConfig()
    if spec.name.startswith("bloom"):
        heads = BLOOM.get(size, 112)
        return BloomConfig(hidden_size=spec.d_model, n_layer=spec.layers, n_head=heads)
    if family == "pythia":
        heads, vocabulary = PYTHIA[size]
        inner = 4 * spec.d_model
        return GPTNeoXConfig(
            **wide, num_attention_heads=heads, vocab_size=vocabulary, intermediate_size=inner
        )
    if family == "smollm2":
        inner, heads, shared = 1536, 9, 3
    elif family == "gemma-3":
        inner, heads, shared = 2048, 4, 1
    else:
        inner, heads, shared = {"llama-3.2": LLAMA, "qwen2.5-coder": QWEN2}.get(family, QWEN3)[size]
    wide |= {"intermediate_size": inner, "num_attention_heads": heads}
    wide |= {"num_key_value_heads": shared}
    if family == "llama-3.2":
        return LlamaConfig(**wide, vocab_size=128256, tie_word_embeddings=True)
    if family == "smollm2":
        return LlamaConfig(**wide, vocab_size=49152, tie_word_embeddings=True)
    if family == "gemma-3":
        return Gemma3TextConfig(**wide, vocab_size=262144, head_dim=256)
    if family == "qwen2.5-coder":
        return Qwen2Config(**wide, vocab_size=151936, tie_word_embeddings=False)
    tied = size in ("0.6b", "1.7b", "4b")
    return Qwen3Config(**wide, vocab_size=151936, head_dim=128, tie_word_embeddings=tied)


@pytest.mark.parametrize("name", [name for name, spec in catalogue().items() if spec.hub_id])
def test_parameters_are_those_of_a_model_of_that_shape(name: str) -> None:
    spec = catalogue()[name]
    with torch.device("meta"):  # shapes only: 176 billion of them need no memory
        model = AutoModelForCausalLM.from_config(config_of(spec))
    assert spec.parameters == sum(weights.numel() for weights in model.parameters())
    assert spec.memory_bytes == spec.parameters * {"float32": 4}.get(spec.dtype, 2)


def test_the_catalogue_agrees_with_the_paper(shared: Path) -> None:
    published = yaml.safe_load((shared / "paper" / "published.yaml").read_text())
    for name, row in published["models"].items():
        spec = catalogue()[name]
        assert spec.layers == row["layers"]
        assert spec.parameters == pytest.approx(row["parameters"], rel=0.05)
    for name, row in published["o_vector_layers"].items():
        replaced = row.pop("replaced_layers")
        assert dict(catalogue()[name].o_layers) == row
        assert catalogue()[name].replaced == (replaced and tuple(replaced))


def test_everything_that_is_promised_is_in_it() -> None:
    assert {
        *("mini-2m", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "gpt-j-6b"),
        *("bloom-560m", "bloom-1b1", "bloom-1b7", "bloom-3b", "bloom-7b1", "bloom"),
        *("pythia-70m", "pythia-12b", "llama-3.2-1b", "llama-3.2-3b", "qwen3-0.6b", "qwen3-32b"),
    } <= set(catalogue())
    for name, spec in catalogue().items():
        assert spec.name == name
        assert (spec.hub_id is None) == (spec.group == "miniature")
        assert (spec.folder is None) == (spec.group != "miniature" and spec.gguf is None)
        assert spec.revision is None or len(spec.revision) == 40


def test_models_are_listed_by_size() -> None:
    given = ["gpt2-xl", "bloom-560m", "own-20m", "mini-6m", "own-6m", "gpt2", "mini-2m", "gpt2"]
    sizes = ["mini-2m", "mini-6m", "gpt2", "bloom-560m", "gpt2-xl"]  # in no catalogue: last
    assert by_size(given) == [*sizes, "own-6m", "own-20m"]


def test_rows_for_the_table() -> None:
    rows = {row["name"]: row for row in catalogue_rows()}
    assert list(rows) == list(catalogue())
    for row in rows.values():
        assert {"parameters", "layers", "dtype", "memory_bytes", "source"} <= set(row)
        assert isinstance(row["here"], bool)
        assert isinstance(row["fits"], bool)
    assert rows["gpt2"]["source"] == "openai-community/gpt2"
    assert rows["gpt2"]["memory_bytes"] == 4 * 124_439_808
    assert rows["mini-2m"]["source"] == "models/mini-2m"


@pytest.mark.parametrize(("memory", "fits"), [(10**9, False), (10**12, True)])
def test_fitting_depends_on_the_machines_memory(memory: int, fits: bool, monkeypatch) -> None:
    monkeypatch.setattr(module, "machine_memory", lambda: memory)
    rows = {row["name"]: row for row in catalogue_rows()}
    assert rows["bloom"]["fits"] is fits  # 352 GB
    assert rows["gpt2"]["fits"] is True  # 0.5 GB


def test_the_machine_has_memory() -> None:
    assert machine_memory() > 2**30


def test_listing_the_catalogue_does_not_import_torch() -> None:
    """It would take seconds; so it must not be imported by what the list is made of."""
    code = (
        "import sys; from ovectors.models import catalogue_rows; catalogue_rows(); "
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    where = Path(module.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(where), "PATH": "", "HF_HUB_OFFLINE": "1"},
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt2", "gpt2"),
        ("GPT2-Medium", "gpt2-medium"),
        ("EleutherAI/gpt-j-6B", "gpt-j-6b"),
        ("bigscience/bloom", "bloom"),
        ("someone/Some.Model-1b", "someone--Some.Model-1b"),
    ],
)
def test_names_are_catalogue_names_or_hub_ids(name: str, expected: str) -> None:
    spec = model_spec(name)
    assert spec.name == expected
    assert spec.folder is None
    assert (
        spec.hub_id.lower()
        == (catalogue()[expected].hub_id if expected in catalogue() else name).lower()
    )


def test_a_folder_is_a_model(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    assert model_spec(folder) == model_spec(str(folder))
    assert model_spec(folder).folder == folder
    assert model_spec(folder).name == "my-model"
    assert model_spec(folder).hub_id is None
    monkeypatch.chdir(tmp_path)
    assert model_spec("./my-model").folder == folder
    # A folder of the same name does not hide a model of the catalogue.
    (tmp_path / "gpt2").mkdir()
    assert model_spec("gpt2").hub_id == "openai-community/gpt2"
    assert model_spec("./gpt2").folder == tmp_path / "gpt2"


def test_a_folder_does_not_pass_for_the_catalogues_model_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "gpt2").mkdir()
    assert model_spec(tmp_path / "gpt2").name == "local-gpt2"


def test_the_folder_of_an_embedded_model_is_that_model(tmp_path: Path, monkeypatch) -> None:
    spec = ModelSpec(name="mini", folder=tmp_path / "mini")
    (tmp_path / "mini").mkdir()
    monkeypatch.setattr(module, "catalogue", lambda: {"mini": spec})
    assert model_spec(tmp_path / "mini") is spec


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpt2-medum", "unknown model 'gpt2-medum', did you mean gpt2-medium"),
        ("zzzzzz", "unknown model 'zzzzzz'; `ovectors models` lists"),
        ("", "unknown model ''"),
        ("./nowhere", "there is no folder ./nowhere"),
        ("/no/such/folder", "there is no folder /no/such/folder"),
        ("~/nowhere-at-all", "there is no folder ~/nowhere-at-all"),
        (__file__, "is a file: give the folder"),
    ],
)
def test_a_name_that_means_nothing_is_told_in_one_line(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        model_spec(name)
    assert "\n" not in str(caught.value)


def test_parameters_are_counted_from_the_files_header(tmp_path: Path) -> None:
    save_tiny("llama", tmp_path)
    spec = model_spec(tmp_path)
    assert parameters_in(tmp_path) == 33432
    assert spec.memory_bytes == 4 * 33432


def test_a_folder_is_here_when_config_and_weights_are(tmp_path: Path) -> None:
    spec = model_spec(tmp_path)
    assert not is_here(spec)
    save_tiny("gpt2", tmp_path)
    assert is_here(spec)
    (tmp_path / "model.safetensors").unlink()
    assert not is_here(spec)


@pytest.fixture
def cached(tmp_path: Path, monkeypatch) -> Path:
    """An empty folder that the hub's cache would keep commit "abc" of some/model in."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    refs = tmp_path / "models--some--model" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("abc")
    snapshot = tmp_path / "models--some--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    return snapshot


def test_a_hub_model_is_here_when_the_cache_holds_all_of_it(cached: Path) -> None:
    spec = model_spec("some/model")
    assert not is_here(spec)
    (cached / "config.json").write_text("{}")
    assert not is_here(spec)  # a config is no model
    (cached / "tokenizer.json").write_text("{}")
    assert not is_here(spec)
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (cached / "model.safetensors.index.json").write_text(json.dumps(index))
    (cached / "one.safetensors").touch()
    assert not is_here(spec)  # half of the weights are none
    (cached / "two.safetensors").touch()
    assert is_here(spec)
    assert not is_here(spec, "another-branch")


def test_pytorch_weights_count_as_here(cached: Path) -> None:
    for name in ("config.json", "vocab.json", "pytorch_model.bin"):
        assert not is_here(model_spec("some/model"))
        (cached / name).touch()
    assert is_here(model_spec("some/model"))
