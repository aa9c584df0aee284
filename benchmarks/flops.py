"""What the arithmetic alone must take: multiplications and additions of each way, counted.

Two operations for each weight that a token meets, as in `2 m n k` for a matrix product; attention
adds its scores and its weighted sum. Norms, activations and rank counts are left out: they are a
percent or two. So are embeddings, which are looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ovectors.models import LanguageModel

Prompts = Sequence[Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a count depends on. `ffn_matrices` is 3 where the FFN is gated, else 2."""

    layers: int
    width: int
    inner: int
    ffn_matrices: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int


def sizes_of(model: LanguageModel) -> Sizes:
    """The sizes of a model."""
    config = model.config
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    heads = config.num_attention_heads
    head_width = getattr(config, "head_dim", None) or model.d_model // heads
    return Sizes(
        layers=model.n_layers,
        width=model.d_model,
        inner=inner or 4 * model.d_model,
        ffn_matrices=3 if hasattr(config, "num_key_value_heads") else 2,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_width=head_width,
        vocabulary=model.vocab_size,
    )


def attention(sizes: Sizes, context: int) -> int:
    """One token through the attention of one layer, with `context` tokens to look at."""
    queries, keys = sizes.heads * sizes.head_width, sizes.kv_heads * sizes.head_width
    matrices = sizes.width * (2 * queries + 2 * keys)  # queries and output; keys and values
    return 2 * matrices + 2 * 2 * queries * context


def ffn(sizes: Sizes) -> int:
    """One token through one FFN."""
    return 2 * sizes.ffn_matrices * sizes.width * sizes.inner


def head(sizes: Sizes) -> int:
    """Logits of one state."""
    return 2 * sizes.width * sizes.vocabulary


def contexts(prompts: Prompts) -> list[int]:
    """For each token of each prompt, how many tokens it can look at, itself counted."""
    return [place + 1 for ids in prompts for place in range(len(ids))]


def distinct_contexts(prompts: Prompts) -> list[int]:
    """The same where what several prompts begin with is run once: one entry a distinct beginning.

    A token's state depends on the tokens before it alone, so this is the least there is to run.
    """
    seen = {tuple(ids[: place + 1]) for ids in prompts for place in range(len(ids))}
    return [len(beginning) for beginning in seen]


def plain_pass(sizes: Sizes, prompts: Prompts, *, share_prefix: bool = False) -> int:
    """Every token through every layer, and the head on each prompt's last."""
    tokens = distinct_contexts(prompts) if share_prefix else contexts(prompts)
    layers = sum(attention(sizes, context) + ffn(sizes) for context in tokens)
    return sizes.layers * layers + len(prompts) * head(sizes)


def hooked_sweep(sizes: Sizes, prompts: Prompts, *, starts: int) -> int:
    """One plain pass a start layer, whatever is replaced in it: what hooks cost."""
    return starts * plain_pass(sizes, prompts)


def last_position_sweep(
    sizes: Sizes, prompts: Prompts, *, starts: Sequence[int], share_prefix: bool
) -> int:
    """Every prompt once, then its last token again from each start layer on.

    At the start layer attention is still the clean run's; in the layers above only attention is
    left to compute, as what their FFNs add is given. The head reads each run's last state.
    """
    tokens = distinct_contexts(prompts) if share_prefix else contexts(prompts)
    clean = sizes.layers * sum(attention(sizes, context) + ffn(sizes) for context in tokens)
    above = sum(sizes.layers - 1 - start for start in starts)
    again = above * sum(attention(sizes, len(ids)) for ids in prompts)
    return clean + again + len(starts) * len(prompts) * head(sizes)


def all_position_sweep(
    sizes: Sizes, prompts: Prompts, *, starts: Sequence[int], given_ffn: bool = True
) -> int:
    """Every prompt once, then all of its tokens again from each start layer on.

    With `given_ffn` the replaced FFNs are not computed, as nothing reads them; without, they are,
    as a forward pass through the model's own blocks does.
    """
    once = sum(attention(sizes, context) for context in contexts(prompts))
    tokens = len(contexts(prompts))
    clean = sizes.layers * (once + tokens * ffn(sizes))
    above = sum(sizes.layers - 1 - start for start in starts)
    again = above * (once + (0 if given_ffn else tokens * ffn(sizes)))
    return clean + again + len(starts) * len(prompts) * head(sizes)


def stages(sizes: Sizes, prompts: Prompts) -> int:
    """A plain pass, and the head on each prompt's last token after every layer."""
    return plain_pass(sizes, prompts) + (sizes.layers - 1) * len(prompts) * head(sizes)
