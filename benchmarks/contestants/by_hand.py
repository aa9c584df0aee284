"""(c) The loop that the paper's description implies, in plain transformers.

One prompt at a time: modules are swapped for ones that give the vector, the hidden states of all
layers come back, and each is decoded by sorting the whole vocabulary. Nothing in it is slower than
the description asks for: no gradient is kept, and the modules are swapped once a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from benchmarks.questions import Answer, Question
from ovectors.encoding import EncodedPrompts
from ovectors.models import LanguageModel


class Given(nn.Module):
    """Stands in for an FFN: gives `vector` at every token, or at the last one alone."""

    def __init__(self, vector: Tensor, ffn: nn.Module, positions: str) -> None:
        super().__init__()
        self.vector, self.ffn, self.positions = vector, ffn, positions

    def forward(self, states: Float[Tensor, "row token d_model"]) -> Tensor:
        if self.positions == "all":
            return self.vector.expand_as(states).clone()
        output = self.ffn(states)
        output[:, -1] = self.vector
        return output


@contextmanager
def sweep(model: LanguageModel, *, rows: int) -> Iterator[Callable[[Question], Answer]]:
    """Prompt by prompt, start layer by start layer."""

    @torch.no_grad()
    def ask(question: Question) -> Answer:
        shape = (len(question.starts), len(question.encoded))
        found = {name: np.empty(shape) for name in ("answer", "argument")}
        logits, top = {name: np.empty(shape) for name in found}, np.empty(shape, dtype=np.int64)
        for row, ids in enumerate(question.token_ids):
            for run, start in enumerate(question.starts):
                blocks = range(start, model.n_layers)
                with _swapped(model, blocks, question.vector, question.positions):
                    layers = _decoded(model, ids)
                for name, tokens in question.wanted.items():
                    ranks = [_rank(order, int(tokens[row])) for _, order in layers]
                    found[name][run, row] = ranks[-1]
                    logits[name][run, row] = float(layers[-1][0][tokens[row]])
                top[run, row] = int(layers[-1][1][0])
        return Answer(ranks=found, top=top, logits=logits)

    yield ask


@torch.no_grad()
def stages(model: LanguageModel, encoded: EncodedPrompts) -> Answer:
    """Every layer of every prompt decoded, one prompt at a time: a run is a decoded layer.

    Give it a copy of the model: asking transformers for hidden states leaves hooks in its blocks.
    """
    shape = (model.n_layers, len(encoded))
    ranks = {name: np.empty(shape) for name in ("answer", "argument")}
    top = np.empty(shape, dtype=np.int64)
    for row, ids in enumerate(encoded.token_ids):
        for layer, (_, order) in enumerate(_decoded(model, ids)):
            ranks["answer"][layer, row] = _rank(order, int(encoded.answer_ids[row]))
            ranks["argument"][layer, row] = _rank(order, int(encoded.argument_ids[row]))
            top[layer, row] = int(order[0])
    return Answer(ranks=ranks, top=top)


def _decoded(model: LanguageModel, ids: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """For each layer its logits at the last token and the vocabulary sorted by them.

    The last hidden state that transformers gives has been through the final norm already.
    """
    network = model.model
    norm = model.architecture.final_norm_of(network)
    tokens = torch.tensor([list(ids)], device=network.device)
    states = network(tokens, output_hidden_states=True, use_cache=False).hidden_states[1:]
    layers = []
    for layer, state in enumerate(states):
        last = state[0, -1]
        logits = network.lm_head(last if layer == model.n_layers - 1 else norm(last)).float()
        layers.append((logits, logits.sort(descending=True).indices))
    return layers


def _rank(order: Tensor, token: int) -> int:
    return 1 + int((order == token).nonzero()[0])


@contextmanager
def _swapped(
    model: LanguageModel, layers: Sequence[int], vector: Tensor, positions: str
) -> Iterator[None]:
    """The FFN modules of these layers replaced by `Given`, and put back."""
    wiring, blocks = model.architecture, model.layers
    at, _, name = wiring.ffn.rpartition(".")
    vector = vector.to(model.device, model.dtype)
    kept = {layer: wiring.ffn_of(blocks[layer]) for layer in layers}
    try:
        for layer, ffn in kept.items():
            setattr(blocks[layer].get_submodule(at), name, Given(vector, ffn, positions))
        yield
    finally:
        for layer, ffn in kept.items():
            setattr(blocks[layer].get_submodule(at), name, ffn)
