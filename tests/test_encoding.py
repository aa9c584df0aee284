"""Token ids of prompts, arguments and answers, on GPT-2's tokenizer and on awkward small ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from ovectors import encoding
from ovectors.encoding import encode
from ovectors.errors import UserError
from ovectors.prompts import FORMS, Prompt, build_prompts, one_shot, repeated_pattern
from ovectors.relations import RELATIONS, SAME_NAME, Item, Relation, load_relation
from tiny_models import tiny_tokenizer


def word_tokenizer(words: str, *, around: str = "$A", split: str = " ") -> Tokenizer:
    """Each word with the `split` before it is one token; those in `words` have the ids 2, 3, ...

    Id 0 is <s>; 1 is <unk>, for other words. `around` says what stands about a text by default.
    """
    vocabulary = {"<s>": 0, "<unk>": 1}
    vocabulary |= {word: place for place, word in enumerate(words.split("|"), start=2)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(split), behavior="merged_with_next")
    tokenizer.post_processor = TemplateProcessing(
        single=around, special_tokens=[("<s>", 0), ("<unk>", 1)]
    )
    return tokenizer


def usable(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")


def splitting_digits() -> PreTrainedTokenizerFast:
    """A byte-level BPE that takes each digit by itself, and so leaves " 12" its space alone."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", letter) for letter in "abcxyz"]
    tokens = [*alphabet, *map("".join, merges)]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


DIGITS = splitting_digits()
SMALL = usable(word_tokenizer("a| b| c| x| y| z"))


def make(text: str, argument: str, answer: str, *, truth: str = "", group: str = "") -> Prompt:
    item = Item(argument=argument, answer=truth or answer, group=group)
    return Prompt(
        text=text, argument=f" {argument}", answer=f" {answer}", relation="r", form="f", item=item
    )


GOOD = make("a b", "x", "y")


def reasons(*prompts: Prompt, tokenizer=SMALL, **settings) -> list[str | None]:
    """Why each prompt is left out (None: it is kept), beside one that is always kept."""
    encoded = encode([*prompts, GOOD], tokenizer, **settings)
    why = {id(exclusion.prompt): exclusion.reason for exclusion in encoded.excluded}
    assert [p for p in [*prompts, GOOD] if id(p) not in why] == list(encoded.prompts)
    assert id(GOOD) not in why
    return [why.get(id(prompt)) for prompt in prompts]


class TestIds:
    def test_by_hand(self) -> None:
        two = make("a b c", "y", "x b c")
        encoded = encode([GOOD, two], SMALL)
        assert len(encoded) == 2 and encoded.prompts == (GOOD, two)
        assert encoded.token_ids == ((2, 3), (2, 3, 4))
        assert encoded.argument_ids.tolist() == [5, 6]
        assert encoded.answer_ids.tolist() == [6, 5]
        assert encoded.argument_lengths.tolist() == [1, 1]
        assert encoded.answer_lengths.tolist() == [1, 3]
        assert encoded.lengths.tolist() == [2, 3]
        for ids in (encoded.argument_ids, encoded.answer_ids, encoded.lengths):
            assert ids.dtype == torch.int64
        assert encoded.excluded == () and encoded.exclusion_counts() == {}

    @pytest.mark.parametrize(
        ("around", "ids"), [("<s> $A", (0, 2, 3)), ("$A <s>", (2, 3)), ("<s> $A <s>", (0, 2, 3))]
    )
    def test_special_tokens_may_stand_before_but_never_behind(self, around: str, ids) -> None:
        """A token behind the prompt would be the "last token" that is measured."""
        encoded = encode([GOOD], usable(word_tokenizer("a| b| c| x| y", around=around)))
        assert encoded.token_ids == (ids,)
        assert (encoded.argument_ids.item(), encoded.answer_ids.item()) == (5, 6)

    def test_leading_token_that_is_the_unknown_one_too(self) -> None:
        """As with GPT-2's only special token, which plays every part."""
        encoded = encode([GOOD], usable(word_tokenizer("a| b| c| x| y", around="<unk> $A")))
        assert encoded.token_ids == ((1, 2, 3),) and encoded.excluded == ()

    def test_word_as_it_follows_the_prompt(self) -> None:
        """Llama 2's kind sets "▁" before a text: " y" by itself begins with a lone "▁"."""
        tokenizer = word_tokenizer("▁|▁a|▁b|▁x|▁y", split="▁")
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        alone = usable(tokenizer).encode(" y", add_special_tokens=False)
        assert alone == [2, 6]
        encoded = encode([GOOD], usable(tokenizer))
        assert encoded.token_ids == ((3, 4),)
        assert (encoded.argument_ids.item(), encoded.answer_ids.item()) == (5, 6)
        assert encoded.answer_lengths.item() == 1

    def test_select(self) -> None:
        prompts = [GOOD, make("a b c", "y", "x b"), make("a", "z", "z"), make("a", "z", "c")]
        encoded = encode([*prompts, make("a", "b", "b c")], SMALL)
        chosen = encoded.select(torch.tensor([2, 0]))
        assert chosen.prompts == (encoded.prompts[2], encoded.prompts[0])
        assert chosen.token_ids == (encoded.token_ids[2], encoded.token_ids[0])
        assert chosen.answer_ids.tolist() == [4, 6]
        assert chosen.argument_ids.tolist() == [7, 5]
        assert chosen.answer_lengths.tolist() == chosen.argument_lengths.tolist() == [1, 1]
        assert chosen.excluded == encoded.excluded
        assert len(encoded.select([])) == 0


