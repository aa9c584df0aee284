"""The wiring of a family that nobody has written down: looked for in a pass through the model.

What is found is a guess that fits one pass to rounding; the self-check then has to accept it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ovectors.architectures import FAMILIES, Architecture, module_at
from ovectors.errors import UserError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Of one length, with one last token: what does not mix tokens adds the same to both in layer 0.
PROMPTS = ("Paris is in France, Rome is in", "Madrid and London and Berlin, in")


def found_in(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Architecture:
    """The wiring of `model`, in the terms of `Architecture`.

    Looked for are: the list of blocks, each of which reads what the one before gave; in every
    block, by the same names, the modules whose outputs are exactly what it adds (the first of them
    has to mix tokens), the module that reads the sum of the stream and the first, the last matrix
    of the FFN; and between the last block and the head one module, the final norm. UserError tells
    which of these is not there.
    """
    family = model.config.model_type

    def refuse(what: str) -> UserError:
        return UserError(
            f"architecture {family!r} is not among the known ones ({', '.join(FAMILIES)}), and its "
            f"wiring was looked for and not found: {what}, so it cannot be early decoded"
        )

    ids = [tokenizer(text)["input_ids"] for text in PROMPTS]
    ids = [one[-min(map(len, ids)) :] for one in ids]
    for one in ids:
        one[-1] = ids[0][-1]
    with _watched(model, len(ids)) as seen, torch.no_grad():
        model(torch.tensor(ids, device=model.device), use_cache=False)
    stacks = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and _chained(name, len(module), seen)
    ]
    if not stacks:
        raise refuse("no list of blocks, each reading what the one before gave")
    layers = stacks[0]
    count = len(module_at(model, layers))
    states = [seen[f"{layers}.{i}"] for i in range(count)]
    # Within a block, in the order in which modules begin: what stands around others comes first.
    inside = [
        {
            name.removeprefix(f"{layers}.{i}."): state
            for name, state in seen.items()
            if name.startswith(f"{layers}.{i}.")
        }
        for i in range(count)
    ]
    names = [name for name in inside[0] if all(name in one for one in inside)]
    multiplier = getattr(model.config, "residual_multiplier", None) or 1.0

    def added(i: int, name: str) -> Tensor | None:
        given = inside[i][name][1]
        return None if given is None else given * multiplier

    def holds(wanted: str, *terms: str) -> bool:
        """Whether in every block the stream and what these modules add make `wanted`: the state
        that leaves the block (""), or that a module reads."""
        for i, (before, after) in enumerate(states):
            parts = [before, *(added(i, name) for name in terms)]
            target = after if wanted == "" else inside[i][wanted][0]
            if any(part is None or part.shape != before.shape for part in (target, *parts)):
                return False
            gap = (sum(part.double() for part in parts) - target.double()).abs()
            eps = torch.finfo(target.dtype).eps
            if bool((gap > 2 * eps * sum(part.double().abs() for part in parts)).any()):
                return False
        return True

    def mixes(name: str) -> bool:
        return not torch.equal(*added(0, name)[:, -1])

    pairs = (
        (first, second)
        for first in names
        if added(0, first) is not None and mixes(first)
        for second in names
        if second != first and not second.startswith(f"{first}.") and holds("", first, second)
    )
    attention, ffn = next(pairs, ("", ""))
    if not ffn:
        raise refuse("no two modules of a block give exactly what it adds")
    mid = next((name for name in names if holds(name, attention)), None)
    if mid is None and mixes(ffn):
        raise refuse("no module reads the state between what attention and FFN add")
    # Its output is what the FFN's module gives or, where that is a norm, reads.
    projection = ""
    for name in names:
        weight = getattr(module_at(model, f"{layers}.0.{name}"), "weight", None)
        read, given = inside[0][ffn]
        through = given if f"{name}.".startswith(f"{ffn}.") else read
        own = inside[0][name][1]
        if weight is not None and weight.ndim == 2 and own is not None and through is not None:
            projection = name if torch.equal(own, through) else projection
    head = next(n for n, m in model.named_modules() if m is model.get_output_embeddings())
    norms = [
        name
        for name, (read, given) in seen.items()
        if not name.startswith(f"{layers}.") and name != layers
        if read is not None and given is not None and torch.equal(read, states[-1][1])
        if torch.equal(given, seen[head][0])
    ]
    if not norms:
        raise refuse("no one module stands between the last block and the head")
    settings = model.config
    return Architecture(
        family=family,
        layers=layers,
        ffn=ffn,
        attention=attention,
        projection=projection,
        mid=mid,
        final_norm=norms[0],
        head=head,
        multiplier=multiplier,
        logit_scale=getattr(settings, "logit_scale", None) or 1.0,
        logit_divisor=getattr(settings, "logits_scaling", None) or 1.0,
        softcap=getattr(settings, "final_logit_softcapping", None),
    )


@contextmanager
def _watched(
    model: PreTrainedModel, rows: int
) -> Iterator[Mapping[str, tuple[Tensor | None, Tensor | None]]]:
    """While open, a pass fills, for each module in the order in which it begins, the states that it
    reads first and gives, `[row, token, width]`; None for what is no such thing."""
    seen: dict[str, tuple[Tensor | None, Tensor | None]] = {}

    def states(value: object) -> Tensor | None:
        value = value[0] if isinstance(value, tuple | list) and value else value
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return None
        if value.ndim == 2 and value.shape[0] % rows == 0:
            value = value.unflatten(0, (rows, -1))
        return value if value.ndim == 3 and value.shape[0] == rows else None

    def begins(name: str):
        def hook(_module: nn.Module, args: tuple, kwargs: Mapping) -> None:
            read = states(args[0] if args else kwargs.get("hidden_states"))
            again = name in seen  # what is run twice in a pass is no one thing (Phi's dropout)
            seen[name] = (None if again else read, None)

        return hook

    def ends(name: str):
        def hook(_module: nn.Module, _args: tuple, output: object) -> None:
            given = states(output)
            # Some blocks add to what a module gave in place: keep it as it is now.
            read = seen[name][0]
            seen[name] = (read, None if read is None or given is None else given.clone())

        return hook

    handles = []
    try:
        for name, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(begins(name), with_kwargs=True))
            handles.append(module.register_forward_hook(ends(name)))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _chained(name: str, count: int, seen: Mapping[str, tuple]) -> bool:
    """Whether the modules of a list were run one after another, each on what the last one gave."""
    states = [seen.get(f"{name}.{i}", (None, None)) for i in range(count)]
    if any(read is None or given is None for read, given in states):
        return False
    return all(torch.equal(a[1], b[0]) for a, b in pairwise(states))
