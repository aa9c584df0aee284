"""The recorded stream against hand-written passes, batched against one by one, and its manners."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    LlamaConfig,
    Qwen3Config,
)

from hand_written import hand_written
from ovectors import forward
from ovectors.encoding import encode
from ovectors.errors import UserError
from ovectors.models import LanguageModel
from ovectors.prompts import build_prompts
from ovectors.relations import load_relation
from ovectors.stream import PARTS, record
from tiny_models import CASES, LAYERS, PARALLEL, PROMPTS, SEQUENTIAL, WIDTH, tiny, tiny_tokenizer

# Two right answers in one dtype differ by their rounding. How much that is, is measured: the oracle
# in the model's dtype against the oracle in float64. The recorded stream may be this many times as
# far away (the largest ratio seen over all families, parts and both dtypes is 2.0).
TIMES_NOISE = 4


def parts_of(case: str) -> list[str]:
    return [part for part in PARTS if part != "mid" or case in SEQUENTIAL]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", CASES)
def test_every_part_equals_the_hand_written_pass(case: str, dtype: torch.dtype) -> None:
    model = tiny(case, dtype=dtype)
    stream = record(model, PROMPTS, parts=parts_of(case))
    exact = [hand_written(model.model, ids) for ids in PROMPTS]
    rounded = [hand_written(model.model, ids, dtype=dtype) for ids in PROMPTS]
    for part in parts_of(case):
        truth = torch.stack([one[part][:, -1] for one in exact], dim=1)
        noise = torch.stack([one[part][:, -1] for one in rounded], dim=1).double() - truth
        assert stream[part].shape == (LAYERS, len(PROMPTS), WIDTH)
        error = (stream[part].double() - truth).abs().max()
        assert error <= TIMES_NOISE * noise.abs().max()
        assert noise.abs().max() < 0.2 * truth.std()  # or the comparison would say nothing


@pytest.mark.parametrize("case", CASES)
def test_batched_equals_one_by_one(case: str) -> None:
    """In float64, where padding and kernels of other shapes leave nothing but the last digits.

    (Some families compute norms and rotations in float32 whatever they are asked for: so 5e-6.)
    """
    model = tiny(case, dtype=torch.float64)
    together = record(model, PROMPTS, parts=parts_of(case))
    for row, ids in enumerate(PROMPTS):
        alone = record(model, [ids], parts=parts_of(case))
        for part in parts_of(case):
            torch.testing.assert_close(
                together[part][:, row], alone[part][:, 0], rtol=5e-6, atol=5e-6
            )


@pytest.mark.parametrize("case", ["gpt2", "gptj", "bloom", "gpt_neox", "llama"])
def test_chosen_positions(case: str) -> None:
    model = tiny(case)
    chosen = torch.tensor([2, 0, 7, 1])
    stream = record(model, PROMPTS, parts=["after", "ffn"], positions=chosen)
    assert stream.positions == "chosen"
    for row, (ids, at) in enumerate(zip(PROMPTS, chosen, strict=True)):
        truth = hand_written(model.model, ids)
        for part in ("after", "ffn"):
            torch.testing.assert_close(
                stream[part][:, row].double(), truth[part][:, at], rtol=1e-4, atol=1e-4
            )


@pytest.mark.parametrize("case", PARALLEL)
def test_no_mid_residual_is_faked(case: str) -> None:
    with pytest.raises(UserError, match="no mid residual"):
        record(tiny(case), PROMPTS, parts=["after", "mid"])


def test_the_last_state_is_the_one_before_the_final_norm() -> None:
    model = tiny("gpt2")
    last = record(model, [PROMPTS[0]], parts=["after"])["after"][-1, 0]
    own = model.model(torch.tensor([PROMPTS[0]]), output_hidden_states=True)
    normed = own.hidden_states[-1][0, -1]  # what output_hidden_states gives: after the norm
    assert not torch.allclose(last, normed, atol=0.1)
    torch.testing.assert_close(model.model.transformer.ln_f(last), normed)


def test_only_what_was_asked_for_is_kept() -> None:
    model = tiny("llama")
    everything = record(model, PROMPTS, parts=PARTS)
    some = record(model, PROMPTS, parts=["ffn"], layers=[-1, 0])
    assert set(some.states) == {"ffn"}
    assert some.layers == (LAYERS - 1, 0)
    assert torch.equal(some["ffn"][0], everything["ffn"][LAYERS - 1])
    assert torch.equal(some.at("ffn", 0), everything.at("ffn", 0))
    with pytest.raises(UserError, match="'after' was not recorded, only ffn"):
        some["after"]
    with pytest.raises(UserError, match="layer 1 was not recorded"):
        some.at("ffn", 1)


def test_states_are_kept_in_float32_whatever_the_model_runs_in() -> None:
    stream = record(tiny("gpt2", dtype=torch.bfloat16), PROMPTS, parts=["after"])
    assert stream["after"].dtype == torch.float32
    assert torch.equal(stream["after"], stream["after"].bfloat16().float())  # and exactly
    assert record(tiny("gpt2", dtype=torch.float64), PROMPTS, parts="after")["after"].dtype == (
        torch.float64
    )


@pytest.mark.parametrize("case", ["gpt2", "bloom", "qwen3"])
def test_a_small_budget_gives_the_same_in_more_passes(case: str, monkeypatch) -> None:
    model = tiny(case, dtype=torch.float64)
    prompts = [ids[: 2 + i % 5] for i, ids in enumerate(PROMPTS * 6) if len(ids) > 2]
    passes: list[int] = []
    base = type(model.model.base_model)
    original = base.forward

    def counted(self, *args, **kwargs):
        passes.append(len(kwargs["input_ids"]))
        return original(self, *args, **kwargs)

    counted.__wrapped__ = original  # its signature tells which inputs the model takes
    monkeypatch.setattr(base, "forward", counted)
    roomy = record(model, prompts, parts=["after"])["after"]
    few = len(passes)
    budget = 3 * forward.bytes_per_prompt(model, 6)
    tight = record(model, prompts, parts=["after"], budget_bytes=budget)["after"]
    assert len(passes) - few > few
    assert max(passes[few:]) <= 3 * 3  # short prompts are smaller, so more of them fit
    torch.testing.assert_close(tight, roomy, rtol=5e-6, atol=5e-6)


def test_batches_hold_like_lengths_padded_on_the_right() -> None:
    model = tiny("gpt2")
    prompts = [[1 + i] * length for i, length in enumerate((30, 3, 31, 4, 3, 60))]
    groups = forward.batches(model, prompts)
    assert [group.lengths.tolist() for group in groups] == [[3, 3, 4], [30, 31], [60]]
    for group in groups:
        for row, ids, length in zip(group.rows, group.token_ids, group.lengths, strict=True):
            assert ids[:length].tolist() == prompts[row]
        assert group.mask[:, 0].all()
        assert (group.mask.int().diff(dim=1) <= 0).all()
        rows = len(group.rows) * forward.bytes_per_prompt(model, int(group.lengths.max()))
        assert rows <= forward.BUDGET_BYTES
    assert sorted(row for group in groups for row in group.rows.tolist()) == list(range(6))


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that live at once while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak, self.known = 0, 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        for one in output if isinstance(output, tuple | list) else [output]:
            if isinstance(one, torch.Tensor):
                self.count(one.untyped_storage())
        return output

    def count(self, storage) -> None:
        if storage._cdata not in self.known:
            self.known.add(storage._cdata)
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self.forget, storage._cdata, storage.nbytes())

    def forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size


WIDE = {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 4, "vocab_size": 320}


@pytest.mark.parametrize("length", [8, 90])
@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(n_layer=2, n_embd=128, n_head=4, vocab_size=320),
        GPTJConfig(n_layer=2, n_embd=128, n_head=4, vocab_size=320, rotary_dim=8),
        BloomConfig(n_layer=2, hidden_size=128, n_head=4, vocab_size=320),
        GPTNeoXConfig(**WIDE, intermediate_size=512),
        LlamaConfig(**WIDE, intermediate_size=384),
        Qwen3Config(**WIDE, intermediate_size=384, head_dim=32, num_key_value_heads=2),
    ],
    ids=lambda config: getattr(config, "model_type", str(config)),
)
def test_a_pass_takes_no_more_than_is_estimated(config, length: int) -> None:
    plain = AutoModelForCausalLM.from_config(config).eval()
    model = LanguageModel.of(plain, tiny_tokenizer(), name="wide")
    (group,) = forward.batches(model, [[1] * length] * 40)
    with LiveBytes() as live:
        forward.run_base(model, group)
    estimate = 40 * forward.bytes_per_prompt(model, length)
    assert 0.2 * estimate < live.peak <= estimate


def hooks_of(model: LanguageModel) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks)
        for module in model.model.modules()
    )


def test_hooks_are_removed_when_the_pass_fails_and_foreign_ones_stay() -> None:
    model = tiny("gpt2")

    def fails(_module, _args, _output):
        raise RuntimeError("out of memory, say")

    model.model.transformer.ln_f.register_forward_hook(fails)
    seen = []
    model.layers[0].register_forward_hook(lambda *_: seen.append(1) and None)
    with pytest.raises(RuntimeError, match="out of memory, say"):
        record(model, PROMPTS, parts=PARTS)
    assert hooks_of(model) == 2
    assert seen


def test_hooks_are_removed_after_success() -> None:
    model = tiny("llama")
    record(model, PROMPTS, parts=PARTS)
    assert hooks_of(model) == 0


def test_recording_changes_nothing() -> None:
    model = tiny("gptj")
    ids = torch.tensor([PROMPTS[0]])
    before = model.model(ids).logits
    record(model, PROMPTS, parts=parts_of("gptj"))
    assert torch.equal(model.model(ids).logits, before)


def test_blocks_that_give_a_tuple_and_blocks_that_give_a_tensor_are_both_read() -> None:
    """Which of the two it is has changed between versions, so the tests above should see both."""
    kinds = set()
    for case in ("gpt2", "gptj", "bloom", "llama"):
        model = tiny(case)
        with_hook = model.layers[0].register_forward_hook(lambda *a: kinds.add(type(a[2])))
        stream = record(model, PROMPTS, parts=["before", "attention", "ffn", "after"])
        with_hook.remove()
        total = stream["before"] + stream["attention"] + stream["ffn"]
        torch.testing.assert_close(stream["after"], total)
    assert kinds == {tuple, torch.Tensor}


def test_progress_is_shown_when_asked_for(capsys) -> None:
    record(tiny("gpt2"), PROMPTS, parts=["after"])
    assert capsys.readouterr().err == ""
    record(tiny("gpt2"), PROMPTS, parts=["after"], progress=True)
    assert "recording the residual stream" in capsys.readouterr().err


def test_encoded_prompts_of_a_relation_can_be_recorded() -> None:
    model, capitals = tiny("gpt2"), load_relation("world_capitals")
    encoded = encode(build_prompts(capitals, "zero_shot", n_items=40), tiny_tokenizer())
    stream = record(model, encoded, parts=["after"])
    assert stream["after"].shape == (LAYERS, len(encoded), WIDTH)
    truth = hand_written(model.model, encoded.token_ids[3])["after"][:, -1]
    torch.testing.assert_close(stream["after"][:, 3].double(), truth, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("prompts", "arguments", "message"),
    [
        ([], {}, "no prompts"),
        ([[1], []], {}, "prompt 1 has no tokens"),
        ([[1] * 97], {}, "prompt 0 has 97 tokens, tiny-gpt2 takes 96"),
        ([[5, 320]], {}, "token 320, tiny-gpt2 has 320"),
        ([[1, 2]], {"parts": ["mlp"]}, "the stream has no part 'mlp'"),
        ([[1, 2]], {"layers": [3]}, "no layer 3: its layers are 0 to 2"),
        ([[1, 2]], {"positions": "first"}, "not 'first'"),
        ([[1, 2]], {"positions": [2]}, "outside its prompt"),
        ([[1, 2]], {"positions": [-1]}, "outside its prompt"),
        ([[1, 2]], {"positions": [0, 1]}, "1 prompts and 2 positions"),
    ],
)
def test_bad_input_is_told_in_one_line(prompts, arguments, message) -> None:
    with pytest.raises(UserError, match=message) as caught:
        record(tiny("gpt2"), prompts, **({"parts": ["after"]} | arguments))
    assert "\n" not in str(caught.value)


def test_a_model_in_training_mode_is_not_measured() -> None:
    model = tiny("gpt2")
    model.model.train()
    with pytest.raises(ValueError, match="training mode"):
        record(model, PROMPTS, parts=["after"])
