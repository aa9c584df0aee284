"""Tokens as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

if TYPE_CHECKING:
    from ovectors.models import LanguageModel


def token_words(model: LanguageModel, tokens: Int[np.ndarray, "*shape"]) -> np.ndarray:
    """The text of each token, in an array of the same shape."""
    different, places = np.unique(tokens, return_inverse=True)
    words = [model.tokenizer.decode([token]) for token in different.tolist()]
    return np.array(words, dtype=object)[places].reshape(np.shape(tokens))
