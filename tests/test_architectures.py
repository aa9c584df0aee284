"""Adapters: the right modules for every family, and a clear refusal of everything else."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
    BloomConfig,
    Gemma3TextConfig,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    OPTConfig,
    Starcoder2Config,
)

from hand_written import hand_written
from ovectors.architectures import architecture_for, module_at
from ovectors.errors import UserError
from tiny_models import CASES, PARALLEL, PROMPTS, SEQUENTIAL, tiny, tiny_config


@pytest.mark.parametrize("case", CASES)
def test_every_path_leads_to_a_module(case: str) -> None:
    model = tiny(case)
    wiring = model.architecture
    assert wiring.family == case.split("-")[0]
    assert len(model.layers) == model.n_layers
    for layer in model.layers:
        assert isinstance(wiring.ffn_of(layer), nn.Module)
        assert wiring.contribution_of(layer, "attention") is wiring.attention_of(layer)
        assert wiring.contribution_of(layer, "ffn") is wiring.ffn_of(layer)
        assert wiring.ffn_of(layer) is not wiring.attention_of(layer)
    assert wiring.head_of(model.model) is model.model.get_output_embeddings()


def test_the_mid_residual_depends_on_the_config_not_on_the_class() -> None:
    parallel, sequential = (
        architecture_for(tiny_config(case)) for case in ("gpt_neox", "gpt_neox-sequential")
    )
    assert parallel.family == sequential.family
    assert parallel.mid is None
    assert sequential.mid == "post_attention_layernorm"


def keeper(seen: dict, number: int):
    def keep(_module, args, output) -> None:
        # One prompt: the axis of rows goes, where there is one; a copy, as Falcon adds to it.
        seen[number] = (args[0].flatten(0, -2), output.flatten(0, -2).clone())

    return keep


@pytest.mark.parametrize("case", CASES)
def test_the_projection_reads_the_activations_of_the_neurons(case: str) -> None:
    """Its input is what the hand-written pass holds, and its output gives the FFN contribution."""
    model = tiny(case)
    truth = hand_written(model.model, PROMPTS[0])
    seen, handles = {}, []
    for number, layer in enumerate(model.layers):
        projection = model.architecture.projection_of(layer)
        handles.append(projection.register_forward_hook(keeper(seen, number)))
    with torch.no_grad():
        model.model(torch.tensor([PROMPTS[0]]))
    for handle in handles:
        handle.remove()
    for number in range(model.n_layers):
        exact = {"rtol": 1e-4, "atol": 1e-4}
        read, given = seen[number]
        torch.testing.assert_close(read.double(), truth["neurons"][number], **exact)
        layer = model.layers[number]
        added = model.architecture.contribution_of_projection(layer, given).detach()
        torch.testing.assert_close(added.double(), truth["ffn"][number], **exact)


@pytest.mark.parametrize("case", PARALLEL)
def test_a_parallel_block_has_no_mid_residual(case: str) -> None:
    model = tiny(case)
    with pytest.raises(UserError, match="in parallel here, so it has no mid residual"):
        model.architecture.mid_of(model.layers[0])


@pytest.mark.parametrize("case", SEQUENTIAL)
def test_a_sequential_block_has_one(case: str) -> None:
    model = tiny(case)
    assert isinstance(model.architecture.mid_of(model.layers[0]), nn.Module)


def test_a_family_that_is_in_no_table_has_to_be_looked_for() -> None:
    assert architecture_for(Starcoder2Config()) is None
    with pytest.raises(UserError, match="quantised"):
        architecture_for(Starcoder2Config(quantization_config={"quant_method": "gptq"}))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (OPTConfig(do_layer_norm_before=False), "normalises the stream after adding to it"),
        (OPTConfig(word_embed_proj_dim=512), "projects it before its head"),
        (OPTConfig(_remove_final_layer_norm=True), "cannot be early decoded"),
        (Gemma3TextConfig(use_bidirectional_attention=True), "lets tokens see later ones"),
        (LlamaConfig(residual_multiplier=0.2), "llama sets residual_multiplier"),
        (GraniteConfig(final_logit_softcapping=30.0), "granite sets final_logit_softcapping"),
    ],
)
def test_settings_under_which_there_is_no_stream_to_decode_are_refused(config, message) -> None:
    with pytest.raises(UserError, match=message):
        architecture_for(config)


def test_bloom_that_bypasses_its_modules_is_refused() -> None:
    with pytest.raises(UserError, match="slow_but_exact"):
        architecture_for(BloomConfig(slow_but_exact=True, pretraining_tp=2))
    # Either setting alone takes the ordinary way through the modules.
    assert architecture_for(BloomConfig(slow_but_exact=True, pretraining_tp=1)).ffn
    assert architecture_for(BloomConfig(slow_but_exact=False, pretraining_tp=4)).ffn


def test_bloom_with_its_residual_after_the_norm_is_refused() -> None:
    with pytest.raises(UserError, match="apply_residual_connection_post_layernorm"):
        architecture_for(BloomConfig(apply_residual_connection_post_layernorm=True))


def test_bloom_adds_the_residual_inside_mlp() -> None:
    """Why its adapter names the last matrix: `mlp` gives the whole state, not the contribution."""
    model = tiny("bloom")
    block = model.layers[0]
    normed, residual = torch.randn(2, 1, 4, model.d_model).unbind()
    contribution = []
    handle = model.architecture.ffn_of(block).register_forward_hook(
        lambda _module, _args, output: contribution.append(output)
    )
    whole = block.mlp(normed, residual)
    handle.remove()
    assert torch.allclose(whole, contribution[0] + residual)
    assert not torch.allclose(whole, contribution[0], atol=0.1)


def test_quantised_weights_are_refused() -> None:
    config = GPT2Config()
    config.quantization_config = {"quant_method": "gptq"}
    with pytest.raises(UserError, match="quantised"):
        architecture_for(config)


@pytest.mark.parametrize("setting", ["final_logit_softcapping", "logits_scaling"])
def test_a_fork_that_changes_logits_after_the_head_is_refused(setting: str) -> None:
    config = GPT2Config()
    setattr(config, setting, 30.0)
    with pytest.raises(UserError, match=setting):
        architecture_for(config)


def test_a_head_that_an_older_version_calls_otherwise_is_found() -> None:
    older = nn.Module()
    older.embed_out = nn.Linear(2, 3)
    assert architecture_for(tiny_config("gpt_neox")).head_of(older) is older.embed_out


def test_wiring_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"GPT2Block has no module 'mlp.nothing'"):
        module_at(tiny("gpt2").layers[0], "mlp.nothing")


def test_an_unknown_contribution_is_refused() -> None:
    model = tiny("gpt2")
    with pytest.raises(UserError, match="'ffn' or 'attention', not 'mlp'"):
        model.architecture.contribution_of(model.layers[0], "mlp")
