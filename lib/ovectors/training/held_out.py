"""How a model in training does on items that it is never asked about in their question format."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ovectors.encoding import EncodedPrompts, encode
from ovectors.models import LanguageModel
from ovectors.prompts import build_prompts
from ovectors.relations import load_relation
from ovectors.training.evaluate import is_on_top
from ovectors.training.lexicon import is_held_out

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

RELATIONS = ("world_capitals", "past_tense", "uppercase")
EACH = 20


class HeldOut:
    """One-shot questions about held-out items, `EACH` of each of `RELATIONS`: a glance, no result.

    What is reported of a finished model is `evaluate`'s, on all items.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer

    @cached_property
    def prompts(self) -> tuple[EncodedPrompts, ...]:
        """The questions, relation by relation; always the same ones."""
        return tuple(self._of(relation) for relation in RELATIONS)

    def _of(self, relation: str) -> EncodedPrompts:
        encoded = encode(build_prompts(load_relation(relation), "one_shot"), self.tokenizer)
        rows = [i for i, one in enumerate(encoded.prompts) if is_held_out(one.item.argument)]
        return encoded.select(rows[:EACH])

    def accuracy(self, model: GPT2LMHeadModel) -> float:
        """The share of all questions with the answer's first token on top; the model stays in the
        mode that it is in."""
        training = model.training
        wrapped = LanguageModel.of(model.eval(), self.tokenizer, name="in training")
        found = [hit for one in self.prompts for hit in is_on_top(wrapped, one, wanted="answer")]
        model.train(training)
        return sum(found) / len(found)
