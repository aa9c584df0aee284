"""What the explorer shows of one model and task: states layer by layer, and what changes do.

Each item is run twice: as a one-shot question and as a nonsense pattern. Three changes go with
them: the o vector of one fixed example in the place of FFN outputs (section 4), a random vector of
its length in the same place, and FFNs removed from the same layer on (section 5).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from ovectors import catalogue, lens, stream
from ovectors.encoding import EncodedPrompts, encode_relation
from ovectors.experiments.shared.layer_maps import layer_map
from ovectors.experiments.shared.layers import Layers, choose_layers
from ovectors.experiments.shared.paper import shown_argument
from ovectors.experiments.shared.replacing import Vector, random_vectors
from ovectors.experiments.shared.sources import (
    Task,
    at_most,
    find_sources,
    o_vectors,
    split_by_argument,
)
from ovectors.interventions import Ablate, Replace
from ovectors.relations import Relation, load_relation
from ovectors.sweeps import sweep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float
    from torch import Tensor

    from ovectors.models import LanguageModel

TASKS = ("world_capitals", "past_tense", "uppercase", "colored_objects")
TOP, MOST_BYTES, N_ITEMS = 5, 300_000, 40
SCHEMA = 1


def explore(
    model: LanguageModel,
    relation: Relation | str,
    *,
    n_items: int = N_ITEMS,
    layers: Layers | None = None,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Everything that the page shows of a model on a relation, as plain values for JSON.

    Args:
        n_items: at most so many items, none of them the vector's own but for the paper's example;
            fewer where they would take more than MOST_BYTES as JSON.
        layers: where the vector comes from and goes in; None: the paper's where the catalogue has
            them, else chosen on development items.

    Keys: schema, model, task, title, layers (their number), parts, vector, words (the texts of all
    tokens; everything else names a token by its place there) and items. An item has its texts,
    whether it is answered, `states` (for each part, and `entry` for what the first layer reads, one
    [tokens, logits, rank of argument, rank of answer] a layer) and `runs` (for the pattern and each
    change one [top token, rank of argument, rank of answer] a layer). Ranks: 1 = top.
    """
    relation = load_relation(relation, seed=seed) if isinstance(relation, str) else relation
    layers, chosen_by = _layers(model, relation, layers, seed=seed, progress=progress)
    example = _example(model, relation, seed=seed)
    own = o_vectors(model, example, layers=(layers.source,))[0, 0]
    questions, patterns = _items(model, relation, example, n_items=n_items, seed=seed)
    words = _Words(model)
    states = _states(model, questions, words, progress=progress)
    runs = _runs(model, questions, patterns, own, layers, words, seed=seed, progress=progress)
    (source,) = example.prompts
    data = {
        "schema": SCHEMA,
        "model": model.name,
        "task": relation.name,
        "title": relation.title,
        "layers": model.n_layers,
        "parts": [part for part in ("mid", "after") if part in states],
        "vector": {
            "argument": source.argument.strip(),
            "answer": source.answer.strip(),
            "source": layers.source,
            "start": layers.start,
            "chosen": chosen_by,
        },
        "items": _told(questions, patterns, states, runs),
    }
    return _fitted(data, words)


def _told(
    questions: EncodedPrompts,
    patterns: EncodedPrompts,
    states: Mapping[str, list[list[list]]],
    runs: Mapping[str, list[list[list]]],
) -> list[dict[str, Any]]:
    """Item by item what `states` and `runs` hold layer by layer, with the item's texts."""
    return [
        {
            "argument": question.argument.strip(),
            "answer": question.answer.strip(),
            "question": question.text,
            "pattern": pattern.text,
            "correct": states["after"][-1][at][3] == 1,
            "states": {part: [row[at] for row in rows] for part, rows in states.items()},
            "runs": {name: [row[at] for row in rows] for name, rows in runs.items()},
        }
        for at, (question, pattern) in enumerate(
            zip(questions.prompts, patterns.prompts, strict=True)
        )
    ]


def _layers(
    model: LanguageModel, relation: Relation, given: Layers | None, *, seed: int, progress: bool
) -> tuple[Layers, str]:
    """Where the vector comes from and goes in, and who says so."""
    if given is not None:
        return given, "given"
    spec = catalogue.catalogue().get(model.name)
    if spec is not None and spec.replaced and relation.name in spec.o_layers:
        return Layers(source=spec.o_layers[relation.name], start=spec.replaced[0]), "paper"
    table = layer_map(model, relation, seed=seed, progress=progress)
    return choose_layers(table), "development items"


def _example(model: LanguageModel, relation: Relation, *, seed: int) -> EncodedPrompts:
    """The prompt that the vector comes from: the paper's, else an answered development item's."""
    whole = encode_relation(model, relation, "one_shot", seed=seed)
    wanted = shown_argument(relation.name)
    for at, prompt in enumerate(whole.prompts):
        if prompt.argument == wanted:
            return whole.select([at])
    return find_sources(model, Task(relation=relation), n_sources=1, seed=seed).prompts


