"""Forward passes over many prompts: right-padded batches of like lengths under a memory budget."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ovectors.budget import budget_bytes
from ovectors.errors import UserError

if TYPE_CHECKING:
    from torch import nn
    from transformers import Cache

    from ovectors.models import LanguageModel

# What one pass may take on top of the weights, unless a caller says otherwise.
BUDGET_BYTES = budget_bytes()


class Encoded(Protocol):
    """Anything that has token ids: `encoding.EncodedPrompts` does."""

    token_ids: Sequence[Sequence[int]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Some of the prompts, padded on the right to one length.

    Attributes:
        rows: which prompts these are, in the order of the caller's prompts.
        token_ids: their tokens; padding is token 0.
        mask: true where there is a token.
    """

    rows: Int[Tensor, " row"]
    token_ids: Int[Tensor, "row token"]
    mask: Bool[Tensor, "row token"]

    @property
    def lengths(self) -> Int[Tensor, " row"]:
        """How many tokens each prompt has, padding not counted."""
        return self.mask.sum(dim=1)

    @property
    def last(self) -> Int[Tensor, " row"]:
        """The position of each prompt's last token."""
        return self.lengths - 1


def token_rows(model: LanguageModel, encoded: Encoded | Sequence[Sequence[int]]) -> list[list[int]]:
    """The token ids of every prompt, checked against what the model can take."""
    rows = [list(ids) for ids in getattr(encoded, "token_ids", encoded)]
    if not rows:
        raise UserError("there are no prompts to run")
    for number, ids in enumerate(rows):
        if not ids:
            raise UserError(f"prompt {number} has no tokens")
        if model.max_length is not None and len(ids) > model.max_length:
            raise UserError(
                f"prompt {number} has {len(ids)} tokens, {model.name} takes {model.max_length}"
            )
        if min(ids) < 0 or max(ids) >= model.vocab_size:
            raise UserError(
                f"prompt {number} holds token {max(ids)}, {model.name} has {model.vocab_size}: "
                "was it encoded with another model's tokenizer?"
            )
    return rows


def batches(
    model: LanguageModel,
    encoded: Encoded | Sequence[Sequence[int]],
    *,
    budget_bytes: int = BUDGET_BYTES,
    bytes_each: Callable[[int], int] | None = None,
) -> list[Batch]:
    """Group the prompts into batches of like length, each within the budget if one prompt is.

    Prompts are sorted by length, so that little is spent on padding; `Batch.rows` says where each
    came from. Padding is on the right: on the left it would shift GPT-2's absolute positions.
    `bytes_each` gives what a prompt of some length takes where that is not just a pass.
    """
    tokens = token_rows(model, encoded)
    taken = bytes_each or (lambda length: bytes_per_prompt(model, length))
    order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
    groups: list[list[int]] = []
    for row in order:
        longest = len(tokens[row])  # of the group, as lengths only grow
        group = groups[-1] if groups else []
        fits = (len(group) + 1) * taken(longest) <= budget_bytes
        alike = bool(group) and longest - len(tokens[group[0]]) <= max(4, longest // 4)
        if fits and alike:
            group.append(row)
        else:
            groups.append([row])
    return [_padded(tokens, group) for group in groups]


def _padded(tokens: list[list[int]], rows: list[int]) -> Batch:
    width = max(len(tokens[row]) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(tokens[row])] = torch.tensor(tokens[row])
        mask[i, : len(tokens[row])] = True
    return Batch(rows=torch.tensor(rows), token_ids=ids, mask=mask)


def bytes_per_prompt(model: LanguageModel, length: int) -> int:
    """An upper estimate of what one prompt of `length` tokens takes in a pass without the head.

    One block lives at a time: ten vectors of the stream's width (residual, norms, queries, keys,
    values, rotations, attention's and the FFN's outputs), six of the FFN's inner width (activations
    written out as formulas hold that many), and the attention scores, which some families hold in
    float32 beside the model's own dtype. A test measures each family against it.
    """
    return length * bytes_per_token(model, length)


def bytes_per_token(model: LanguageModel, keys: int) -> int:
    """The same for one token that attends to so many keys."""
    config, item = model.config, model.dtype.itemsize
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    width = 10 * model.d_model + 6 * (inner or 4 * model.d_model)
    return width * item + config.num_attention_heads * keys * (item + 4)


def model_inputs(
    module: nn.Module,
    batch: Batch,
    device: torch.device,
    *,
    cache: Cache | None = None,
) -> dict[str, object]:
    """The keyword arguments of a pass over `batch`, as far as `module` takes them.

    With a `cache`, the batch goes on where its tokens end, the same for all rows. There is no mask
    of padding: it stands on the right, where no token before it looks.
    """
    past = 0 if cache is None else cache.get_seq_length()
    positions = past + torch.arange(batch.token_ids.shape[1]).expand_as(batch.token_ids)
    inputs = {
        "input_ids": batch.token_ids.to(device),
        "position_ids": positions.to(device),  # BLOOM has none: it biases attention by distance
    }
    taken = inspect.signature(type(module).forward).parameters
    inputs = {name: value for name, value in inputs.items() if name in taken}
    if cache is not None:
        inputs["past_key_values"] = cache
    return inputs | {"use_cache": cache is not None}


@torch.no_grad()
def run_base(model: LanguageModel, batch: Batch, *, cache: Cache | None = None) -> None:
    """One pass through the blocks, without the head, for what hooks see on the way."""
    refuse_training(model)
    base = model.model.base_model
    base(**model_inputs(base, batch, model.device, cache=cache))


@torch.no_grad()
def full_logits(model: LanguageModel, batch: Batch) -> Tensor:
    """The model's own logits at every token, `[row, token, vocabulary]`, as it gives them."""
    refuse_training(model)
    return model.model(**model_inputs(model.model, batch, model.device)).logits


def refuse_training(model: LanguageModel) -> None:
    """Dropout would make every pass another: say so instead of measuring noise."""
    if model.model.training:
        raise ValueError(f"{model.name} is in training mode: call eval() on it before measuring")


def execution_device(module: nn.Module) -> torch.device:
    """Where `module` computes: at its weights, or where accelerate brings them for the call."""
    hook = getattr(module, "_hf_hook", None)
    for one in getattr(hook, "hooks", [hook]):
        if (device := getattr(one, "execution_device", None)) is not None:
            return torch.device(device)
    for weights in module.parameters():
        return weights.device
    return torch.device("cpu")


def progress_bar(steps: Iterable, *, title: str, shown: bool) -> Iterable:
    """`steps` with a progress bar on standard error or in the notebook; plain if not `shown`."""
    if not shown:
        return steps
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where notebook widgets are missing: text will do
        from tqdm.auto import tqdm
    return tqdm(steps, desc=title, leave=False)
