"""An endless training corpus, generated on the fly; batch n depends on the seed and on n only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ovectors.training.documents import Documents, Spans, mixture

BACKGROUND_SHARE = 0.1  # of the tokens that cannot be known, this share enters the loss


def sample_texts(documents: Documents, *, n_documents: int, seed: int) -> Iterator[str]:
    """Plain texts of documents, drawn as in training."""
    rng = Random(f"texts-{seed}")
    kinds, weights = mixture(documents)
    for kind in rng.choices(kinds, weights, k=n_documents):
        yield "".join(text for text, _ in kind(rng))


@dataclass(frozen=True)
class Batch:
    """Token ids and the positions whose *next* token enters the loss."""

    ids: Int[Tensor, "row position"]
    predict: Bool[Tensor, "row position"]


@dataclass
class Corpus:
    """Rows of documents, packed whole and cut at the end of the row.

    `batch(n)` is a pure function of (seed, n): a run that is killed and resumed sees what an
    uninterrupted one would have seen. The first `context_steps` batches hold only documents whose
    answers stand in the context.
    """

    documents: Documents
    tokenizer: PreTrainedTokenizerFast
    seed: int
    rows: int
    length: int
    context_steps: int = 0
    _ids: dict[str, list[int]] = field(default_factory=dict)

    def batch(self, index: int) -> Batch:
        """Batch number `index`: documents drawn, encoded, packed, and what enters the loss."""
        rng = Random(f"{self.seed}-{index}")
        kinds, weights = mixture(self.documents, context_only=index < self.context_steps)
        ids = np.zeros((self.rows, self.length + 1), dtype=np.int64)
        known = np.zeros((self.rows, self.length + 1), dtype=bool)
        for row in range(self.rows):
            filled = 0
            while filled <= self.length:
                kind = rng.choices(kinds, weights)[0]
                tokens, flags = self._encode(kind(rng))
                take = min(len(tokens), self.length + 1 - filled)
                ids[row, filled : filled + take] = tokens[:take]
                known[row, filled : filled + take] = flags[:take]
                filled += take
        background = np.random.default_rng([self.seed, index]).random(known.shape)
        wanted = known | (background < BACKGROUND_SHARE)
        return Batch(ids=torch.from_numpy(ids), predict=torch.from_numpy(wanted[:, 1:]))

    def _encode(self, spans: Spans) -> tuple[list[int], list[bool]]:
        tokens: list[int] = []
        flags: list[bool] = []
        for text, is_known in spans:
            ids = self._span_ids(text)
            tokens += ids
            flags += [is_known] * len(ids)
        return [*tokens, self.tokenizer.eos_token_id], [*flags, True]

    def _span_ids(self, text: str) -> list[int]:
        """Spans meet at word boundaries, so encoding them apart equals encoding the whole."""
        if text not in self._ids:
            if len(self._ids) > 100_000:
                self._ids.clear()
            self._ids[text] = self.tokenizer.encode(text, add_special_tokens=False)
        return self._ids[text]