def _items(
    model: LanguageModel,
    relation: Relation,
    example: EncodedPrompts,
    *,
    n_items: int,
    seed: int,
) -> tuple[EncodedPrompts, EncodedPrompts]:
    """The same items as questions and as patterns: the example's own, then reported ones."""
    asked = encode_relation(model, relation, "one_shot", seed=seed)
    repeated = encode_relation(model, relation, "repeated_pattern", seed=seed)
    place = {prompt.item: at for at, prompt in enumerate(repeated.prompts)}
    _, report = split_by_argument(asked, seed=seed)
    (own,) = example.prompts
    drawn = {one.text for one in at_most(report, max(1, n_items), seed=seed).prompts}
    kept = [
        at
        for at, one in enumerate(asked.prompts)
        if one.item in place
        and (one.text == own.text or (one.text in drawn and one.argument != own.argument))
    ]
    kept.sort(key=lambda at: asked.prompts[at].text != own.text)
    kept = kept[: max(1, n_items)]
    patterns = repeated.select(place[asked.prompts[at].item] for at in kept)
    return asked.select(kept), patterns


class _Words:
    """The texts of all tokens that are shown, each once."""

    def __init__(self, model: LanguageModel) -> None:
        self.tokenizer = model.tokenizer
        self.places: dict[int, int] = {}

    def place(self, token: int) -> int:
        """The number of a token among the texts; a new one gets the next."""
        return self.places.setdefault(int(token), len(self.places))

    @property
    def texts(self) -> list[str]:
        """The text of each token, in the order of their numbers."""
        return [self.tokenizer.decode([token]) for token in self.places]


def _states(
    model: LanguageModel, questions: EncodedPrompts, words: _Words, *, progress: bool
) -> dict[str, list[list[list]]]:
    """For each part, layer and item its top tokens with their logits, and the two ranks."""
    parts = ("before", "after") if model.architecture.mid is None else ("before", "mid", "after")
    recorded = stream.record(model, questions, parts=parts, progress=progress)
    shown = {"entry": recorded["before"][:1]}  # a later layer reads what the one before it left
    shown |= {part: recorded[part] for part in parts[1:]}
    return {part: _decoded(model, questions, states, words) for part, states in shown.items()}


def _decoded(
    model: LanguageModel,
    encoded: EncodedPrompts,
    states: Float[Tensor, "layer prompt d_model"],
    words: _Words,
) -> list[list[list]]:
    logit_lens = lens.LogitLens(model)
    top = lens.top_tokens(logit_lens, states, k=min(TOP, model.vocab_size))
    wanted = {f"top {n}": top[..., n] for n in range(top.shape[-1])}
    wanted |= {"argument": encoded.argument_ids, "answer": encoded.answer_ids}
    found = lens.decode(logit_lens, states, wanted)
    logits = torch.stack([found.logits[f"top {n}"] for n in range(top.shape[-1])], dim=-1)
    ranks = {name: found.ranks[name].tolist() for name in ("argument", "answer")}
    return [
        [
            [
                [words.place(token) for token in tokens],
                [round(value, 2) for value in values],
                _rank(ranks["argument"][layer][at]),
                _rank(ranks["answer"][layer][at]),
            ]
            for at, (tokens, values) in enumerate(zip(*rows, strict=True))
        ]
        for layer, rows in enumerate(zip(top.tolist(), logits.tolist(), strict=True))
    ]


def _runs(
    model: LanguageModel,
    questions: EncodedPrompts,
    patterns: EncodedPrompts,
    own: Float[Tensor, " d_model"],
    layers: Layers,
    words: _Words,
    *,
    seed: int,
    progress: bool,
) -> dict[str, list[list[list]]]:
    """For the pattern and each change, for each layer and item: top token and the two ranks."""
    (chance,) = random_vectors([Vector(condition="", name="", values=own)], seed=seed)
    changed = range(layers.start, model.n_layers)
    put = [Replace(layers=changed, positions="all", vector=one) for one in (own, chance.values)]
    removed = [Ablate(layers=changed, positions="all")]
    asked = {
        ("pattern", "vector", "random"): (patterns, [[], [put[0]], [put[1]]]),
        ("removed",): (questions, [removed]),
    }
    found = {}
    for names, (prompts, points) in asked.items():
        wanted = {"argument": prompts.argument_ids, "answer": prompts.answer_ids}
        outcome = sweep(model, prompts, points, wanted=wanted, layers=None, progress=progress)
        for point, name in enumerate(names):
            ranks = [outcome.ranks[token][point].tolist() for token in wanted]
            found[name] = [
                [[words.place(token), _rank(a), _rank(b)] for token, a, b in zip(*row, strict=True)]
                for row in zip(outcome.top[point].tolist(), *ranks, strict=True)
            ]
    return found


def _rank(value: float) -> float | int:
    """A rank without a needless `.0`."""
    return int(value) if value == int(value) else value


def _fitted(data: dict[str, Any], words: _Words) -> dict[str, Any]:
    """The data with as many of its items as MOST_BYTES hold, one at least."""
    data["words"] = words.texts
    spare = 2_000  # for what is told of the run beside the data
    while len(data["items"]) > 1 and size_of(data) + spare > MOST_BYTES:
        data["items"].pop()
    return data


def size_of(data: dict[str, Any]) -> int:
    """Bytes of the data as they are written."""
    return len(as_json(data).encode())


def as_json(data: Any) -> str:
    """JSON without a space, that a script element may hold too."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("</", "<\\/").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
