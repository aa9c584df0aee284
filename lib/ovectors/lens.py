"""Early decoding: what a state of the stream would answer, as tokens and (reciprocal) ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from accelerate.utils import align_module_device
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ovectors.errors import UserError
from ovectors.forward import BUDGET_BYTES, execution_device

if TYPE_CHECKING:
    from torch import nn

    from ovectors.models import LanguageModel


TILE = 16_384
"""So many rows of a head are widened to float32 at a time."""


class Lens(Protocol):
    """States of the stream to logits. A learned lens makes one such object for each layer."""

    vocab_size: int

    def __call__(self, states: Float[Tensor, "... d_model"]) -> Float[Tensor, "... vocabulary"]: ...


class LogitLens:
    """The paper's lens (section 2): the model's own final norm and head on any state.

    The modules themselves are called, so a head's bias counts and each state is normalised by its
    own statistics; no weight is folded or centred; what a model does to its logits after the head
    (a scale, a cap) is done too. The norm runs in the model's dtype, and so does the head, but that
    a head of half precision is widened to float32: in half precision one top token in ten or twenty
    ties with another. `as_the_model` leaves it as it is. Logits come back in float32 (float64 for a
    model in float64), on the head's device, and rows of a padded vocabulary, which stand for no
    token, are minus infinity.
    """

    def __init__(self, model: LanguageModel, *, as_the_model: bool = False) -> None:
        self.vocab_size = model.vocab_size
        self.dtype = model.dtype
        self.norm = model.architecture.final_norm_of(model.model)
        self.head = model.architecture.head_of(model.model)
        self.logits_from = model.architecture.logits_from
        self.widened = self.dtype.itemsize == 2 and not as_the_model
        self.unused = unused_rows(model)
        self.any_unused = bool(self.unused.any())

    @torch.no_grad()
    def __call__(self, states: Float[Tensor, "... d_model"]) -> Float[Tensor, "... vocabulary"]:
        """Logits of all states at once: for many of them use the functions below, which chunk."""
        normed = self.norm(states.to(execution_device(self.norm), self.dtype))
        normed = normed.to(execution_device(self.head))
        found = _in_float32(self.head, normed) if self.widened else self.head(normed)
        logits = self.logits_from(found).to(torch.promote_types(self.dtype, torch.float32))
        if not self.any_unused:
            return logits
        return logits.masked_fill(self.unused.to(logits.device), -torch.inf)


def _in_float32(
    head: nn.Module, normed: Float[Tensor, "... d_model"]
) -> Float[Tensor, "... vocabulary"]:
    """What a linear head gives in float32, a tile of its rows widened at a time, wherever its
    weights are kept."""
    with align_module_device(head, normed.device):
        wide = normed.float()
        tiles = [wide @ rows.float().T for rows in head.weight.split(TILE)]
        logits = torch.cat(tiles, dim=-1)
        bias = getattr(head, "bias", None)
        return logits if bias is None else logits + bias.float()


def unused_rows(model: LanguageModel) -> Bool[Tensor, " vocabulary"]:
    """Which rows of the head belong to no token (GPT-J has 50,400 rows, Pythia 50,304)."""
    named = torch.tensor(model.token_ids)
    unused = torch.ones(model.vocab_size, dtype=torch.bool)
    unused[named[named < model.vocab_size]] = False
    return unused


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """Early decoding of some states, in ranks and logits of wanted tokens, and the token on top.

    Attributes:
        ranks: for each wanted token by its name, its rank (1 = top, ties get the middle rank).
        logits: its logit, in float32 (float64 for states in float64).
        top: the ids of the tokens on top, best first.
    """

    ranks: Mapping[str, Float[Tensor, " ..."]]
    logits: Mapping[str, Float[Tensor, " ..."]]
    top: Int[Tensor, "... k"]


def decode(
    lens: Lens,
    states: Float[Tensor, "... d_model"],
    wanted: Mapping[str, Int[Tensor, " ..."]],
    *,
    k: int = 1,
    budget_bytes: int = BUDGET_BYTES,
) -> Decoded:
    """Ranks and logits of all `wanted` tokens and the `k` on top, with the head applied once.

    Each of `wanted` is broadcast against the states' leading axes: `[prompt]` ids go with
    `[layer, prompt, d_model]` states. Ranks are counted on float32 logits, nothing is sorted:
    1 + (how many are larger) + half of (how many others are equal), so that ties, which are common
    in half precision, get their middle rank. UserError where a logit is not a number.
    """
    if not 1 <= k <= lens.vocab_size:
        raise ValueError(f"k is between 1 and the vocabulary's {lens.vocab_size}, not {k}")
    shape = states.shape[:-1]
    ids = {name: _spread(lens, tokens, shape) for name, tokens in wanted.items()}
    kept = torch.float64 if states.dtype is torch.float64 else torch.float32
    ranks: dict[str, list[Tensor]] = {name: [] for name in wanted}
    logits: dict[str, list[Tensor]] = {name: [] for name in wanted}
    top: list[Tensor] = []
    for start, row in _chunked(lens, states, budget_bytes):
        top.append(row.topk(k, dim=1).indices.cpu())
        for name, tokens in ids.items():
            own = row.gather(1, tokens[start : start + len(row), None].to(row.device))
            ranks[name].append(_counted(row, own))
            logits[name].append(own[:, 0].cpu())
    return Decoded(
        ranks={name: _joined(found, shape, torch.float32) for name, found in ranks.items()},
        logits={name: _joined(found, shape, kept) for name, found in logits.items()},
        top=_joined(top, (*shape, k), torch.long),
    )


def _spread(lens: Lens, tokens: Int[Tensor, " ..."], shape: Sequence[int]) -> Int[Tensor, " flat"]:
    """One token id for each state, in one axis."""
    ids = torch.as_tensor(tokens).cpu().expand(shape).reshape(-1)
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < lens.vocab_size:
        raise ValueError(f"token ids run from 0 to {lens.vocab_size - 1}")
    return ids


def _counted(
    logits: Float[Tensor, "row vocabulary"], own: Float[Tensor, "row 1"]
) -> Float[Tensor, " row"]:
    larger = (logits > own).sum(dim=1)
    equal = (logits == own).sum(dim=1)
    return (1 + larger + (equal - 1) / 2).to("cpu", torch.float32)


def ranks(
    lens: Lens,
    states: Float[Tensor, "... d_model"],
    token_ids: Int[Tensor, " ..."],
    *,
    budget_bytes: int = BUDGET_BYTES,
) -> Float[Tensor, " ..."]:
    """The rank of one token in the early decoding of each state, 1 = top, as `decode` counts."""
    return decode(lens, states, {"wanted": token_ids}, budget_bytes=budget_bytes).ranks["wanted"]


def reciprocal_ranks(
    lens: Lens,
    states: Float[Tensor, "... d_model"],
    token_ids: Int[Tensor, " ..."],
    *,
    budget_bytes: int = BUDGET_BYTES,
) -> Float[Tensor, " ..."]:
    """1 / `ranks` (the paper's measure, section 3): 1 = top."""
    return 1 / ranks(lens, states, token_ids, budget_bytes=budget_bytes)


def top_tokens(
    lens: Lens,
    states: Float[Tensor, "... d_model"],
    *,
    k: int,
    budget_bytes: int = BUDGET_BYTES,
) -> Int[Tensor, "... k"]:
    """The ids of the `k` tokens on top of the early decoding of each state, best first."""
    return decode(lens, states, {}, k=k, budget_bytes=budget_bytes).top


def _chunked(
    lens: Lens, states: Float[Tensor, "... d_model"], budget_bytes: int
) -> Iterator[tuple[int, Float[Tensor, "row vocabulary"]]]:
    """Logits of a few states at a time, with the number of the first.

    A row of the vocabulary is held four times: as the head gives it, in float32, masked, and as the
    result of a comparison or of top-k.
    """
    flat = states.reshape(-1, states.shape[-1])
    rows = max(1, budget_bytes // (4 * 4 * lens.vocab_size))
    for start in range(0, len(flat), rows):
        logits = lens(flat[start : start + rows])
        if bool(logits.isnan().any()):
            raise UserError(
                "a logit is not a number: the model overflows in this dtype, "
                "run it in bfloat16 or float32"
            )
        yield start, logits


def _joined(pieces: list[Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return (torch.cat(pieces) if pieces else torch.empty(0, dtype=dtype)).reshape(shape)


def token_texts(model: LanguageModel, token_ids: Int[Tensor, "... k"]) -> list:
    """The text of each token, nested as the ids are; leading spaces kept."""
    if token_ids.ndim > 1:
        return [token_texts(model, row) for row in token_ids]
    return [model.tokenizer.decode([int(token)]) for token in token_ids]
