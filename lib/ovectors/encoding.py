"""Prompts as token ids: the tokens that stand for argument and answer, and what is left out.

An answer of several tokens is scored by its first one, with its leading space.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import torch
from jaxtyping import Int64
from torch import Tensor

from ovectors.errors import UserError
from ovectors.prompts import Prompt, build_prompts
from ovectors.relations import SAME_NAME, Relation, load_relation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ovectors.models import LanguageModel

SAME_ARGUMENT_AND_ANSWER = "argument and answer are the same word"
BARE_SPACE = "argument or answer starts with a token of nothing but white space"
SHARED_FIRST_TOKEN = "argument and answer start with the same token"
SHARED_WITH_TRUTH = "context answer and true answer start with the same token"
UNKNOWN_WORD = "the tokenizer does not know a word of it"
MERGED = "its last token merges with the argument or the answer"
TOO_LONG = "longer than the model's positions"


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """A prompt that was left out, and the reason, worded to follow "left out because:"."""

    prompt: Prompt
    reason: str


@dataclass(frozen=True, kw_only=True)
class EncodedPrompts:
    """Prompts ready to run, without padding.

    Attributes:
        prompts: the prompts that are kept, in the order given.
        token_ids: the ids of each prompt; the last one is where the answer is predicted.
        argument_ids: the first token of the argument with its leading space.
        answer_ids: the first token of the answer with its leading space.
        argument_lengths: how many tokens the argument has.
        answer_lengths: how many tokens the answer has.
        excluded: the prompts that were left out, each with its reason.
    """

    prompts: tuple[Prompt, ...]
    token_ids: tuple[tuple[int, ...], ...]
    argument_ids: Int64[Tensor, "prompt"]
    answer_ids: Int64[Tensor, "prompt"]
    argument_lengths: Int64[Tensor, "prompt"]
    answer_lengths: Int64[Tensor, "prompt"]
    excluded: tuple[Exclusion, ...] = ()

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def lengths(self) -> Int64[Tensor, "prompt"]:
        """Tokens per prompt."""
        return torch.tensor([len(ids) for ids in self.token_ids], dtype=torch.int64)

    def exclusion_counts(self) -> dict[str, int]:
        """How many prompts were left out for each reason, the commonest first."""
        return dict(Counter(exclusion.reason for exclusion in self.excluded).most_common())

    def select(self, places: Iterable[int]) -> Self:
        """The prompts at the given places, such as those the model answers correctly.

        `excluded` is kept: it tells what never was a candidate, not what was selected away.
        """
        chosen = [int(place) for place in places]
        index = torch.tensor(chosen, dtype=torch.int64)
        return replace(
            self,
            prompts=tuple(self.prompts[place] for place in chosen),
            token_ids=tuple(self.token_ids[place] for place in chosen),
            argument_ids=self.argument_ids[index],
            answer_ids=self.answer_ids[index],
            argument_lengths=self.argument_lengths[index],
            answer_lengths=self.answer_lengths[index],
        )


@dataclass(frozen=True, kw_only=True)
class _Encoded:
    """One prompt's ids.

    Attributes:
        leading: special tokens that the tokenizer sets in front by default.
        text: the prompt's own.
        argument: the argument's, as it would follow the prompt.
        answer: the wanted answer's, as it would follow the prompt.
        truth: those of the relation's answer, which differs in counterfactual prompts.
    """

    leading: tuple[int, ...]
    text: tuple[int, ...]
    argument: tuple[int, ...]
    answer: tuple[int, ...]
    truth: tuple[int, ...]


def encode(
    prompts: Sequence[Prompt],
    tokenizer: "PreTrainedTokenizerBase",
    *,
    max_length: int | None = None,
) -> EncodedPrompts:
    """Token ids of the prompts, and the first tokens of argument and answer as they follow them.

    Special tokens are set in front only where the tokenizer does so by default; nothing is ever set
    behind the prompt. Left out, each with its reason in `excluded`: items whose argument and answer
    start with the same token, in every form alike, so that forms can be compared item by item;
    items whose argument or answer starts with a token of nothing but white space, which stands for
    no word (many tokenizers split ` 12` so), likewise; counterfactual prompts whose context answer
    does, or starts like the argument or the true answer; prompts with a word the tokenizer does not
    know; prompts of more than `max_length` tokens. A prompt that wants its argument back
    (extractive coloured objects) is not left out for that.

    Errors: UserError when nothing is left to run.
    """
    kept: list[tuple[Prompt, _Encoded]] = []
    excluded: list[Exclusion] = []
    for prompt in prompts:
        encoded = _encode_one(prompt, tokenizer)
        reason = _exclusion(prompt, encoded, tokenizer, max_length)
        if encoded is None or reason is not None:
            excluded.append(Exclusion(prompt=prompt, reason=reason or MERGED))
        else:
            kept.append((prompt, encoded))
    _refuse_nothing(kept, excluded)
    return EncodedPrompts(
        prompts=tuple(prompt for prompt, _ in kept),
        token_ids=tuple(ids.leading + ids.text for _, ids in kept),
        argument_ids=torch.tensor([ids.argument[0] for _, ids in kept], dtype=torch.int64),
        answer_ids=torch.tensor([ids.answer[0] for _, ids in kept], dtype=torch.int64),
        argument_lengths=torch.tensor([len(ids.argument) for _, ids in kept], dtype=torch.int64),
        answer_lengths=torch.tensor([len(ids.answer) for _, ids in kept], dtype=torch.int64),
        excluded=tuple(excluded),
    )


def encode_relation(
    model: "LanguageModel",
    relation: Relation | str,
    form: str,
    *,
    n_items: int | None = None,
    seed: int = 0,
) -> EncodedPrompts:
    """The prompts of a relation in one form, encoded for a model: `build_prompts`, then `encode`.

    Needs the model's tokenizer and length, not its weights. `n_items` None or 0 means all.

    Errors: UserError when nothing is left to run, or when the answers of all items that can be
    measured, drawn or not, start with the same token: a model that always gives it would score 1.
    A single prompt is never refused for that.
    """
    relation = load_relation(relation, seed=seed) if isinstance(relation, str) else relation
    settings = {"tokenizer": model.tokenizer, "max_length": model.max_length}
    encoded = encode(build_prompts(relation, form, n_items=n_items, seed=seed), **settings)
    if len(encoded) > 1 and len(encoded.answer_ids.unique()) == 1:
        # A few can agree by chance (two currencies that are both dollars): the whole decides.
        whole = encode(build_prompts(relation, form, seed=seed), **settings) if n_items else encoded
        if len(whole.answer_ids.unique()) == 1:
            token = model.tokenizer.decode([int(whole.answer_ids[0])])
            raise UserError(
                f"{relation.name} is not testable with this tokenizer: all {len(whole)} answers "
                f"start with the same token, {token!r}; choose another relation or another model"
            )
    return encoded


def _encode_one(prompt: Prompt, tokenizer: "PreTrainedTokenizerBase") -> _Encoded | None:
    """The prompt's ids and those of its words, or None where a word would change the prompt's."""
    plain = _ids(tokenizer, prompt.text)
    argument = _continuation(tokenizer, prompt.text, plain, prompt.argument)
    answer = _continuation(tokenizer, prompt.text, plain, prompt.answer)
    truth = _continuation(tokenizer, prompt.text, plain, f" {prompt.item.answer}")
    if not (argument and answer and truth):
        return None
    return _Encoded(
        leading=_leading_special(tokenizer, prompt.text, plain),
        text=plain,
        argument=argument,
        answer=answer,
        truth=truth,
    )


def _ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def _continuation(
    tokenizer: "PreTrainedTokenizerBase", text: str, plain: tuple[int, ...], word: str
) -> tuple[int, ...]:
    """The ids of `word` as it follows the prompt, or () where it changes the prompt's own ids.

    Encoded together with the prompt: some tokenizers encode a word by itself as if it began a text.
    """
    together = _ids(tokenizer, text + word)
    return together[len(plain) :] if together[: len(plain)] == plain else ()


def _leading_special(
    tokenizer: "PreTrainedTokenizerBase", text: str, plain: tuple[int, ...]
) -> tuple[int, ...]:
    """What the tokenizer sets before a text by default, such as Llama's beginning-of-text token."""
    whole = tuple(tokenizer.encode(text))
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start]
    return ()