class TestExclusion:
    def test_shared_first_token(self) -> None:
        shared = make("a", "x", "x y"), make("a", "x y", "x z")
        assert reasons(*shared) == [encoding.SHARED_FIRST_TOKEN] * 2
        assert reasons(make("a", "x y", "y x")) == [None]

    def test_copying_is_kept(self) -> None:
        """Extractive coloured objects want " brown" for " brown"; the item is a real pair."""
        copying = make("a", "x", "x", truth="y")
        assert reasons(copying) == [None]
        assert encode([copying], SMALL).answer_ids.tolist() == [5]

    def test_copying_an_item_that_cannot_be_told_apart(self) -> None:
        assert reasons(make("a", "x", "x", truth="x y")) == [encoding.SHARED_FIRST_TOKEN]

    def test_an_item_is_left_out_of_every_form(self) -> None:
        """Its counterfactual answer could be told apart, but not its true one."""
        prompt = make("a", "x", "z", truth="x y")
        assert reasons(prompt) == [encoding.SHARED_FIRST_TOKEN]

    def test_counterfactual_answers(self) -> None:
        fine = make("a", "x", "z", truth="y")
        like_argument = make("a", "x", "x z", truth="y")
        like_truth = make("a", "x", "y z", truth="y")
        assert reasons(fine, like_argument, like_truth) == [
            None,
            encoding.SHARED_FIRST_TOKEN,
            encoding.SHARED_WITH_TRUTH,
        ]

    def test_same_name(self) -> None:
        prompt = make("a", "x", "x", group=SAME_NAME)
        assert reasons(prompt) == [encoding.SAME_ARGUMENT_AND_ANSWER]

    def test_a_bare_space_stands_for_no_word(self) -> None:
        """Of the argument, of the answer, of the true one behind a counterfactual, of a copy."""
        bad = make("a b", "1x", "y"), make("a", "x", "12 y"), make("a", "x", "y", truth="2")
        bad += (make("a", "1", "2"), make("a", "1", "1", truth="y"), make("a", "x", "x", truth="1"))
        fine = make("a 1", "x", "y 12"), make("a", "x", "x", truth="y"), make("a b", "y", "x1")
        assert reasons(*bad, tokenizer=DIGITS) == [encoding.BARE_SPACE] * len(bad)
        assert reasons(*fine, tokenizer=DIGITS) == [None] * len(fine)
        with pytest.raises(UserError, match=r"none of 6 prompts .*6 because: .* white space"):
            encode(bad, DIGITS)

    def test_unknown_words(self) -> None:
        prompts = make("a q", "x", "y"), make("a", "q", "y"), make("a", "x", "y q")
        assert reasons(*prompts) == [encoding.UNKNOWN_WORD] * 3

    def test_too_long(self) -> None:
        prompts = make("a b c", "x", "y"), make("a b c b", "x", "y")
        assert reasons(*prompts, max_length=3) == [None, encoding.TOO_LONG]
        with_start = usable(word_tokenizer("a| b| c| x| y", around="<s> $A"))
        why = reasons(*prompts, tokenizer=with_start, max_length=3)
        assert why == [encoding.TOO_LONG] * 2

    def test_answer_that_changes_the_prompts_own_tokens(self) -> None:
        tokens = ["a", "b", ":", " ", "x", "y", ": ", " x", " y"]
        vocabulary = {token: place for place, token in enumerate(tokens)}
        merges = [(":", " "), (" ", "x"), (" ", "y")]
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(models.BPE(vocabulary, merges))
        )
        assert tokenizer.encode("a:") == [0, 2] and tokenizer.encode("a: x") == [0, 6, 4]
        assert reasons(make("a:", "x", "y"), tokenizer=tokenizer) == [encoding.MERGED]

    def test_counts(self) -> None:
        bad = [make("a", "x", "x y"), make("a q", "x", "y"), make("a", "y", "y x")]
        encoded = encode([*bad, GOOD], SMALL)
        assert encoded.exclusion_counts() == {
            encoding.SHARED_FIRST_TOKEN: 2,
            encoding.UNKNOWN_WORD: 1,
        }
        assert [exclusion.prompt for exclusion in encoded.excluded] == bad

    def test_nothing_left(self) -> None:
        with pytest.raises(UserError, match=r"none of 2 prompts .* start with the same token"):
            encode([make("a", "x", "x y")] * 2, SMALL)
        with pytest.raises(UserError, match="no prompts"):
            encode([], SMALL)


