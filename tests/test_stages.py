"""Stages: ranks against a prompt-by-prompt loop, the rules against items made by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from ovectors.encoding import TOO_LONG, encode_relation
from ovectors.experiments.stages import judge, measure
from ovectors.experiments.stages.measure import TOP_TOKENS
from ovectors.models import LanguageModel
from ovectors.prompts import build_prompts
from ovectors.relations import load_relation
from ovectors.statistics import bands
from ovectors.training.lexicon import Lexicon
from ovectors.training.tokenizer import build_tokenizer

LAYERS = 3


@pytest.fixture(scope="module")
def model():
    tokenizer = build_tokenizer(Lexicon())
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=256,
        n_embd=16,
        n_layer=LAYERS,
        n_head=2,
        initializer_range=0.5,
        bos_token_id=0,
        eos_token_id=0,
    )
    network = GPT2LMHeadModel(config).double().eval()  # so that no two ranks differ by rounding
    with torch.no_grad():  # norms that do nothing would hide a norm that is left out
        for name, weight in network.named_parameters():
            if "ln_" in name or name.endswith("bias"):
                weight += 0.3 * torch.randn_like(weight)
    return LanguageModel.of(network, tokenizer, name="random")


@pytest.fixture(scope="module")
def result(model):
    encoded = encode_relation(model, "world_capitals", "one_shot", n_items=12, seed=1)
    return measure.stages(model, "world_capitals", n_items=12, seed=1), encoded


def ranks_by_hand(model, text, word):
    """One prompt, one state at a time: norm, head, and how many logits are larger."""
    network, tokenizer = model.model, model.tokenizer
    ids = torch.tensor([tokenizer.encode(text)])
    token = tokenizer.encode(text + word)[ids.shape[1]]
    found = []
    with torch.no_grad():
        state = network.transformer.wte(ids) + network.transformer.wpe(torch.arange(ids.shape[1]))
        for block in network.transformer.h:
            mid = state + block.attn(block.ln_1(state))[0]
            state = mid + block.mlp(block.ln_2(mid))
            for shown in (mid, state):
                logits = network.lm_head(network.transformer.ln_f(shown[0, -1]))
                found.append(1 + int((logits > logits[token]).sum()))
    return found


def test_ranks_equal_those_of_a_loop_over_prompts(model, result):
    table, encoded = result
    prompts = {prompt.argument: prompt for prompt in encoded.prompts}
    assert len(prompts) == len(encoded) > 8
    for argument, rows in table.groupby("argument"):
        prompt = prompts[argument]
        assert list(rows["layer"]) == [0, 0, 1, 1, 2, 2]
        assert list(rows["state"]) == ["mid", "after"] * LAYERS
        assert rows["rank_argument"].tolist() == ranks_by_hand(model, prompt.text, argument)
        assert rows["rank_answer"].tolist() == ranks_by_hand(model, prompt.text, prompt.answer)


def test_top_tokens_and_correct_are_those_of_the_model(model, result):
    table, encoded = result
    for prompt, (_, rows) in zip(encoded.prompts, table.groupby("item"), strict=True):
        ids = torch.tensor([model.tokenizer.encode(prompt.text)])
        with torch.no_grad():
            best = model.model(ids).logits[0, -1].topk(TOP_TOKENS).indices.tolist()
        words = [model.tokenizer.decode([token]) for token in best]
        assert rows["top_tokens"].iloc[-1] == words
        assert rows["top_token"].iloc[-1] == words[0]
        assert bool(rows["correct"].iloc[0]) == (rows["rank_answer"].iloc[-1] == 1)


def test_the_states_after_layers_are_those_of_an_architecture_without_mid(
    model, result, monkeypatch
):
    whole = judge.after_layers(result[0]).reset_index(drop=True)
    monkeypatch.setattr(model, "architecture", replace(model.architecture, mid=None))
    alone = measure.stages(model, "world_capitals", n_items=12, seed=1)
    assert set(alone["state"]) == {"after"} and len(alone) == len(whole) == len(result[0]) / 2
    pd.testing.assert_frame_equal(alone, whole)


def test_every_item_is_run_or_counted_as_left_out(result):
    _, encoded = result
    asked = build_prompts(load_relation("world_capitals"), "one_shot", n_items=12, seed=1)
    assert len(encoded) + len(encoded.excluded) == len(asked) == 12


def test_prompts_that_are_too_long_are_counted_not_run(model, tmp_path):
    path = tmp_path / "long.csv"
    path.write_text(f"argument,answer\ncup,Cup\nlamp,Lamp\n{'bread ' * 300},Bread\n")
    relation = load_relation("mine", path=path)
    table = measure.stages(model, relation)
    encoded = encode_relation(model, relation, "one_shot")
    assert set(table["argument"]) == {" cup", " lamp"}
    assert encoded.exclusion_counts() == {TOO_LONG: 1}


def made_up(ranks, *, correct=None, mid=()):
    """A table of items given as (argument's ranks, answer's ranks) after each layer.

    `mid` are these ranks between attention and FFN, the same for all items.
    """
    rows = []
    for item, (argument, answer) in enumerate(ranks):
        right = answer[-1] == 1 if correct is None else correct[item]
        for layer, (x, y) in enumerate(zip(argument, answer, strict=True)):
            row = {"relation": "past_tense", "form": "one_shot", "item": item, "correct": right}
            row |= {"argument": f" a{item}", "answer": f" b{item}", "layer": layer}
            if mid:
                between = {"rank_argument": mid[0][layer], "rank_answer": mid[1][layer]}
                rows.append(row | between | {"state": "mid", "top_token": " between"})
            rows.append(row | {"state": "after", "rank_argument": x, "rank_answer": y})
            rows[-1]["top_token"] = f" a{item}" if x == 1 else f" b{item}" if y == 1 else " the"
    return pd.DataFrame(rows)


X = ([5, 1, 2, 3], [9, 4, 1, 1])  # argument, then the answer, which stays
SLOW = ([1, 5, 5, 5], [9, 4, 1, 1])  # nothing on top in between: formed, but not abrupt
LATE = ([5, 1, 1, 2], [9, 4, 2, 1])  # the answer comes in the last layer: no saturation
SHAKY = ([1, 2, 1, 2], [9, 1, 2, 1])  # the answer goes again
DIRECT = ([5, 5, 5, 5], [9, 1, 1, 1])  # no argument stage


@pytest.mark.parametrize(
    ("item", "formed", "application", "abrupt", "saturated"),
    [
        (X, True, 2, True, True),
        (SLOW, True, 2, False, True),
        (LATE, True, 3, True, False),
        (SHAKY, True, 1, True, False),
        (DIRECT, False, None, False, False),
        (([1, 1, 1, 1], [9, 9, 9, 9]), True, None, False, False),
        (([2, 2, 1, 1], [1, 1, 3, 3]), False, None, False, False),  # argument only afterwards
    ],
)
def test_the_rules(item, formed, application, abrupt, saturated):
    found = judge.detect_stages(*map(np.array, item))
    expected = (formed, application, abrupt, saturated)
    got = (found.argument_formed, found.application, found.is_abrupt, found.saturated)
    assert got == expected
    assert found.has_signature == (formed and application is not None and saturated)


def test_the_stage_table_counts_items():
    wrong = ([1, 1, 1, 1], [9, 9, 9, 9])
    shares = judge.stage_table(made_up([X, SLOW, LATE, DIRECT, wrong])).set_index("stage")
    assert set(shares["n"]) == {4}  # the wrong item does not count
    assert shares.loc["argument formation", "share"] == 0.75
    assert shares.loc["whole signature", "share"] == 0.5
    abrupt = "abrupt: the argument was on top one layer before"
    assert shares.loc[abrupt, "share"] == 0.5
    assert shares.loc["function application", "median_layer"] == 2
    assert shares.loc["function application", "relative_depth"] == 0.75
    assert shares.loc["answer on top", ["share", "median_layer"]].tolist() == [1.0, 2.0]


def test_curves_average_correct_items_only():
    table = made_up([X, DIRECT, ([1, 1, 1, 1], [2, 2, 2, 2])])
    curves = judge.reciprocal_rank_curves(table).set_index(["token", "layer"])
    assert curves.loc[("argument", 1), "mean"] == pytest.approx((1 + 1 / 5) / 2)
    assert curves.loc[("answer", 1), "mean"] == pytest.approx((1 / 4 + 1) / 2)
    assert set(curves["n"]) == {2}
    everything = judge.reciprocal_rank_curves(table, correct_only=False)
    assert set(everything["n"]) == {3}


def test_a_model_that_is_never_right_gives_empty_tables_with_columns():
    table = made_up([([1, 1], [9, 9])])
    assert judge.stage_table(table).empty and judge.reciprocal_rank_curves(table).empty
    assert list(judge.stage_table(table)["stage"]) == []


def test_accuracy_counts_items_once():
    found = judge.accuracy(made_up([X, DIRECT, ([1, 1, 1, 1], [2, 2, 2, 2])]))
    assert (found.value, found.n) == (pytest.approx(2 / 3), 3)


def test_the_papers_example_is_shown_where_it_was_run():
    table = made_up([DIRECT, X])
    assert set(judge.example_items(table)["item"]) == {0}
    named = table.replace({"argument": {" a1": " abolish"}})
    assert set(judge.example_items(named)["item"]) == {1}


def test_the_first_item_with_the_signature_is_found_where_there_is_one():
    assert set(judge.signature_items(made_up([DIRECT, LATE, SLOW, X]))["item"]) == {2}
    assert judge.signature_items(made_up([DIRECT, LATE])).empty
    assert judge.signature_items(made_up([X], correct=[False])).empty


def test_final_tokens_are_shares_of_items():
    tokens = judge.final_top_tokens(made_up([X, X, DIRECT]))
    assert tokens["share"].tolist() == pytest.approx([1 / 3] * 3)


BETWEEN = ([9, 9, 1, 9], [9, 9, 9, 9])  # the argument is on top after layer 2's attention alone
TASKS = ("past_tense", "world_capitals", "colored_objects")


def test_what_sums_up_layers_leaves_out_what_is_between_attention_and_ffn():
    items = [X, SLOW, LATE, DIRECT]
    plain, both = made_up(items), made_up(items, mid=BETWEEN)
    for summed in (
        judge.stage_table,
        judge.reciprocal_rank_curves,
        judge.final_top_tokens,
        judge.example_items,
        judge.signature_items,
    ):
        found, expected = (summed(one).reset_index(drop=True) for one in (both, plain))
        pd.testing.assert_frame_equal(found, expected, check_like=True)
    drawn = judge.reciprocal_rank_curves(both, mid=True)
    argument = drawn[drawn["token"] == "argument"].set_index("layer")["mean"]
    assert list(argument.index) == [-0.5, 0, 0.5, 1, 1.5, 2, 2.5, 3]
    assert argument[1.5] == 1 and argument[1] == pytest.approx((1 + 1 / 5 + 1 + 1 / 5) / 4)


def verdict(*tables):
    """The claim on tables of made-up items, each as another relation."""
    named = [one.assign(relation=task) for one, task in zip(tables, TASKS, strict=False)]
    return judge.claim(pd.concat(named), model="m", relations=TASKS[: len(tables)])


def ruled(found, relation="past_tense"):
    """The numbers of the rule on a relation: (name, value) by kind."""
    own = [one for one in found.measured if one.relation == relation]
    return {one.name: one for one in own if one.kind == "paper"}


def test_an_x_of_the_means_is_the_papers_claim():
    found = verdict(*[made_up([X] * 24)] * 2)
    assert found.verdict == "supported"
    numbers = ruled(found)
    assert list(numbers) == [
        "answer above the argument, after layer 3",
        "argument above the answer, after layer 1",
    ]
    assert [one.value for one in numbers.values()] == pytest.approx([1 - 1 / 3, 1 - 1 / 4])
    assert [one.bound for one in numbers.values()] == [0, 0.1]
    stricter = [one for one in found.measured if one.name == judge.SHOWS_STAGES]
    assert [(one.value, one.kind, one.holds) for one in stricter] == [(1.0, None, None)] * 2


def test_an_answer_that_comes_in_the_last_layer_makes_an_x_too():
    found = verdict(*[made_up([LATE] * 24)] * 2)
    assert found.verdict == "supported"
    assert {one.value for one in found.measured if one.name == judge.SHOWS_STAGES} == {0.0}


def test_an_argument_that_forms_between_attention_and_ffn_is_seen():
    direct = [DIRECT] * 24
    found = verdict(*[made_up(direct, mid=BETWEEN)] * 2)
    assert found.verdict == "supported"
    above = ruled(found)["argument above the answer, after layer 2's attention"]
    assert above.value == pytest.approx(1 - 1 / 9)
    assert verdict(*[made_up(direct)] * 2).verdict == "not supported"


def test_where_the_argument_is_never_above_its_best_state_is_named():
    found = verdict(*[made_up([DIRECT] * 24)] * 2)
    assert ruled(found)["argument above the answer, after layer 0"].value == pytest.approx(
        1 / 5 - 1 / 9
    )
    assert "the paper's own comparison fails on past tense and world capitals (arg" in found.why


def test_the_answer_has_to_come_after_the_argument():
    turned = ([5, 5, 1, 1], [1, 1, 2, 2])
    found = verdict(*[made_up([turned] * 24, correct=[True] * 24)] * 2)
    assert found.verdict == "not supported"
    assert ruled(found)["argument above the answer, after layer 2"].holds is True
    assert ruled(found)["answer above the argument, after layer 3"].holds is False


def test_one_task_alone_is_worth_partly():
    assert verdict(made_up([X] * 24), made_up([DIRECT] * 24)).verdict == "partly"


def test_too_few_items_test_nothing_however_well_they_do():
    found = verdict(*[made_up([X] * 15)] * 2)
    assert found.verdict == "not testable here"
    assert "past tense and world capitals (accuracy: 15 items, 20 are needed)" in found.why

    def colours(count):
        arguments = [f" {at % count}" for at in range(60) for _ in range(4)]
        return made_up([X] * 60).assign(argument=arguments)

    assert verdict(*[colours(30)] * 2).verdict == "supported"  # two items of each
    assert verdict(*[colours(12)] * 2).verdict == "supported"  # five of each: twelve will do
    assert verdict(*[colours(11)] * 2).verdict == "not testable here"


def test_intervals_are_corrected_for_relations_and_states():
    ranks = np.random.default_rng(1).integers(1, 6, size=(40, 2, 4)).tolist()
    table = made_up(ranks, correct=[True] * 40)
    ahead = np.array([1 / np.array(argument) - 1 / np.array(answer) for argument, answer in ranks])
    states = bands(ahead, confidence=1 - 0.05 / (2 * 4))
    best = max(states[:-1], key=lambda state: state.low)
    (found,) = (
        one for name, one in ruled(verdict(table, table)).items() if "argument above" in name
    )
    assert (found.value, found.low, found.high) == pytest.approx((best.value, best.low, best.high))


def test_random_weights_are_no_test(model):
    tables = [measure.stages(model, task, n_items=30) for task in TASKS]
    found = judge.claim(pd.concat(tables), model="random", relations=TASKS)
    assert found.verdict == "not testable here"
    assert "0 of 3 relations can be tested" in found.why and "accuracy 0.0" in found.why
