"""Document templates: each returns spans of text, marked where a reader could know what comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from ovectors.colored_objects import ColoredQuestion, ask_about
from ovectors.relations import Item, capitalise
from ovectors.training.lexicon import Lexicon, is_held_out

Spans = list[tuple[str, bool]]  # (text, can be known from what stands before or from memory)

SENTENCE_STYLE_SHARE = 0.6  # questions answered in a sentence: what follows "A:" depends on context
COUNTERFACTUAL_SHARE = 0.75
PAIR_FORMATS = (  # before the argument, between it and the answer, after the answer
    ("", " ->", "\n"),
    ("", " becomes", "."),
    ("", " :", " ;"),
    ("Q:", "\nA:", "\n"),
)


@dataclass(frozen=True)
class Documents:
    """Draws documents; all randomness comes from the `Random` that is passed in."""

    lexicon: Lexicon

    def question_pool(self, items: Sequence[Item]) -> list[Item]:
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

    # -- binding and copying --------------------------------------------------------------------

    def color_questions(self, rng: Random) -> Spans:
        """The coloured-objects task: upper or lower case follows the demonstration."""
        upper = rng.random() < 0.5
        separator = rng.choice(("\n\n", "\n"))
        spans: Spans = []
        for index in range(2):
            painted, question = self._color_question(rng)
            start = separator if index else ""
            spans.append((f"{start}Q: {question.passage}\nA:", False))
            asked = [question.colour]
            for color, thing in rng.sample(painted, rng.randint(0, min(2, len(painted)))):
                spans += [(f" {_cased(asked[-1], upper)}", True)]
                spans += [(f"\nQ: What color is the {thing}?\nA:", False)]
                asked.append(color)
            spans.append((f" {_cased(asked[-1], upper)}", True))
        return spans

    def _color_question(self, rng: Random) -> tuple[list[tuple[str, str]], ColoredQuestion]:
        """As the task's own generator asks; short lists are commoner, to teach binding first."""
        size = rng.choice((2, 2, 2, 3, 3, 4, 4, 5, 6))
        colors = rng.sample(self.lexicon.colors, size)
        things = rng.sample(self.lexicon.objects, size)
        surface = rng.choice(self.lexicon.surfaces)
        painted = list(zip(colors, things, strict=True))
        return painted, ask_about(rng, surface, things, colors[0], colors[1:])

    def color_binding(self, rng: Random) -> Spans:
        """A short list of coloured things, then dense statements about each of them."""
        count = rng.randint(1, 5)
        colors = rng.sample(self.lexicon.colors, count)
        things = rng.sample(self.lexicon.objects, count)
        painted = list(zip(colors, things, strict=True))
        listed = ", ".join(f"a {color} {thing}" for color, thing in painted)
        spans: Spans = [(f"You see {listed}.", False)]
        upper = rng.random() < 0.4
        pairs = painted * 2
        rng.shuffle(pairs)
        for color, thing in pairs[:6]:
            shown = color.capitalize() if upper else color
            asked = rng.choice((f" The {thing} is", f"\nQ: What color is the {thing}?\nA:"))
            spans += [(asked, False), (f" {shown}", True), (".", False)]
        return spans

    def word_binding(self, rng: Random) -> Spans:
        """Pairs of random words, then each asked for by its second: binding without meaning.

        What stands before the word that is asked about is always the same: a head that finds this
        word again then learns nothing from it, and can tell it from the pair.
        """
        count = rng.randint(2, 5)
        words = rng.sample(self._binding_words, 2 * count)
        pairs = list(zip(words[::2], words[1::2], strict=True))
        spans: Spans = [("You see " + ", ".join(f"a {a} {b}" for a, b in pairs) + ".", False)]
        asked = pairs * 2
        rng.shuffle(asked)
        for a, b in asked[:8]:
            spans += [(f" The {b} is", False), (f" {a}", True), (".", False)]
        return spans

    @property
    def _binding_words(self) -> Sequence[str]:
        return (*self.lexicon.colors, *self.lexicon.objects, *self.lexicon.nonsense)

    def repeated_pattern(self, rng: Random) -> Spans:
        """Random words and an argument of some relation, repeated: pure copying."""
        words = rng.sample(self.lexicon.nonsense, rng.choice((2, 3, 3, 3, 5, 7)))
        pool = rng.choice((self.lexicon.capitals, self.lexicon.verbs, self.lexicon.words))
        unit = [*words, rng.choice(pool).argument]
        if rng.random() < 0.3:
            rng.shuffle(unit)
        repeats = rng.randint(2, 4)
        spans: Spans = [(" ".join(unit), False)]
        return spans + [(f" {word}", True) for word in unit * (repeats - 1)]


def _cased(word: str, upper: bool) -> str:
    return capitalise(word) if upper else word


def mixture(
    documents: Documents, *, context_only: bool = False
) -> tuple[list[Callable[[Random], Spans]], list[float]]:
    """The kinds of document and their weights (shares of documents, not of tokens).

    With `context_only`, just those whose answers stand in the context: training starts with them,
    as copying and binding are circuits of several layers that facts, once learned, would crowd out.
    """
    in_context = {
        documents.color_questions: 8,
        documents.color_binding: 12,
        documents.word_binding: 6,
        documents.repeated_pattern: 8,
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
