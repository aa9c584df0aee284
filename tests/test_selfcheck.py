"""The self-check: passes for every family and dtype, and refuses whatever is wired otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from ovectors.architectures import Architecture
from ovectors.errors import UserError
from ovectors.models import LanguageModel
from ovectors.selfcheck import (
    ITSELF,
    LOGITS,
    MID,
    NOISE,
    REACHED,
    SUM,
    WINDOWS,
    CheckReport,
    self_check,
)
from ovectors.sweeps import one_token
from tiny_models import (
    CASES,
    LAYERS,
    PARALLEL,
    SEQUENTIAL,
    awkward_llama,
    gated_llama,
    tiny,
    tiny_cohere2,
    tiny_olmo,
    tiny_openai_gpt,
    tiny_starcoder2,
    tiny_tokenizer,
)

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def row_of(report: CheckReport, invariant: str):
    return next(row for row in report.rows if row.invariant == invariant)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_every_family_passes_in_every_dtype(case: str, dtype: torch.dtype) -> None:
    model = tiny(case, dtype=dtype)
    report = self_check(model)
    assert report.passed
    assert report.complaint == ""
    assert report.dtype == str(dtype).removeprefix("torch.")
    mid = [MID] if case in SEQUENTIAL else []
    beyond = [WINDOWS] if model.window else []
    named = [SUM, *mid, LOGITS, ITSELF, NOISE, REACHED, *beyond]
    assert [row.invariant for row in report.rows] == named
    assert row_of(report, LOGITS).gap == 0  # the same modules on the same states in the same shapes
    assert len(report.layers[SUM]) == LAYERS
    # The tolerances are of use: far below the states and logits, whose size is 1 to 10 here.
    limits = {torch.float64: 1e-12, torch.float32: 1e-4, torch.float16: 0.2, torch.bfloat16: 1}
    assert all(row.tolerance < limits[dtype] for row in report.rows if row.invariant != WINDOWS)
    # And the noise does what noise should.
    assert row_of(report, REACHED).gap > 1


def tampered(case: str, **wiring: str) -> LanguageModel:
    model = tiny(case)
    model.architecture = replace(model.architecture, **wiring)
    return model


@pytest.mark.parametrize(
    ("case", "wiring", "broken"),
    [
        ("bloom", {"ffn": "mlp"}, SUM),  # it gives the whole state, residual added
        ("bloom", {"attention": "self_attention"}, SUM),
        ("gpt2", {"ffn": "ln_2"}, SUM),
        ("gpt2", {"ffn": "attn"}, SUM),
        ("gptj", {"ffn": "ln_1"}, SUM),
        ("gpt_neox", {"attention": "mlp"}, SUM),
        ("llama", {"attention": "input_layernorm"}, SUM),
        ("qwen3", {"ffn": "self_attn", "attention": "mlp"}, MID),  # the sum alone cannot tell
        ("gpt2", {"mid": "ln_1"}, MID),
        ("bloom", {"mid": "input_layernorm"}, MID),
        ("gpt_neox", {"mid": "post_attention_layernorm"}, MID),  # parallel: it has none
        ("llama", {"mid": "input_layernorm"}, MID),
        ("gpt2", {"final_norm": "transformer.h.0.ln_1"}, LOGITS),
        ("gptj", {"final_norm": "transformer.h.2.ln_1"}, LOGITS),
        ("llama", {"final_norm": "model.layers.0.input_layernorm"}, LOGITS),
        ("qwen2", {"final_norm": "model.layers.1.post_attention_layernorm"}, LOGITS),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tampered_adapter_is_refused(case, wiring, broken, dtype) -> None:
    model = tampered(case, **wiring)
    model.model.to(dtype)
    with pytest.raises(UserError) as caught:
        self_check(model)
    message = str(caught.value)
    assert broken in message
    assert f"tiny-{case} is refused: at layer" in message
    assert "gap" in message
    assert "\n" not in message


@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_that_are_sums_of_large_terms_pass(dtype: torch.dtype) -> None:
    """As in large trained models: the sums round far more than their results show."""
    model = LanguageModel.of(awkward_llama(dtype), tiny_tokenizer(), name="awkward")
    assert row_of(self_check(model), LOGITS).gap == 0


class LastTokenAlone(nn.Module):
    """A head that is applied to the last token apart: the same sums in another order."""

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.head = head

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.head(states[:, i]) for i in range(states.shape[1])], dim=1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_where_the_head_sums_in_another_order_exact_sums_are_the_referee(dtype) -> None:
    model = LanguageModel.of(awkward_llama(dtype), tiny_tokenizer(), name="awkward")
    right, model.model.lm_head = model.model.lm_head, LastTokenAlone(model.model.lm_head)
    model.architecture = replace(model.architecture, head="lm_head.head")
    found = row_of(self_check(model), LOGITS)
    assert dtype in (torch.float16, torch.bfloat16) or found.gap > 0
    with torch.no_grad():
        right.weight[7, 3] *= 1.2  # one wrong weight in one row: in the lens and the model alike
    assert self_check(model).passed
    model.model.lm_head = LastTokenAlone(nn.Linear(256, len(right.weight), bias=False, dtype=dtype))
    model.model.lm_head.head.weight.data = right.weight.data.clone()
    model.model.lm_head.other = right  # the lens has the former weights ...
    model.architecture = replace(model.architecture, head="lm_head.other")
    assert self_check(model).passed
    with torch.no_grad():
        right.weight[7] += 0.3 * right.weight.float().std()  # ... and now others in one row
    with pytest.raises(UserError, match="early decoding of the last state"):
        self_check(model)


WINDOWED = [case for case in CASES if tiny(case).window is not None]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", WINDOWED)
def test_a_fast_way_that_looks_beyond_a_window_is_refused(case, dtype, monkeypatch) -> None:
    mask = one_token._Steps._mask
    monkeypatch.setattr(
        one_token._Steps, "_mask", lambda self, given, states: mask(self, None, states)
    )
    with pytest.raises(UserError, match="beyond the window"):
        self_check(tiny(case, dtype=dtype))


def of_no_table(model, name: str = "unnamed") -> LanguageModel:
    """A model as it is opened whose family the library does not name."""
    made = LanguageModel.of(model, tiny_tokenizer(), name=name)
    made.known_architecture = None
    return made


@pytest.mark.parametrize("case", CASES)
def test_wiring_that_is_looked_for_is_what_the_table_says(case: str) -> None:
    known = tiny(case).architecture
    found = of_no_table(tiny(case).model).architecture
    same = {"head": known.head.split("|")[0]}
    if case in PARALLEL or known.mid == found.mid:
        same["mid"] = known.mid
    assert replace(found, **same) == replace(known, **same)


@pytest.mark.parametrize("make", [tiny_cohere2, tiny_starcoder2, tiny_olmo])
def test_a_family_that_nobody_named_is_found_and_accepted(make) -> None:
    model = of_no_table(make())
    assert self_check(model).passed
    assert (model.architecture.attention, model.architecture.ffn) == ("self_attn", "mlp")


@pytest.mark.parametrize("make", [tiny_openai_gpt, gated_llama])
def test_an_impostor_is_refused(make) -> None:
    with pytest.raises(UserError, match="looked for and not found: no two modules") as caught:
        _ = of_no_table(make()).architecture
    assert "\n" not in str(caught.value)


class WithoutBias(Architecture):
    """An adapter that multiplies by the head's weight, as many libraries do."""

    def head_of(self, model):
        head = nn.Linear(*reversed(model.lm_head.weight.shape), bias=False)
        head.weight = model.lm_head.weight
        return head


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_head_without_its_bias_is_refused(dtype: torch.dtype) -> None:
    model = tiny("gptj", dtype=dtype)
    model.architecture = WithoutBias(**vars(model.architecture))
    with pytest.raises(UserError, match="early decoding of the last state"):
        self_check(model)


