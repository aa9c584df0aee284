"""Which items choose a setting, and which ones report it: never the same."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ovectors.encoding import EncodedPrompts

DEVELOPMENT_SHARE = 0.2


def is_development(relation: str, argument: str, *, seed: int = 0) -> bool:
    """Whether an item belongs to the development split: a seeded fifth, by hash.

    The same item is on the same side in every prompt form, on every model and machine.
    """
    text = f"{seed}|{relation}|{argument.strip()}"
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return number / 2**64 < DEVELOPMENT_SHARE


def split(encoded: EncodedPrompts, *, seed: int = 0) -> tuple[EncodedPrompts, EncodedPrompts]:
    """The prompts whose items choose (development) and those whose items report.

    With very few prompts one side could be empty: then the first goes to development and, if there
    are two, the last to the report. One prompt alone is on both sides, and no claim counts it.
    """
    chosen = [
        place
        for place, prompt in enumerate(encoded.prompts)
        if is_development(prompt.relation, prompt.item.argument + prompt.item.context, seed=seed)
    ]
    chosen = chosen or [0]
    rest = [place for place in range(len(encoded)) if place not in set(chosen)]
    if not rest:
        rest = [len(encoded) - 1]
        chosen = chosen[:-1] or chosen
    return encoded.select(chosen), encoded.select(rest)
