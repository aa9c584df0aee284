"""The training loop: resumable, with the same weights in the end, and a record of what it did."""

import re
from dataclasses import replace

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ovectors.errors import UserError
from ovectors.figures.training import loss_curve
from ovectors.training import train as loop
from ovectors.training.held_out import EACH, HeldOut
from ovectors.training.lexicon import Lexicon, is_held_out
from ovectors.training.recipe import load_recipe
from ovectors.training.tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(Lexicon())


def test_a_killed_run_ends_in_the_same_weights(tmp_path, monkeypatch):
    whole = loop.train("tiny", output=tmp_path / "whole", device="cpu")
    step, calls = loop._step, []

    def killed_later(*args, **kwargs):
        calls.append(1)
        if len(calls) == 7:  # after the checkpoint of step 4, before that of step 8
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    monkeypatch.setattr(loop, "_step", killed_later)
    with pytest.raises(KeyboardInterrupt):
        loop.train("tiny", output=tmp_path / "cut", device="cpu")
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    monkeypatch.setattr(loop, "_step", step)
    cut = loop.train("tiny", output=tmp_path / "cut", device="cpu")
    left = AutoModelForCausalLM.from_pretrained(whole).state_dict()
    right = AutoModelForCausalLM.from_pretrained(cut).state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)
    logs = [pd.read_csv(folder / loop.LOG) for folder in (whole, cut)]
    assert list(logs[1]["step"]) == list(range(1, 13))
    assert list(logs[0]["loss"]) == list(logs[1]["loss"])


def test_what_is_shipped_loads_by_the_ordinary_road(tmp_path, tokenizer):
    folder = loop.train("tiny", output=tmp_path, device="cpu", steps=2)
    model = AutoModelForCausalLM.from_pretrained(folder)
    loaded = AutoTokenizer.from_pretrained(folder)
    text = "Q: What is the capital of Poland?\nA: Warsaw"
    assert loaded.encode(text) == tokenizer.encode(text)
    assert model.config.vocab_size == len(loaded)


def test_half_precision_trains_as_single_does(tmp_path):
    """On a CPU it takes another road through attention: the losses tell whether both lead home."""
    logs = []
    for dtype in ("float32", "bfloat16"):
        folder = loop.train("tiny", output=tmp_path / dtype, device="cpu", dtype=dtype)
        assert AutoModelForCausalLM.from_pretrained(folder).config._attn_implementation == "sdpa"
        logs.append(pd.read_csv(folder / loop.LOG)["loss"])
    assert max(abs(logs[0] - logs[1])) < 0.02 and not logs[0].equals(logs[1])


def test_a_checkpoint_of_other_settings_or_data_is_refused(tmp_path, monkeypatch):
    loop.train("tiny", output=tmp_path, device="cpu")
    with pytest.raises(UserError, match="made with other settings"):
        loop.train("tiny", output=tmp_path, device="cpu", steps=20)
    monkeypatch.setattr(loop, "data_hashes", lambda: {"past_tense.csv": "another"})
    with pytest.raises(UserError, match="other relation data"):
        loop.train("tiny", output=tmp_path, device="cpu")
    loop.train("tiny", output=tmp_path, device="cpu", resume=False)


def test_a_finished_model_is_not_replaced_unasked(tmp_path):
    folder = loop.train("tiny", output=tmp_path, device="cpu", steps=2)
    log = (folder / loop.LOG).read_text()
    with pytest.raises(UserError, match="holds a finished model"):
        loop.train("tiny", output=tmp_path, device="cpu", steps=2)
    assert (folder / loop.LOG).read_text() == log
    loop.train("tiny", output=tmp_path, device="cpu", steps=2, resume=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"name": "mini-1t"},
            "no recipe named 'mini-1t': choose one of mini-20m, mini-2m, mini-6m, tiny",
        ),
        ({"name": "tiny", "dtype": "int8"}, "float32 or bfloat16, not 'int8'"),
        ({"name": "tiny", "device": "tpu"}, "cpu or cuda, not 'tpu'"),
    ],
)
def test_bad_settings_are_named(tmp_path, settings, message):
    with pytest.raises(UserError, match=re.escape(message)):
        loop.train(**settings, output=tmp_path / "new")


def test_held_out_accuracy_is_logged_at_checkpoints(tmp_path, tokenizer):
    folder = loop.train("tiny", output=tmp_path)
    log = pd.read_csv(folder / loop.LOG)
    every = load_recipe("tiny").checkpoint_every
    logged = log.loc[log["held_out_accuracy"].notna(), "step"]
    assert logged.tolist() == [*range(every, len(log) + 1, every)]
    assert len(loss_curve(log).axes) == 2 and len(loss_curve(log[: every - 1]).axes) == 1