def _exclusion(
    prompt: Prompt,
    encoded: _Encoded | None,
    tokenizer: "PreTrainedTokenizerBase",
    max_length: int | None,
) -> str | None:
    """Why a prompt cannot be measured, or None. The data's reasons come before the tokenizer's."""
    if prompt.item.group == SAME_NAME:
        return SAME_ARGUMENT_AND_ANSWER
    if encoded is None:
        return MERGED
    unknown = tokenizer.unk_token_id
    if unknown is not None and unknown in encoded.text + encoded.argument + encoded.answer:
        return UNKNOWN_WORD
    firsts = {ids[0] for ids in (encoded.argument, encoded.answer, encoded.truth)}
    if not all(tokenizer.decode([first]).strip() for first in firsts):
        return BARE_SPACE
    copying = prompt.argument == prompt.answer
    starts = {encoded.truth[0]} if copying else {encoded.truth[0], encoded.answer[0]}
    if encoded.argument[0] in starts:
        return SHARED_FIRST_TOKEN
    counterfactual = not copying and prompt.answer != f" {prompt.item.answer}"
    if counterfactual and encoded.answer[0] == encoded.truth[0]:
        return SHARED_WITH_TRUTH
    if max_length is not None and len(encoded.leading) + len(encoded.text) > max_length:
        return TOO_LONG
    return None


def _refuse_nothing(kept: Sequence[object], excluded: Sequence[Exclusion]) -> None:
    if kept:
        return
    if not excluded:
        raise UserError("there are no prompts to encode; choose at least one item")
    counts = Counter(exclusion.reason for exclusion in excluded)
    reason, count = counts.most_common(1)[0]
    raise UserError(
        f"none of {len(excluded)} prompts can be measured with this tokenizer "
        f"({count} because: {reason}); choose other items or another model"
    )