def encoded_relation(pairs: dict[str, str], *, form: str = "one_shot", n_items: int | None = None):
    """A relation of these pairs as it is encoded for a model of tiny_tokenizer's: a space with each
    letter is a token."""
    model = Mock(tokenizer=tiny_tokenizer(), max_length=None)
    items = tuple(Item(argument=one, answer=other) for one, other in pairs.items())
    relation = Relation(name="own", title="", items=items)
    return encoding.encode_relation(model, relation, form, n_items=n_items)


class TestAnswersThatStartAlike:
    """A model that says the same of everything would be right."""

    ALIKE = {word: f"un{word}" for word in ("able", "clear", "fair", "happy")}  # noqa: RUF012

    @pytest.mark.parametrize("n_items", [None, 0, 2])
    @pytest.mark.parametrize("form", ["one_shot", "repeated_pattern"])
    def test_is_refused_in_one_line(self, form: str, n_items: int | None) -> None:
        with pytest.raises(UserError) as caught:
            encoded_relation(self.ALIKE, form=form, n_items=n_items)
        assert str(caught.value) == (
            "own is not testable with this tokenizer: all 4 answers start with the same token, "
            "' u'; choose another relation or another model"
        )

    def test_what_is_left_out_does_not_count(self) -> None:
        with pytest.raises(UserError, match="all 4 answers"):
            encoded_relation(self.ALIKE | {"just": "joke", "kind": "2 kinds"})

    def test_one_other_answer_is_enough(self) -> None:
        assert len(encoded_relation(self.ALIKE | {"kind": "mean"})) == 5

    def test_one_prompt_is_never_refused(self) -> None:
        assert len(encoded_relation(self.ALIKE, n_items=1)) == 1
        assert len(encoded_relation({"able": "unable", "just": "joke"})) == 1

    def test_a_few_that_agree_by_chance_are_taken(self) -> None:
        """What is drawn has one first token, the relation has two."""
        pairs = self.ALIKE | {"kind": "mean"}
        drawn = [encoded_relation(pairs, n_items=2)]
        drawn += [encoded_relation(dict(list(pairs.items())[at:]), n_items=2) for at in (1, 2)]
        assert [len(one) for one in drawn] == [2, 2, 2]
        assert 1 in [len(one.answer_ids.unique()) for one in drawn]


