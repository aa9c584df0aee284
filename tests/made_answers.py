"""Random models that are right by construction: the answer is whatever they say.

So that the measurements of chapter 2 can be checked on every family against `hand_written`, items
answered correctly are needed, and a random model has none. Here the token that it puts on top in
the end is taken for the answer, and the one that it puts on top after its first layer (or any other
token, where the two are one) for the argument.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from torch import Tensor

from hand_written import NETS, hand_written
from ovectors.encoding import EncodedPrompts, encode_relation
from ovectors.experiments.linear_update.measure import answered
from ovectors.models import LanguageModel
from tiny_models import tiny

ITEMS = 24


@dataclass(frozen=True, eq=False)
class Made:
    """A tiny model with its prompts, and every state and logit of them written by hand."""

    model: LanguageModel
    encoded: EncodedPrompts
    states: dict[str, Tensor]  # part -> [layer, prompt, width], at each prompt's last token

    def logits(self, states: Tensor) -> Tensor:
        """Norm and head by hand; rows that stand for no token are out of the race."""
        network = self.model.model
        net = NETS[network.config.model_type](network, torch.float64)
        logits = net.head(states.double())
        named = sorted(set(self.model.tokenizer.get_vocab().values()))
        unnamed = torch.ones(logits.shape[-1], dtype=torch.bool)
        unnamed[named] = False
        return logits.masked_fill(unnamed, -torch.inf)

    def lead(self, states: Tensor, prompt: int) -> float:
        """The answer's logit minus the argument's."""
        logits = self.logits(states)
        answer, argument = self.encoded.answer_ids[prompt], self.encoded.argument_ids[prompt]
        return float(logits[answer] - logits[argument])

    def rank(self, states: Tensor, token: Tensor | int) -> int:
        logits = self.logits(states)
        return 1 + int((logits > logits[int(token)]).sum())

    def without_ffn(self, layer: int, prompt: int) -> Tensor:
        return self.states["before"][layer, prompt] + self.states["attention"][layer, prompt]


@cache
def made(case: str) -> Made:
    """The tiny model of one case in float64, with answers of its own."""
    model = tiny(case, dtype=torch.float64)
    encoded = encode_relation(model, "world_capitals", "one_shot", n_items=ITEMS, seed=1)
    runs = [hand_written(model.model, ids) for ids in encoded.token_ids]
    parts = [part for part in runs[0] if part != "logits"]
    states = {part: torch.stack([run[part][:, -1] for run in runs], dim=1) for part in parts}
    bare = Made(model, encoded, states)
    first, last = (bare.logits(states["after"][layer]).argmax(dim=1) for layer in (0, -1))
    other = torch.where(first == last, (last + 1) % 200, first)
    return Made(model, replace(encoded, answer_ids=last, argument_ids=other), states)


def use(one: Made, monkeypatch: pytest.MonkeyPatch) -> LanguageModel:
    """Have every experiment of the chapter run on these prompts, whatever relation it names."""
    monkeypatch.setattr(answered, "encode_relation", lambda *_, **__: one.encoded)
    return one.model