@pytest.mark.parametrize(
    ("wiring", "message"),
    [
        ({"ffn": "mlp.c_fc"}, r"'ffn' of tiny-gpt2 has shape \[2, \d+, 40\]"),
        ({"ffn": "mlp.nothing"}, "no module 'mlp.nothing'"),
        ({"layers": "transformer.blocks"}, "no module 'transformer.blocks'"),
        ({"ffn": "crossattention"}, "no module"),
    ],
)
def test_a_module_that_cannot_be_it_is_refused_by_name(wiring, message) -> None:
    with pytest.raises(UserError, match=message):
        self_check(tampered("gpt2", **wiring))


def test_a_module_that_is_never_run_is_refused() -> None:
    model = tampered("gpt2", ffn="spare")
    for layer in model.layers:
        layer.spare = nn.Identity()
    with pytest.raises(UserError, match="layer 0: the module for 'ffn' was never run"):
        self_check(model)


def test_the_layer_that_is_wrong_is_the_layer_that_is_named() -> None:
    model = tiny("llama")
    # Something after the FFN of layer 1, and only there, scales what reaches the stream.
    model.layers[1].register_forward_hook(lambda _module, _args, output: 1.5 * output)
    report = self_check(model, strict=False)
    assert not report.passed
    assert row_of(report, SUM).layer == 1
    with pytest.raises(UserError, match="at layer 1 it does not hold that before"):
        self_check(model)


def test_an_ffn_whose_replacement_does_not_reach_the_stream_is_refused() -> None:
    """The recorded module is the right one, but the block's sum is made without its hooks."""
    model = tiny("llama")

    def without_hooks(block, args, kwargs, _output):
        ours = dict(block.mlp._forward_hooks)
        block.mlp._forward_hooks.clear()
        try:
            return block.forward(*args, **kwargs)
        finally:
            block.mlp._forward_hooks.update(ours)

    model.layers[2].register_forward_hook(without_hooks, with_kwargs=True)
    with pytest.raises(UserError, match="at layer 2 it does not hold that an FFN replaced"):
        self_check(model)


def test_not_a_number_is_refused_and_explained() -> None:
    model = tiny("gpt2", dtype=torch.float16)
    with torch.no_grad():
        model.layers[1].mlp.c_proj.weight.fill_(60000)  # overflows float16, as large models do
    with pytest.raises(UserError, match=r"layer 1 is not a number in float16: take bfloat16"):
        self_check(model)


def test_wrong_weights_in_one_place_are_no_concern_of_the_wiring() -> None:
    """The check is about wiring: a model with other weights is another model, and passes."""
    model = tiny("gpt2")
    with torch.no_grad():
        model.layers[1].mlp.c_proj.weight.mul_(3)
    assert self_check(model).passed


def test_the_check_leaves_no_hook_behind() -> None:
    model = tampered("bloom", ffn="mlp")
    with pytest.raises(UserError):
        self_check(model)
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in model.model.modules()
    )