class TestGpt2:
    def test_ids_that_the_authors_demo_prints(self, gpt2_tokenizer) -> None:
        items = tuple(
            Item(argument=word, answer=word.capitalize()) for word in ("silver", "bread", "crouch")
        )
        relation = Relation(name="uppercase", title="", items=items)
        prompts = [one_shot(relation, item) for item in items[1:]]
        encoded = encode(prompts, gpt2_tokenizer)
        assert encoded.answer_ids.tolist() == [28731, 327]
        assert encoded.answer_lengths.tolist() == [1, 2]

    def test_no_token_is_set_before_the_prompt(self, gpt2_tokenizer) -> None:
        (poland,) = (i for i in load_relation("world_capitals").items if i.argument == "Poland")
        encoded = encode([one_shot(load_relation("world_capitals"), poland)], gpt2_tokenizer)
        tokens = gpt2_tokenizer.convert_ids_to_tokens(list(encoded.token_ids[0]))
        assert tokens[:3] == ["Q", ":", "ĠWhat"] and tokens[-2:] == ["A", ":"]
        words = [encoded.argument_ids.item(), encoded.answer_ids.item()]
        assert gpt2_tokenizer.convert_ids_to_tokens(words) == ["ĠPoland", "ĠWarsaw"]

    def test_pattern_words_are_one_token_each(self, gpt2_tokenizer) -> None:
        """With them split, the argument would not be what a plain model goes on with."""
        relation = load_relation("world_capitals")
        (china,) = (item for item in relation.items if item.argument == "China")
        prompts = [repeated_pattern(relation, china, seed=seed) for seed in range(50)]
        tokens = [gpt2_tokenizer.tokenize(f" {prompt.text}") for prompt in prompts]
        assert all(len(line) == 11 and line[3] == line[7] == "ĠChina" for line in tokens)

    @pytest.mark.parametrize("name", RELATIONS)
    def test_every_item_is_kept_or_counted(self, gpt2_tokenizer, name: str) -> None:
        relation = load_relation(name)
        starts = {
            item: tuple(gpt2_tokenizer.tokenize(f" {w}")[0] for w in (item.argument, item.answer))
            for item in relation.items
        }
        shared = [item for item, (argument, answer) in starts.items() if argument == answer]
        bare = [item for item, words in starts.items() if "Ġ" in words]
        assert [item.answer for item in bare] == ["iced"] * (name == "past_tense")
        encoded = encode(build_prompts(relation, "one_shot"), gpt2_tokenizer, max_length=1024)
        assert {exclusion.prompt.item for exclusion in encoded.excluded} == {*shared, *bare}
        assert len(encoded) == len(relation.items) - len(shared) - len(bare)
        same = sum(item.group == SAME_NAME for item in shared)
        counts = Counter(encoded.exclusion_counts())
        assert counts[encoding.SAME_ARGUMENT_AND_ANSWER] == same
        assert counts[encoding.SHARED_FIRST_TOKEN] == len(shared) - same
        assert counts[encoding.BARE_SPACE] == len(bare)
        firsts = zip(encoded.argument_ids.tolist(), encoded.answer_ids.tolist(), strict=True)
        for prompt, pair in zip(encoded.prompts, firsts, strict=True):
            assert tuple(gpt2_tokenizer.convert_ids_to_tokens(pair)) == starts[prompt.item]

    @pytest.mark.parametrize("name", ["world_capitals", "us_state_capitals", "past_tense"])
    def test_all_forms_keep_the_same_items(self, gpt2_tokenizer, name: str) -> None:
        """So that abstractive and extractive accuracy speak of the same facts."""
        relation = load_relation(name)
        kept = {
            form: {
                prompt.item
                for prompt in encode(build_prompts(relation, form), gpt2_tokenizer).prompts
            }
            for form in FORMS
        }
        counterfactual = kept.pop("extractive_counterfactual")
        assert len({frozenset(items) for items in kept.values()}) == 1
        assert counterfactual <= kept["one_shot"]
        assert len(counterfactual) >= 0.9 * len(kept["one_shot"])

    def test_coloured_objects_keep_all_two_hundred_in_both_forms(self, gpt2_tokenizer) -> None:
        relation = load_relation("colored_objects")
        for form in ("one_shot", "extractive"):
            encoded = encode(build_prompts(relation, form), gpt2_tokenizer)
            assert len(encoded) == 200 and encoded.excluded == ()
            same = (encoded.argument_ids == encoded.answer_ids).tolist()
            assert set(same) == {form == "extractive"}

    def test_users_copying_prompt(self, gpt2_tokenizer) -> None:
        """The control run of the pattern looks for the argument itself."""
        relation = load_relation("world_capitals")
        prompts = build_prompts(relation, "repeated_pattern", n_items=40)
        control = [replace(prompt, answer=prompt.argument) for prompt in prompts]
        plain, copied = (encode(p, gpt2_tokenizer) for p in (prompts, control))
        assert [p.item for p in plain.prompts] == [p.item for p in copied.prompts]
        assert torch.equal(copied.answer_ids, plain.argument_ids)
