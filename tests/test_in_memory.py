"""Weights are loaded once for all who use them, and handed on only as they were loaded."""

from __future__ import annotations

import gc

import pytest
import torch

from ovectors import in_memory, keys, selfcheck, uses
from ovectors.errors import UserError
from ovectors.interventions import next_token_logits
from ovectors.models import LanguageModel, load_model
from tiny_models import PROMPTS, save_tiny


@pytest.fixture(autouse=True)
def log(tmp_path, monkeypatch):
    """The log of loads, with nothing in memory before or after."""

    def forget() -> None:
        for remembered in (in_memory._kept, in_memory._loaded, in_memory._marks):
            remembered.clear()
        in_memory.keep("")
        keys._remembered_hash.cache_clear()

    monkeypatch.setenv(uses.LOG_VARIABLE, str(tmp_path / "log"))
    forget()
    yield tmp_path / "log"
    forget()


def opened(folder, **settings: str) -> LanguageModel:
    return in_memory.open_model(str(folder), **{"device": "cpu", "dtype": "auto"} | settings)


def test_two_who_ask_get_the_same_weights_in_models_of_their_own(folder, log):
    first, second = opened(folder), opened(folder)
    assert not first.loaded and uses.count_loads(log) == 0
    assert first.model is second.model and uses.count_loads(log) == 1
    assert first is not second and first.tokenizer is not second.tokenizer
    alone = load_model(str(folder), device="cpu")
    assert torch.equal(next_token_logits(second, PROMPTS), next_token_logits(alone, PROMPTS))
    assert second.provenance == alone.provenance


def test_other_numbers_or_other_files_are_other_weights(folder, log):
    first = opened(folder)
    assert opened(folder, dtype="bfloat16").model.dtype == torch.bfloat16
    before = next_token_logits(first, PROMPTS)
    save_tiny("gptj", folder)
    keys._remembered_hash.cache_clear()
    assert not torch.equal(next_token_logits(opened(folder), PROMPTS), before)
    assert uses.count_loads(log) == 3


def test_weights_stay_only_of_the_model_that_is_served(folder, folders, log):
    in_memory.keep(str(folder))
    for _ in range(2):
        _ = opened(folder).model, opened(folders["llama"]).model
        gc.collect()
    assert log.read_text().count(folder.name) == 1
    assert log.read_text().count(folders["llama"].name) == 2


@pytest.mark.parametrize(
    "alter",
    [
        lambda weights: weights.get_input_embeddings().weight.add_(1),
        lambda weights: weights.register_forward_hook(lambda *a: None),
        lambda weights: weights.train(),
    ],
    ids=["edited", "hooked", "in training"],
)
def test_weights_that_were_altered_are_not_handed_on(folder, log, alter):
    in_memory.keep(str(folder))
    before = next_token_logits(opened(folder), PROMPTS)
    with torch.no_grad():
        alter(opened(folder).model)
    assert torch.equal(next_token_logits(opened(folder), PROMPTS), before)
    assert uses.count_loads(log) == 2


def test_weights_that_fail_the_check_are_never_handed_on(folder, log, monkeypatch):
    def failing(model):
        raise UserError("it is not wired as expected")

    with monkeypatch.context() as patch:
        patch.setattr(selfcheck, "self_check", failing)
        for _ in range(2):
            with pytest.raises(UserError, match="not wired"):
                _ = opened(folder).model
    checked = []
    monkeypatch.setattr(selfcheck, "self_check", lambda model: checked.append(model.name))
    _ = opened(folder).model, opened(folder).model
    assert checked == [folder.name]


def test_weights_first_used_in_inference_mode_can_be_differentiated_later(folder):
    in_memory.keep(str(folder))
    with torch.inference_mode():
        next_token_logits(opened(folder), PROMPTS)
    weights = opened(folder).model
    weights(torch.tensor([PROMPTS[0]])).logits.sum().backward()
    assert weights.get_input_embeddings().weight.grad.abs().sum() > 0


def test_offloaded_weights_are_handed_on_too(folder, log, monkeypatch):
    """Their parameters come and go, which is no change."""
    placed = {"transformer.wte": "cpu", "transformer.wpe": "cpu", "transformer.drop": "cpu"}
    placed |= {"transformer.h": "disk", "transformer.ln_f": "cpu", "lm_head": "cpu"}
    in_memory.keep(str(folder))
    monkeypatch.setattr("ovectors.models._placement", lambda device: placed)
    first = next_token_logits(opened(folder), PROMPTS)
    assert torch.equal(next_token_logits(opened(folder), PROMPTS), first)
    assert uses.count_loads(log) == 1
