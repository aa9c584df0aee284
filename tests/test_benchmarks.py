"""The benchmarks' own tools: do all ways answer alike, is a wrong one caught, are counts right."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks import __main__ as command
from benchmarks import agreement, contestants, flops, memory, plan, report, run, shapes, timing
from benchmarks.contestants import by_hand, ours, plain
from benchmarks.questions import Answer
from torch.utils.flop_counter import FlopCounterMode

from ovectors import pages, paths
from ovectors.encoding import encode_relation
from ovectors.errors import UserError
from ovectors.prose.costs import NOTHING, costs

PROMPTS = 2
TINY = ("tiny-gpt2", "tiny-gptj", "tiny-llama")


@pytest.fixture(scope="module")
def model():
    return shapes.build("tiny-gpt2")


@pytest.fixture(scope="module")
def question(model):
    return run.question(model, shapes.prompts(model, count=PROMPTS), "last")


@pytest.fixture(scope="module")
def truth(model, question):
    return agreement.Truth(model).sweep(question)


@pytest.fixture(scope="module")
def answer(model, question):
    with contestants.opened(contestants.BY_HAND, model, rows=2) as ask:
        return ask(question)


@pytest.fixture(scope="module")
def found():
    """A whole run, of this library and a plain pass alone."""
    with pytest.MonkeyPatch.context() as patch:
        few = [one for one in plan.MEASURES if one.against == plan.PLAIN]
        patch.setattr(plan, "MEASURES", few)
        patch.setattr(contestants, "SWEEPERS", (contestants.OURS, contestants.SLOW))
        one = plan.Plan(shape="tiny-gpt2", many=2, few=2, fewest=2, agreeing=2, goals=True)
        settings = run.Settings(repeats=2, device="cpu", report=lambda line: None)
        return json.loads(json.dumps(run.run([one], settings)))


@pytest.mark.parametrize("positions", ["last", "all"])
@pytest.mark.parametrize("name", contestants.SWEEPERS)
def test_every_contestant_gives_the_numbers_of_the_arithmetic(model, name, positions):
    if why := contestants.missing(name):
        pytest.skip(why)
    asked = run.question(model, shapes.prompts(model, count=PROMPTS), positions)
    exact = agreement.Truth(model).sweep(asked)
    with contestants.opened(name, model, rows=2) as ask:
        answered = ask(asked)
    allowed = agreement.tolerance(model, exact)
    told = agreement.check(name, answered, exact, asked, allowed=allowed)
    assert told["ranks_equal"] > 0.9
    assert not any(module._forward_hooks for module in model.model.modules())


@pytest.mark.parametrize("shape", ["tiny-gptj", "tiny-llama", "tiny-llama-bf16"])
def test_the_shapes_of_a_gpu_run_agree_on_a_cpu(shape):
    small = shapes.build(shape)
    asked = run.question(small, shapes.prompts(small, count=PROMPTS), "last")
    exact = agreement.Truth(small).sweep(asked)
    with contestants.opened(contestants.OURS, small, rows=2) as ask:
        answered = ask(asked)
    allowed = agreement.tolerance(small, exact)
    agreement.check("ours", answered, exact, asked, allowed=allowed)
    clean = plain.forward(small, asked.token_ids, rows=1)
    whole = torch.stack(
        [small.model(torch.tensor([list(ids)])).logits[0, -1] for ids in asked.token_ids]
    )
    agreement.check_logits("plain", clean, whole, allowed=allowed)


def test_stages_by_hand_and_by_the_experiment_agree(model):
    encoded = encode_relation(model, shapes.RELATION, shapes.FORM, n_items=3)
    by_sorting = by_hand.stages(contestants.copied(model), encoded).ranks
    mine = ours.stages(model, shapes.RELATION, n_items=3).ranks
    for name, ranks in by_sorting.items():
        assert mine[name].shape == ranks.shape == (model.n_layers, len(encoded))
        assert np.abs(mine[name] - ranks).max() <= 1


def test_an_answer_to_another_question_is_refused(model, question, truth, answer):
    allowed = agreement.tolerance(model, truth)
    agreement.check("right", answer, truth, question, allowed=allowed)
    other = replace(question, positions="all")
    unchanged = replace(question, vector=torch.zeros(model.d_model))
    for asked in (other, unchanged):
        with contestants.opened(contestants.OURS, model, rows=2) as ask:
            answered = ask(asked)
        with pytest.raises(agreement.Disagreement, match="wrong: rank"):
            agreement.check("wrong", answered, truth, question, allowed=allowed)


def test_single_wrong_numbers_are_refused(model, question, truth, answer):
    allowed = agreement.tolerance(model, truth)
    logits = {name: values + 2 * allowed for name, values in answer.logits.items()}
    with pytest.raises(agreement.Disagreement, match="a logit is"):
        wrong = replace(answer, logits=logits)
        agreement.check("wrong", wrong, truth, question, allowed=allowed)
    with pytest.raises(agreement.Disagreement, match="top token"):
        wrong = replace(answer, top=truth.argmin(-1).numpy())
        agreement.check("wrong", wrong, truth, question, allowed=allowed)
    far = {name: ranks + 50 for name, ranks in answer.ranks.items()}
    with pytest.raises(agreement.Disagreement, match="rank"):
        wrong = Answer(ranks=far, top=answer.top)
        agreement.check("wrong", wrong, truth, question, allowed=allowed)
    with pytest.raises(agreement.Disagreement, match="a logit is"):
        agreement.check_logits("wrong", truth[-1] + 1, truth[-1], allowed=allowed)


def test_a_run_in_which_somebody_disagrees_reports_nothing(monkeypatch, capsys):
    def refuse(*_arguments, **_settings):
        raise agreement.Disagreement("nnsight: a logit is 3 from the truth")

    monkeypatch.setattr(agreement, "check", refuse)
    monkeypatch.setattr(plan, "QUICK", plan.QUICK[:1])
    assert command.main(["--quick"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and "nothing is reported: nnsight: a logit is 3" in said.err


def test_a_gpu_that_is_not_here_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command.main(["--device", "cuda"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_stretched_tokenizer_reads_the_same_and_names_every_row():
    wide = shapes.build("tiny-gpt2").tokenizer
    stretched = shapes.stretched(wide, len(wide) + 100)
    text = "Q: What is the capital of France?\nA: Paris<spare 9119>"
    assert stretched.encode(text) == wide.encode(text)
    assert sorted(stretched.get_vocab().values()) == list(range(len(wide) + 100))


@pytest.mark.parametrize("shape", TINY)
@pytest.mark.parametrize("length", [1, 7])
def test_counted_operations_are_those_that_pytorch_counts(shape, length):
    """PyTorch counts attention without its causal half, and the head at every token."""
    small = shapes.build(shape)
    small.model.set_attn_implementation("eager")
    sizes, prompts = flops.sizes_of(small), [list(range(length)), list(range(1, length + 1))]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        small.model(torch.tensor(prompts), use_cache=False)
    looked_at = len(prompts) * (length**2 - length * (length + 1) // 2)
    more = sizes.layers * 4 * sizes.heads * sizes.head_width * looked_at
    more += len(prompts) * (length - 1) * flops.head(sizes)
    counted, difference = counter.get_total_flops(), 0
    if shape != "tiny-gpt2":  # rotary embeddings multiply positions by frequencies
        difference = 0.01 * counted
    assert counted - more == pytest.approx(flops.plain_pass(sizes, prompts), abs=difference)


def test_sweeps_are_counted_as_on_paper():
    """One unit wide: attention is 8 and 4 more a token looked at, an FFN 4, the head 2."""
    unit = {"width": 1, "inner": 1, "heads": 1, "kv_heads": 1, "head_width": 1, "vocabulary": 1}
    sizes, prompts = flops.Sizes(layers=2, ffn_matrices=2, **unit), [[5, 6], [5, 7]]
    assert sorted(flops.distinct_contexts(prompts)) == [1, 2, 2]
    assert flops.plain_pass(sizes, prompts) == 2 * (12 + 16 + 12 + 16 + 4 * 4) + 2 * 2
    last = {"starts": range(2), "share_prefix": False}
    assert flops.last_position_sweep(sizes, prompts, **last) == 144 + 2 * 16 + 4 * 2
    shared = last | {"share_prefix": True}
    assert flops.last_position_sweep(sizes, prompts, **shared) == 112 + 2 * 16 + 4 * 2
    assert flops.all_position_sweep(sizes, prompts, starts=range(2)) == 144 + 56 + 4 * 2
    ran = flops.all_position_sweep(sizes, prompts, starts=range(2), given_ffn=False)
    assert ran == 144 + 56 + 16 + 4 * 2
    assert flops.hooked_sweep(sizes, prompts, starts=2) == 2 * 148
    assert flops.stages(sizes, prompts) == 148 + 4


def test_pairs_are_timed_in_both_orders_and_divided_pair_by_pair(monkeypatch):
    order = []
    took = {"a": iter([2.0, 30.0]), "b": iter([1.0, 10.0])}
    monkeypatch.setattr(timing, "seconds", lambda work, device: work())

    def work(name):
        order.append(name)
        return next(took[name])

    pairs = timing.paired(lambda: work("a"), lambda: work("b"), repeats=2)
    assert order == ["a", "b", "b", "a"]
    assert pairs.ratios == (2.0, 3.0)
    assert timing.summary(pairs.ratios) == {"median": 2.5, "low": 2.0, "high": 3.0}


def test_peak_memory_sees_what_was_held_and_let_go():
    with memory.peak_above("cpu") as peak:
        held = np.ones(96 * 2**20, dtype=np.uint8)
        del held
    assert 90 * 2**20 < peak[0] < 200 * 2**20
    with memory._sampled() as highest:
        held = np.ones(96 * 2**20, dtype=np.uint8)
        assert highest() > held.nbytes


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own():
    row = memory.in_a_new_process("tiny-gpt2", plan.LAST, prompts=3, repeats=2)
    assert len(row["seconds"]) == 2 and row["prompts"] == 3 and row["weight_bytes"] > 2**20
    assert 0 <= row["peak_bytes"] < 2**29


def test_a_run_becomes_a_table_with_goals_and_verdicts(found):
    shown = report.markdown(found)
    rows = [row for row in found["ratios"] if row["what"] == plan.LAST]
    assert len(rows) == 1 and rows[0]["sense"] == plan.AT_MOST
    assert rows[0]["met"] == (rows[0]["ratio"]["median"] <= 1.0)
    assert f"{report.factor(rows[0]['ratio']['median'])} (" in shown
    assert "| ≤ 1.00x |" in shown and "random" in shown
    row = rows[0] | {"met": False, "counted": 0.5, "ratio": {"median": 1.5, "low": 1, "high": 2}}
    missed = report.markdown(found | {"ratios": [row]})
    assert "**no**" in missed and "which would reach it; 3.0 times the counted" in missed
    row["counted"] = 1.2
    assert "would not reach it" in report.markdown(found | {"ratios": [row]})
    absent = {key: row[key] for key in ("shape", "what", "against", "sense", "goal")}
    shown = report.markdown(found | {"ratios": [absent | {"missing": "x is not installed"}]})
    assert "not measured" in shown


def test_time_and_memory_over_numbers_of_prompts_are_judged(found):
    base = {"shape": "tiny-gpt2", "weight_bytes": 100, "seconds_per_prompt": {"median": 0.1}}
    rows = [base | {"prompts": 10, "peak_bytes": 10}, base | {"prompts": 1000, "peak_bytes": 21}]
    rows[1] |= {"seconds_per_prompt": {"median": 0.13}}
    assert report.spread(rows) == (pytest.approx(1.3), pytest.approx(1.1))
    shown = report.markdown(found | {"scaling": rows})
    assert (
        "a factor of 1.30 (goal: 1.2, **no**)" in shown and "times 1.10 (goal: 1.2, yes)" in shown
    )


def test_a_run_is_kept_beside_that_of_another_device(found, tmp_path):
    readme, path = tmp_path / "README.md", tmp_path / "results.json"
    readme.write_text("# Before\n\n<!-- measured on cpu: begin -->\nold\n")
    readme.write_text(readme.read_text() + "<!-- measured on cpu: end -->\n\nafter\n")
    command.keep(found, "first", "cpu", path=path, readme=readme)
    command.keep(found, "second", "cuda:0", path=path, readme=readme)
    command.keep(found, "third", "cpu", path=path, readme=readme)
    text = readme.read_text()
    assert set(json.loads(path.read_text())["runs"]) == {"cpu", "cuda"}
    assert "old" not in text and "first" not in text and "\nafter\n" in text
    assert text.index("# Before") < text.index("third") < text.index("after") < text.index("second")


def test_the_page_says_what_the_numbers_say(found, tmp_path):
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    assert costs(root=tmp_path) == NOTHING

    def told(median: float) -> str:
        rows = [
            row | {"ratio": row["ratio"] | {"median": median}} if row["what"] == plan.LAST else row
            for row in found["ratios"]
        ]
        content = {"schema": 1, "runs": {"cpu": found | {"ratios": rows}}}
        (folder / "results.json").write_text(json.dumps(content))
        return costs(root=tmp_path)

    assert "less than one plain forward pass over the same prompts: 0.71 times" in told(0.71)
    text = told(3.4)
    assert "more than one plain forward pass over the same prompts: 3.40 times" in text
    assert f"PyTorch {torch.__version__.partition('+')[0]}" in text
    assert "Other ways" not in text  # none was measured
    (folder / "results.json").write_text('{"runs": {"cpu": {}}}')
    with pytest.raises(UserError, match="run it again"):
        costs(root=tmp_path)


def test_the_page_includes_what_is_made_for_it():
    text = (paths.BOOK / "what_it_costs.md").read_text("utf-8")
    assert "```{include} costs.md\n" in text
    assert "what_it_costs" in pages._files(pages.read_yaml("_toc.yml"))
