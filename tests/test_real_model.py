"""A language model that others trained, SmolLM2: what the library says of it against plain loops.

The oracle is transformers and the hooks written here, one prompt at a time, without padding and
without a cache. It takes nothing of the library but the texts of prompts, arguments and answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ovectors import lens, stream
from ovectors.encoding import EncodedPrompts, encode_relation
from ovectors.errors import UserError
from ovectors.experiments.retrieval.measure import ablation
from ovectors.experiments.stages.judge import after_layers
from ovectors.experiments.stages.measure import stages
from ovectors.fetching import fetch
from ovectors.interventions import Replace
from ovectors.models import LanguageModel, load_model
from ovectors.sweeps import SLOW, sweep

pytestmark = [pytest.mark.weights, pytest.mark.slow]

LAYERS = 30
WITHIN = 1e-6  # of reciprocal ranks
NOISE = 1e-4  # logits that are nearer than this are ordered by rounding alone


@pytest.fixture(scope="module")
def folder() -> Path:
    """The model's folder in the user's cache, fetched if it is not there: 93 MB."""
    try:
        return fetch("smollm2-135m", accept=lambda terms: False)
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    return load_model("smollm2-135m", dtype="float32", device="cpu")


# The oracle ---------------------------------------------------------------------------------------

Change = Callable[[torch.Tensor], torch.Tensor]


class Plain:
    """The model as transformers has it."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.whole, self.norm, self.head = plain, plain.model.norm, plain.lm_head
        self.blocks = plain.model.layers

    def first(self, text: str, word: str) -> int:
        """The first token of a word that follows a text."""
        ids = self.tokenizer(text)["input_ids"]
        together = self.tokenizer(text + word)["input_ids"]
        assert together[: len(ids)] == ids
        return together[len(ids)]

    @torch.no_grad()
    def run(
        self, text: str, changes: Mapping[int, Change] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits of every layer's output at the last token, and what its FFN gave there."""
        after, ffn = [], []
        with self._hooks(after, ffn, changes or {}):
            ids = torch.tensor([self.tokenizer(text)["input_ids"]])
            logits = self.whole(input_ids=ids, use_cache=False).logits[0, -1]
        decoded = torch.stack([self.head(self.norm(state)) for state in after])
        assert (decoded[-1] - logits).abs().max() < NOISE
        return decoded, torch.stack(ffn)

    @contextmanager
    def _hooks(self, after: list, ffn: list, changes: Mapping[int, Change]) -> Iterator[None]:
        def see(_module, _inputs, output):
            states = output[0] if isinstance(output, tuple) else output
            after.append(states.reshape(-1, states.shape[-1])[-1])

        def change(layer: int):
            def hook(_module, _inputs, output):
                changed = changes[layer](output) if layer in changes else output
                ffn.append(changed[0, -1])
                return changed

            return hook

        handles = [block.register_forward_hook(see) for block in self.blocks]
        handles += [
            block.mlp.register_forward_hook(change(layer))
            for layer, block in enumerate(self.blocks)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


@pytest.fixture(scope="module")
def plain(folder: Path) -> Plain:
    return Plain(folder)


def by_rank(logits: torch.Tensor, token: int) -> tuple[float, float]:
    """The worst and the best reciprocal rank that rounding leaves to a token, mostly the same."""
    others = torch.cat([logits[:token], logits[token + 1 :]])
    above, near = others > logits[token] + NOISE, (others - logits[token]).abs() <= NOISE
    best = 1 + int(above.sum())
    return 1 / (best + int(near.sum())), 1 / best


class Compared:
    """Our ranks against the oracle's; where rounding orders the tokens, in between is right."""

    def __init__(self) -> None:
        self.told, self.exact = 0, 0

    def __call__(self, ours: float, logits: torch.Tensor, token: int) -> None:
        worst, best = by_rank(logits, token)
        assert worst - WITHIN <= 1 / ours <= best + WITHIN, (ours, 1 / worst, 1 / best)
        self.told += 1
        self.exact += best - worst <= WITHIN

    def all_but_few(self, count: int) -> None:
        """So many were compared, and nearly all of them to `WITHIN`."""
        assert self.told == count and self.exact >= 0.98 * count, (self.told, self.exact)


def asked(model: LanguageModel, name: str, form: str, n_items: int) -> EncodedPrompts:
    encoded = encode_relation(model, name, form, n_items=n_items)
    assert len({len(ids) for ids in encoded.token_ids}) > 1  # so that batches have padding
    return encoded


def wanted(plain: Plain, encoded: EncodedPrompts) -> list[dict[str, int]]:
    return [
        {
            "argument": plain.first(one.text, one.argument),
            "answer": plain.first(one.text, one.answer),
        }
        for one in encoded.prompts
    ]


# What is compared ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "n_items"), [("world_capitals", 6), ("past_tense", 4)])
def test_ranks_after_every_layer(
    model: LanguageModel, plain: Plain, name: str, n_items: int
) -> None:
    encoded = asked(model, name, "one_shot", n_items)
    states = stream.record(model, encoded, parts=("after",))["after"]
    tokens = {"argument": encoded.argument_ids, "answer": encoded.answer_ids}
    decoded = lens.decode(lens.LogitLens(model), states, tokens)
    table = after_layers(stages(model, name, n_items=n_items)).set_index(["item", "layer"])
    same = Compared()
    for place, (prompt, words) in enumerate(
        zip(encoded.prompts, wanted(plain, encoded), strict=True)
    ):
        logits, _ = plain.run(prompt.text)
        assert len(logits) == LAYERS
        for layer, own in enumerate(logits):
            row = table.loc[place, layer]
            assert row["argument"] == prompt.argument and row["answer"] == prompt.answer
            for word, token in words.items():
                same(float(decoded.ranks[word][layer, place]), own, token)
                same(row[f"rank_{word}"], own, token)
                ours = float(decoded.logits[word][layer, place])
                assert abs(ours - float(own[token])) < NOISE
        assert table.loc[place, LAYERS - 1]["correct"] == (
            int(logits[-1].argmax()) == words["answer"]
        )
    same.all_but_few(len(encoded) * LAYERS * 4)


def put_in(vector: torch.Tensor, positions: str) -> Change:
    def change(output: torch.Tensor) -> torch.Tensor:
        changed = output.clone()
        changed[:, slice(None) if positions == "all" else -1] = vector
        return changed

    return change


@pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])
def test_a_vector_in_place_of_the_ffns(
    model: LanguageModel, plain: Plain, slow: bool, monkeypatch
) -> None:
    """One example's, from each of three layers on to the last, at all tokens and at the last."""
    if slow:
        monkeypatch.setenv(SLOW, "1")
    example = encode_relation(model, "past_tense", "one_shot", n_items=1)
    source, starts = 20, (12, 20, 27)
    _, ffn = plain.run(example.prompts[0].text)
    vector = ffn[source]
    ours = stream.record(model, example, parts=("ffn",), layers=(source,))["ffn"][0, 0]
    assert torch.allclose(ours, vector, atol=1e-4, rtol=1e-4)
    encoded = asked(model, "past_tense", "repeated_pattern", 4)
    runs = [(start, positions) for positions in ("all", "last") for start in starts]
    points = [
        [Replace(ours, layers=range(start, LAYERS), positions=positions)]
        for start, positions in runs
    ]
    tokens = {"argument": encoded.argument_ids, "answer": encoded.answer_ids}
    found = sweep(model, encoded, [[], *points], wanted=tokens)
    same = Compared()
    for place, (prompt, words) in enumerate(
        zip(encoded.prompts, wanted(plain, encoded), strict=True)
    ):
        changes: Sequence[Mapping[int, Change]] = [
            {},
            *(
                dict.fromkeys(range(start, LAYERS), put_in(vector, positions))
                for start, positions in runs
            ),
        ]
        for point, change in enumerate(changes):
            logits = plain.run(prompt.text, change)[0][-1]
            for word, token in words.items():
                same(found.final(word)[point, place], logits, token)
    same.all_but_few(len(encoded) * len(changes) * 2)
    assert len(np.unique(found.final("answer")[1:])) > 1


def test_ffns_removed_from_the_top_by_sixths(model: LanguageModel, plain: Plain) -> None:
    name, n_items = "world_capitals", 6
    encoded = asked(model, name, "one_shot", n_items)
    table = ablation(model, name, conditions=("zero",), n_items=n_items)
    same = Compared()
    for prompt, words in zip(encoded.prompts, wanted(plain, encoded), strict=True):
        rows = table[table["argument"] == prompt.argument].set_index("removed")
        for removed in range(0, LAYERS + 1, LAYERS // 6):
            layers = range(LAYERS - removed, LAYERS)
            logits = plain.run(prompt.text, dict.fromkeys(layers, torch.zeros_like))[0][-1]
            row = rows.loc[removed]
            assert row["layers"] == " ".join(map(str, layers))
            for word, token in words.items():
                same(row[f"rank_{word}"], logits, token)
            assert row["rank_true"] == row["rank_answer"]
            assert row["correct"] == (int(logits.argmax()) == words["answer"])
    same.all_but_few(len(encoded) * 7 * 2)
