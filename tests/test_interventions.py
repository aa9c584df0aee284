"""Interventions against hand-written passes with the change made by hand, and their manners."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hand_written import hand_written
from ovectors.errors import UserError
from ovectors.interventions import (
    Ablate,
    Add,
    Intervention,
    Replace,
    during,
    final_states,
    intervene,
    next_token_logits,
)
from ovectors.models import LanguageModel
from ovectors.stream import record
from tiny_models import CASES, LAYERS, PROMPTS, WIDTH, tiny, tiny_tokenizer

USED = len(tiny_tokenizer())
VECTOR = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
OTHERS = torch.randn(len(PROMPTS), WIDTH, generator=torch.Generator().manual_seed(2))
# Far below what the changes do to logits (0.1 and more), far above float32's noise (1e-5).
CLOSE = {"rtol": 1e-4, "atol": 1e-3}


def by_hand(
    kind: str, layers: set[int], positions: str, change: Callable[[Tensor], Tensor]
) -> Callable[[str, int, Tensor], Tensor]:
    """The same change, made inside the hand-written pass."""

    def edit(this_kind: str, layer: int, vectors: Tensor) -> Tensor:
        if this_kind != kind or layer not in layers:
            return vectors
        if positions == "all":
            return torch.stack([change(vector) for vector in vectors])
        return torch.cat((vectors[:-1], change(vectors[-1])[None]))

    return edit


def check(
    model: LanguageModel,
    interventions: list[Intervention],
    edits: list[Callable[[str, int, Tensor], Tensor]],
) -> None:
    """Logits under interventions, batched with padding, equal the hand-written ones, prompt by
    prompt, and differ from the untouched."""
    changed = next_token_logits(model, PROMPTS, interventions=interventions)
    clean = next_token_logits(model, PROMPTS)
    for row, ids in enumerate(PROMPTS):
        truth = hand_written(model.model, ids, edit=edits[row % len(edits)])["logits"][-1]
        torch.testing.assert_close(changed[row, :USED].double(), truth[:USED], **CLOSE)
        assert (clean[row] - changed[row])[:USED].abs().max() > 0.1


@pytest.mark.parametrize("positions", ["last", "all"])
@pytest.mark.parametrize("case", CASES)
def test_replacing_ffn_contributions(case: str, positions: str) -> None:
    edit = by_hand("ffn", {1, 2}, positions, lambda _: VECTOR.double())
    check(tiny(case), [Replace(VECTOR, layers=[1, 2], positions=positions)], [edit])


@pytest.mark.parametrize("positions", ["last", "all"])
@pytest.mark.parametrize("case", CASES)
def test_adding_to_attention_contributions(case: str, positions: str) -> None:
    edit = by_hand("attention", {0}, positions, lambda old: old - 2.5 * VECTOR)
    one = Add(VECTOR, scale=-2.5, layers=[0], positions=positions, kind="attention")
    check(tiny(case), [one], [edit])


@pytest.mark.parametrize("kind", ["ffn", "attention"])
@pytest.mark.parametrize("case", CASES)
def test_ablating(case: str, kind: str) -> None:
    edit = by_hand(kind, {1}, "all", torch.zeros_like)
    check(tiny(case), [Ablate(layers=[1], positions="all", kind=kind)], [edit])


@pytest.mark.parametrize("case", ["gpt2", "bloom"])
def test_a_vector_for_each_prompt_finds_its_prompt(case: str) -> None:
    """Batches are sorted by length, so a row's number is not its prompt's."""
    edits = [by_hand("ffn", {2}, "last", lambda _, own=own: own.double()) for own in OTHERS]
    check(tiny(case), [Replace(OTHERS, layers=[-1], positions="last")], edits)


def test_a_position_for_each_prompt() -> None:
    model, at = tiny("llama"), torch.tensor([1, 0, 4, 1])
    changed = next_token_logits(
        model, PROMPTS, interventions=[Add(VECTOR, layers=[0], positions=at)]
    )
    for row, ids in enumerate(PROMPTS):

        def edit(kind: str, layer: int, vectors: Tensor, here: int = int(at[row])) -> Tensor:
            only = torch.arange(len(vectors))[:, None] == here
            return vectors + only * VECTOR if (kind, layer) == ("ffn", 0) else vectors

        truth = hand_written(model.model, ids, edit=edit)["logits"][-1]
        torch.testing.assert_close(changed[row, :USED].double(), truth[:USED], **CLOSE)


def test_interventions_act_one_after_another() -> None:
    model = tiny("gpt2")
    replace = Replace(VECTOR, layers=[1], positions="last")
    add = Add(VECTOR, layers=[1], positions="last")
    edit = by_hand("ffn", {1}, "last", lambda _: 2 * VECTOR.double())
    check(model, [replace, add], [edit])
    check(model, [add, replace], [by_hand("ffn", {1}, "last", lambda _: VECTOR.double())])


def test_a_recording_under_interventions_shows_them() -> None:
    model = tiny("bloom")
    around = during(model, [Replace(VECTOR, layers=[1], positions="last")])
    stream = record(model, PROMPTS, parts=["before", "attention", "ffn", "after"], around=around)
    assert torch.equal(stream.at("ffn", 1), VECTOR.expand(len(PROMPTS), -1))
    total = stream["before"] + stream["attention"] + stream["ffn"]
    torch.testing.assert_close(stream["after"], total)


def test_the_last_position_leaves_earlier_tokens_alone() -> None:
    model, first = tiny("gpt_neox"), torch.zeros(len(PROMPTS), dtype=torch.long)
    around = during(model, [Replace(VECTOR, layers=[0, 1, 2], positions="last")])
    changed = record(model, PROMPTS, parts="after", positions=first, around=around)["after"]
    clean = record(model, PROMPTS, parts="after", positions=first)["after"]
    assert torch.equal(changed, clean)


def test_final_states_are_the_last_layers_output() -> None:
    model = tiny("gptj")
    states = record(model, PROMPTS, parts=["after"])["after"][-1]
    assert torch.equal(final_states(model, PROMPTS), states)


@pytest.mark.parametrize("case", ["gpt2", "bloom"])
def test_vectors_move_to_the_models_dtype_and_stay_as_they_were(case: str) -> None:
    model, own = tiny(case, dtype=torch.bfloat16), VECTOR.double().clone()
    around = during(model, [Replace(own, layers=[0], positions="all")])
    stream = record(model, PROMPTS, parts=["ffn"], layers=[0], around=around)
    assert torch.equal(stream["ffn"][0, 2], VECTOR.bfloat16().float())
    assert own.dtype == torch.float64
    assert torch.equal(own, VECTOR.double())


@pytest.mark.parametrize(
    "change",
    [
        Replace(VECTOR, layers=[1], positions="last"),
        Replace(VECTOR, layers=[1], positions="all"),
        Add(VECTOR, layers=[1], positions="all"),
        Ablate(layers=[1], positions="last"),
        Ablate(layers=[1], positions="all", kind="attention"),
    ],
    ids=lambda change: f"{type(change).__name__}-{change.positions}",
)
def test_nothing_is_changed_in_place(change: Intervention) -> None:
    model = tiny("gpt2")
    seen: list[tuple[Tensor, Tensor]] = []

    def foreign(_module, _args, output) -> None:
        output = output[0] if isinstance(output, tuple) else output
        seen.append((output, output.clone()))

    for module in (model.layers[1].mlp, model.layers[1].attn):
        module.register_forward_hook(foreign)
    next_token_logits(model, PROMPTS, interventions=[change])
    assert seen
    assert all(torch.equal(output, copy) for output, copy in seen)


def test_all_positions_of_a_replacement_are_tensors_of_their_own() -> None:
    """An expanded view would share its memory, and whoever wrote to one row would write to all."""
    model, outputs = tiny("gpt2"), []
    with intervene(model, [Replace(VECTOR, layers=[1], positions="all")], torch.tensor([7])):
        handle = model.layers[1].mlp.register_forward_hook(lambda *a: outputs.append(a[2]))
        model.model(torch.tensor([PROMPTS[0]]))
        handle.remove()
    assert outputs[0].is_contiguous()
    assert outputs[0].data_ptr() != VECTOR.data_ptr()


def hooks_of(model: LanguageModel) -> int:
    return sum(len(module._forward_hooks) for module in model.model.modules())


def test_own_hooks_are_removed_and_foreign_ones_stay_whatever_happens() -> None:
    model = tiny("llama")
    model.layers[1].mlp.register_forward_hook(lambda *_: None)
    ids = torch.tensor([PROMPTS[0]])
    clean = model.model(ids).logits
    changes = [Ablate(layers=range(LAYERS), positions="all")]
    with intervene(model, changes, torch.tensor([7])):
        assert hooks_of(model) == 1 + LAYERS
        assert not torch.allclose(model.model(ids).logits, clean, atol=0.1)
    assert hooks_of(model) == 1
    with pytest.raises(KeyboardInterrupt), intervene(model, changes, torch.tensor([7])):
        raise KeyboardInterrupt
    assert hooks_of(model) == 1
    assert torch.equal(model.model(ids).logits, clean)


def test_a_bad_intervention_leaves_no_hook_behind() -> None:
    model = tiny("gpt2")
    good, bad = Ablate(layers=[0], positions="all"), Ablate(layers=[9], positions="all")
    with pytest.raises(UserError), intervene(model, [good, bad], torch.tensor([3])):
        pass
    kind = Ablate(layers=[0], positions="all", kind="mlp")
    with pytest.raises(UserError), intervene(model, [good, kind], torch.tensor([3])):
        pass
    assert hooks_of(model) == 0


def test_nested_interventions_both_act() -> None:
    model = tiny("gpt2")
    ids, length = torch.tensor([PROMPTS[0]]), torch.tensor([7])
    ablate, add = Ablate(layers=[0], positions="all"), Add(VECTOR, layers=[2], positions="last")
    with intervene(model, [ablate, add], length):
        both = model.model(ids).logits
    with intervene(model, [ablate], length), intervene(model, [add], length):
        assert torch.equal(model.model(ids).logits, both)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Ablate(layers=[3], positions="all"), "no layer 3: its layers are 0 to 2"),
        (Ablate(layers=[0], positions="first"), "not 'first'"),
        (Ablate(layers=[0], positions=[0]), "1 positions were given for 4 prompts"),
        (Ablate(layers=[0], positions="all", kind="mlp"), "'ffn' or 'attention', not 'mlp'"),
        (Replace(torch.zeros(7), layers=[0], positions="all"), r"\[7\]; tiny-gpt2 takes one of 24"),
        (Replace(torch.zeros(2, 24), layers=[0], positions="all"), "2 vectors .* 4 prompts"),
    ],
)
def test_bad_interventions_are_told_in_one_line(change: Intervention, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        next_token_logits(tiny("gpt2"), [PROMPTS[0]] * 4, interventions=[change])
    assert "\n" not in str(caught.value)


def test_rows_other_than_announced_are_refused() -> None:
    model = tiny("gpt2")
    with (
        intervene(model, [Ablate(layers=[0], positions="last")], torch.tensor([3, 3])),
        pytest.raises(ValueError, match="announced were 2 rows, the model runs 1"),
    ):
        model.model(torch.tensor([[1, 2, 3]]))


def test_a_position_beyond_the_pass_is_refused() -> None:
    model = tiny("gpt2")
    with (
        intervene(model, [Ablate(layers=[0], positions="last")], torch.tensor([9])),
        pytest.raises(ValueError, match="outside the tokens"),
    ):
        model.model(torch.tensor([[1, 2, 3]]))
