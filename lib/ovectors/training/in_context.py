"""Documents whose answers stand in the document itself: copying, and binding word to word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from ovectors.colored_objects import ColoredQuestion, ask_about
from ovectors.relations import capitalise
from ovectors.training.lexicon import Lexicon

Spans = list[tuple[str, bool]]  # (text, can be known from what stands before or from memory)


@dataclass(frozen=True)
class ContextDocuments:
    """Draws documents; all randomness comes from the `Random` that is passed in."""

    lexicon: Lexicon

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
        spans: Spans = [(_list(painted), False)]
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
        pairs = self._draw_pairs(rng, rng.randint(2, 5))
        spans: Spans = [(_list(pairs), False)]
        asked = pairs * 2
        rng.shuffle(asked)
        for a, b in asked[:8]:
            spans += [(f" The {b} is", False), (f" {a}", True), (".", False)]
        return spans

    def word_pairs(self, rng: Random) -> Spans:
        """Pairs of random words, then the second of each followed by its first.

        A head that finds the word and reads what was written at its place can do it, and that head
        is what questions about a list need as well.
        """
        pairs = self._draw_pairs(rng, rng.randint(2, 6))
        spans: Spans = [(_list(pairs), False)]
        for _ in range(rng.randint(1, 2)):
            rng.shuffle(pairs)
            for a, b in pairs:
                spans += [(f" {b}", False), (f" {a}", True)]
        return spans

    def word_repeats(self, rng: Random) -> Spans:
        """A row of random words, several times: copying, of the words that are bound elsewhere."""
        words = rng.sample(self._binding_words, rng.randint(3, 10))
        known = [(f" {word}", True) for word in words * rng.randint(1, 4)]
        return [(" ".join(words), False), *known]

    def _draw_pairs(self, rng: Random, count: int) -> list[tuple[str, str]]:
        words = rng.sample(self._binding_words, 2 * count)
        return list(zip(words[::2], words[1::2], strict=True))

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


def _list(pairs: Sequence[tuple[str, str]]) -> str:
    return "You see " + ", ".join(f"a {a} {b}" for a, b in pairs) + "."


def _cased(word: str, upper: bool) -> str:
    return capitalise(word) if upper else word
