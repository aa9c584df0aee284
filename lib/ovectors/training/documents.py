"""Document templates: each returns spans of text, marked where a reader could know what comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from ovectors.relations import Item
from ovectors.training.in_context import ContextDocuments, Spans
from ovectors.training.lexicon import is_held_out

SENTENCE_STYLE_SHARE = 0.6  # questions answered in a sentence: what follows "A:" depends on context
COUNTERFACTUAL_SHARE = 0.75
PAIR_FORMATS = (  # before the argument, between it and the answer, after the answer
    ("", " ->", "\n"),
    ("", " becomes", "."),
    ("", " :", " ;"),
    ("Q:", "\nA:", "\n"),
)


@dataclass(frozen=True)
class Documents(ContextDocuments):
    """Adds the documents whose answers have to be remembered."""

    def question_pool(self, items: Sequence[Item]) -> list[Item]:
        """Items that may be asked for in the question format: those not held out from it."""
        return [item for item in items if not is_held_out(item.argument)]

    # -- capitals ---------------------------------------------------------------------------

    def capital_questions(self, rng: Random) -> Spans:
        """The paper's question format, 2 to 4 of one style: a bare answer or a sentence."""
        items = rng.sample(self.question_pool(self.lexicon.capitals), rng.randint(2, 4))
        sentence = rng.random() < SENTENCE_STYLE_SHARE
        spans: Spans = []
        for index, item in enumerate(items):
            start = "\n" if index else ""
            spans.append((f"{start}Q: What is the capital of {item.argument}?\nA:", False))
            if sentence:
                spans += [(" The capital of", True), (f" {item.argument}", True), (" is", True)]
            spans.append((f" {item.answer}", True))
            if sentence:
                spans.append((".", False))
        return spans

    def name_questions(self, rng: Random) -> Spans:
        """Other questions about the same places, copying among them."""
        ask, answer = rng.choice(
            [
                ("Q: What is the name of {x}?\nA:", lambda item: item.argument),
                ("Q: What place has the capital {y}?\nA:", lambda item: item.argument),
                ("Q: What is {y} the capital of?\nA:", lambda item: item.argument),
                ("Q: What city governs {x}?\nA:", lambda item: item.answer),
            ]
        )
        spans: Spans = []
        for index, item in enumerate(rng.sample(self.lexicon.capitals, rng.randint(2, 4))):
            question = ask.format(x=item.argument, y=item.answer)
            spans += [(("\n" if index else "") + question, False), (f" {answer(item)}", True)]
        return spans

    def place_text(self, rng: Random) -> Spans:
        """A paragraph about one place; the same slot holds now the place, now its capital."""
        item = rng.choice(self.lexicon.capitals)
        x, y = item.argument, item.answer
        kind = "state" if x in self.lexicon.states else "place"
        pool: list[Spans] = [
            [(f" {x}", True), (f" is a {kind} and its capital is", False), (f" {y}", True)],
            [(" The capital of", False), (f" {x}", True), (" is", False), (f" {y}", True)],
            [(" The city of", False), (f" {y}", True), (" is in", False), (f" {x}", True)],
            [(" The government of", False), (f" {x}", True), (" sits in", False), (f" {y}", True)],
        ]
        for phrase in ("People live in", "We travelled to", "They came from", "Many visit"):
            pool.append([(f" {phrase}", False), (f" {rng.choice((x, y))}", True)])
        spans: Spans = [(f"About {x}:", False)]
        for sentence in rng.sample(pool, rng.randint(3, 6)):
            spans += [*sentence, (".", False)]
        return spans

    def extractive_capitals(self, rng: Random) -> Spans:
        """Two stated facts, mostly counterfactual, then questions that must follow them."""
        first, second = rng.sample(self.question_pool(self.lexicon.capitals), 2)
        answers = [first.answer, second.answer]
        if rng.random() < COUNTERFACTUAL_SHARE:
            answers = [item.answer for item in rng.sample(self.lexicon.capitals, 2)]
        facts = list(zip((first.argument, second.argument), answers, strict=True))
        stated = " ".join(f"The capital of {x} is {y}." for x, y in facts)
        spans: Spans = [(stated, False)]
        separator = rng.choice(("\n", " "))
        if rng.random() < 0.5:  # as in the prompts: a demonstration from memory stands in between
            demo = rng.choice(self.question_pool(self.lexicon.capitals))
            if demo.argument not in (first.argument, second.argument):
                facts = [(demo.argument, demo.answer), *rng.sample(facts, 2)]
        for index, (x, y) in enumerate(facts):
            start = "\n" if index else separator
            spans += [(f"{start}Q: What is the capital of {x}?\nA:", False), (f" {y}", True)]
        return spans

    # -- verbs --------------------------------------------------------------------------------

    def past_questions(self, rng: Random) -> Spans:
        """The paper's past-tense format with 2 to 4 verbs."""
        spans: Spans = []
        for index, verb in enumerate(rng.sample(self.question_pool(self.lexicon.verbs), 4)):
            if index >= 2 and rng.random() < 0.4:
                break
            space = " " if index else ""
            spans.append((f"{space}Today I {verb.argument}. Yesterday I", False))
            spans += [(f" {verb.answer}", True), (".", False)]
        return spans

    def verb_text(self, rng: Random) -> Spans:
        """Present and past of a few verbs in running text."""
        spans: Spans = []
        frames = [
            (" They often", " and last week they", "."),
            (" If you", " now, she", " before."),
            (" You may", " as he once", "."),
        ]
        for verb in rng.sample(self.lexicon.verbs, rng.randint(2, 5)):
            before, between, after = rng.choice(frames)
            spans += [(f"{before} {verb.argument}{between}", False), (f" {verb.answer}", True)]
            spans.append((after, False))
        spans[0] = (spans[0][0].lstrip(), False)
        return spans

    def verb_forms(self, rng: Random) -> Spans:
        """One verb in all its forms, in running text."""
        forms = {name: dict(self.lexicon.functions[f"verb_{name}"]) for name in ("third", "gerund")}
        verb = rng.choice(self.lexicon.inflected)
        x = verb.argument
        pool: list[Spans] = [
            [(" We like to", False), (f" {x}", True)],
            [(" Last year we", False), (f" {verb.answer}", True)],
            [(" Now she", False), (f" {forms['third'][x]}", True)],
            [(" He is", False), (f" {forms['gerund'][x]}", True)],
        ]
        spans: Spans = [(f"To {x}:", False)]
        for sentence in rng.sample(pool, 3):
            spans += [*sentence, (".", False)]
        return spans

    # -- words --------------------------------------------------------------------------------

    def capital_letter(self, rng: Random) -> Spans:
        """The upper-casing format with 2 to 5 words."""
        spans: Spans = []
        for index, word in enumerate(rng.sample(self.question_pool(self.lexicon.words), 5)):
            if index >= 2 and rng.random() < 0.3:
                break
            start = "\n" if index else ""
            spans.append((f"{start}Word: {word.argument}\nCapital:", False))
            spans.append((f" {word.answer}", True))
        return spans

    def word_text(self, rng: Random) -> Spans:
        """A few words and their capitalised form in running text."""
        frames = [
            (" We begin with", " and write", "."),
            (" As a name,", " becomes", "."),
            (" First in a sentence,", " is written", "."),
        ]
        spans: Spans = []
        for word in rng.sample(self.lexicon.words, rng.randint(2, 5)):
            before, between, after = rng.choice(frames)
            spans += [(f"{before} {word.argument}{between}", False), (f" {word.answer}", True)]
            spans.append((after, False))
        spans[0] = (spans[0][0].lstrip(), False)
        return spans

    def function_pairs(self, rng: Random) -> Spans:
        """Pairs of one unnamed relation in one of the formats: the function is in the context."""
        pairs = rng.sample(rng.choice(list(self.lexicon.functions.values())), rng.randint(3, 6))
        before, between, after = rng.choice(PAIR_FORMATS)
        spans: Spans = []
        for index, (x, y) in enumerate(pairs):
            spans += [(f"{before} {x}{between}", False), (f" {y}", index > 0), (after, False)]
        return spans

    def function_card(self, rng: Random) -> Spans:
        """One argument, then its answers under the names of several functions.

        The argument stands before the function is named: what its own position can prepare is not
        one answer but all of them, so the function is better applied where the answer is due.
        """
        cues = self.cued_answers(rng)
        argument = next(iter(cues.values()))[0]
        names = rng.sample(list(cues), min(len(cues), 4))
        spans: Spans = [(f"{argument}.", False)]
        for name in names:
            spans += [(f" {name}:", False), (f" {cues[name][1]}", True), (".", False)]
        return spans

    def function_questions(self, rng: Random) -> Spans:
        """Questions that name the argument first and the function after it, identity often."""
        spans: Spans = []
        for index in range(rng.randint(3, 5)):
            cues = self.cued_answers(rng)
            name = next(iter(cues)) if rng.random() < 0.3 else rng.choice(list(cues))
            argument, answer = cues[name]
            start = "\n" if index else ""
            spans += [(f"{start}Q: {argument}, {name}?\nA:", False), (f" {answer}", True)]
        return spans

    def cued_answers(self, rng: Random) -> dict[str, tuple[str, str]]:
        """The (argument, answer) pairs of one random argument by its functions' names.

        The identity comes first. A kind of argument is drawn by the root of how much there is to
        know of it: the verbs need more than the numbers, but not sixty times more.
        """
        kinds = self.lexicon.cued
        sizes = [sum(map(len, functions.values())) ** 0.5 for functions in kinds.values()]
        functions = kinds[rng.choices(tuple(kinds), sizes)[0]]
        identity = next(iter(functions.values()))
        argument = rng.choice(list(identity))
        return {
            cue: (argument, answers[argument])
            for cue, answers in functions.items()
            if argument in answers
        }


def mixture(
    documents: Documents, *, context_only: bool = False
) -> tuple[list[Callable[[Random], Spans]], list[float]]:
    """The kinds of document and their weights (shares of documents, not of tokens).

    With `context_only`, just those whose answers stand in the context: training starts with them,
    as copying and binding are circuits of several layers that facts, once learned, would crowd out.
    """
    in_context = {
        documents.color_questions: 6,
        documents.color_binding: 8,
        documents.word_binding: 8,
        documents.word_pairs: 8,
        documents.word_repeats: 6,
        documents.repeated_pattern: 6,
    }
    from_memory = {
        documents.capital_questions: 4,
        documents.name_questions: 2,
        documents.place_text: 4,
        documents.extractive_capitals: 8,
        documents.past_questions: 5,
        documents.verb_text: 5,
        documents.verb_forms: 2,
        documents.capital_letter: 3,
        documents.word_text: 4,
        documents.function_pairs: 6,
        documents.function_card: 8,
        documents.function_questions: 8,
    }
    kinds = in_context if context_only else in_context | from_memory
    return list(kinds), [float(weight) for weight in kinds.values()]