def test_held_out_accuracy_is_the_share_of_held_out_answers_on_top(tokenizer):
    held_out = HeldOut(tokenizer)
    for prompts in held_out.prompts:
        assert len(prompts.prompts) == EACH
        assert all(is_held_out(one.item.argument) for one in prompts.prompts)
    wanted = torch.cat([one.answer_ids for one in held_out.prompts])
    model = loop.new_model(load_recipe("tiny"), tokenizer)
    favourite = int(wanted[0])
    with torch.no_grad():  # a model that answers one token, whatever it is asked
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.copy_(model.transformer.wte.weight[favourite])
        model.transformer.wte.weight[favourite] *= 10
    assert held_out.accuracy(model) == pytest.approx(float((wanted == favourite).float().mean()))


def test_the_loss_falls(tmp_path):
    loop.train("tiny", output=tmp_path, device="cpu", steps=60)
    losses = pd.read_csv(tmp_path / loop.LOG)["loss"]
    assert losses[-10:].mean() < losses[:5].mean() - 0.1


def test_layers_sit_out_a_step_and_come_back(tokenizer):
    recipe = replace(load_recipe("tiny", n_layer=8, steps=10_000), layer_drop=0.5)
    model = loop.new_model(recipe, tokenizer)
    blocks = list(model.transformer.h)

    def kept(step, recipe=recipe):
        with loop._some_layers(model, recipe, step):
            return [blocks.index(block) for block in model.transformer.h]

    drawn = [kept(step) for step in range(60)]
    assert drawn == [kept(step) for step in range(60)]  # by seed and step alone
    assert all(layers == sorted(layers) and layers[0] == 0 for layers in drawn)
    assert 0.4 < sum(len(layers) - 1 for layers in drawn) / (60 * 7) < 0.6
    assert kept(0, replace(recipe, layer_drop=0.0)) == list(range(8))
    late = [len(kept(step)) - 1 for step in range(9000, 9060)]  # the chance has fallen to a tenth
    assert 0.9 < sum(late) / (60 * 7) < 1
    assert kept(9999) == list(range(8))
    with pytest.raises(KeyboardInterrupt), loop._some_layers(model, recipe, 1):
        raise KeyboardInterrupt
    assert list(model.transformer.h) == blocks


def test_the_rates_warm_up_and_fall_to_their_floor():
    recipe = load_recipe("mini-2m")
    shares = [recipe.share(step) for step in range(recipe.steps)]
    assert shares[recipe.warmup_steps - 1] == 1 == max(shares)
    assert shares[0] == 1 / recipe.warmup_steps
    assert shares[-1] == pytest.approx(recipe.final_learning_rate, rel=1e-2)


def test_muon_has_the_blocks_matrices_and_adam_the_rest(tokenizer):
    recipe = load_recipe("tiny")
    model = loop.new_model(recipe, tokenizer)
    optimizer = loop.new_optimizer(model, recipe)
    groups = [*optimizer.muon.param_groups, *optimizer.adam.param_groups]
    matrices, tables, vectors = (set(map(id, group["params"])) for group in groups)
    named = {id(weights): (name, weights.ndim) for name, weights in model.named_parameters()}
    assert {named[one][1] for one in matrices} == {2}
    assert all(named[one][0].startswith("transformer.h.") for one in matrices)
    assert {named[one][0] for one in tables} == {"transformer.wte.weight", "transformer.wpe.weight"}
    assert {named[one][1] for one in vectors} == {1}
    assert len(matrices) + len(tables) + len(vectors) == len(named)
    optimizer.set_share(0.5)
    rates = [recipe.matrix_learning_rate, recipe.learning_rate, recipe.learning_rate]
    assert [group["lr"] for group in groups] == [rate / 2 for rate in rates]
    assert [group["weight_decay"] for group in groups] == [recipe.weight_decay] * 2 + [0.0]


def test_the_data_of_a_record_are_all_files_by_their_place():
    hashes = loop.data_hashes()
    assert {"past_tense.csv", "more/noun_plural.csv", "more/relations.toml"} <= hashes.keys()
    assert all(len(digest) == 64 for digest in hashes.values())


def test_positions_start_as_waves_in_which_one_step_back_is_one_rotation(tokenizer):
    recipe = load_recipe("tiny")
    waves = loop.new_model(recipe, tokenizer).transformer.wpe.weight.detach().double()
    pairs = torch.view_as_complex(waves.reshape(len(waves), -1, 2).contiguous())
    turns = pairs[1:] / pairs[:-1]
    assert torch.allclose(turns, turns[:1].expand_as(turns), atol=1e-4)
    assert waves.abs().max().item() == pytest.approx(loop.WAVE_HEIGHT)
