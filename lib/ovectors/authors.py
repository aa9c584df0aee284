"""The authors' six o vectors: fetched when a user asks, checked by hash, never part of the project.

They belong to GPT-2 medium and GPT-J and lie in the authors' public repository (MIT licence,
copyright 2023 Jack Merullo). Without them everything else works.
"""

from __future__ import annotations

import hashlib
import io
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ovectors.errors import UserError
from ovectors.results import atomic_path

REPOSITORY = "jmerullo/lm_vector_arithmetic"
COMMIT = "5fe8f2894eb7bbc77252b2f9123dc3fdd13dcc67"
FOLDER_VARIABLE = "OVECTORS_AUTHORS"
TIMEOUT = 20  # seconds


@dataclass(frozen=True, kw_only=True)
class AuthorsVector:
    """One published o vector.

    Attributes:
        model: the catalogue's name of its model.
        relation: the relation that it applies.
        layer: whose FFN added it.
        vectors_from, example: the relation and the argument of the prompt it comes from.
        path: the file in the authors' repository.
        sha256: what the file must hash to.
    """

    model: str
    relation: str
    layer: int
    vectors_from: str
    example: str
    path: str
    sha256: str

    @property
    def url(self) -> str:
        """Where the file is fetched from: a fixed commit, so that it cannot change."""
        return f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}/{self.path}"

    @property
    def file(self) -> str:
        """The file's name where it is kept."""
        return f"{self.model}-{self.path.rpartition('/')[2]}"


def _vector(model: str, relation: str, layer: int, path: str, sha256: str) -> AuthorsVector:
    prompts = {
        "world_capitals": ("world_capitals", "Poland"),
        "past_tense": ("past_tense", "abolish"),
        "uppercase": ("colored_objects", "brown"),
    }
    vectors_from, example = prompts[relation]
    return AuthorsVector(
        model=model,
        relation=relation,
        layer=layer,
        vectors_from=vectors_from,
        example=example,
        path=f"ovectors/{path}.npy",
        sha256=sha256,
    )


VECTORS = (
    _vector(
        "gpt2-medium",
        "world_capitals",
        19,
        "gpt2-medium/city_capital_o19_gpt2-medium",
        "92955b0a537182c617840d4039060c606644b2552be0d050641afd346bce0e01",
    ),
    _vector(
        "gpt2-medium",
        "past_tense",
        18,
        "gpt2-medium/regular_past_o18_gpt2-medium",
        "8e3101bf8d0c2940a797a70fc24f8db8b109d1671b84e6d1fb1d8d399d026eec",
    ),
    _vector(
        "gpt2-medium",
        "uppercase",
        19,
        "gpt2-medium/uppercase_o19_gpt2-medium",
        "9b81752e68f19ffc1aef4a998a4dcf30fb7f35bee1ad3a1421b1403a60952ae6",
    ),
    _vector(
        "gpt-j-6b",
        "world_capitals",
        13,
        "gptj/city_capital_o13_gptj",
        "61972117c1b3d543e0a082c3e6bcc1e014ce42433cc025562d6e171b51bb6782",
    ),
    _vector(
        "gpt-j-6b",
        "past_tense",
        19,
        "gptj/regular_past_o19_gptj",
        "cdc9399a6f6e6c93b1829292bada28837c2a2ea7385e3cb2e8b33ff55c0a7d93",
    ),
    _vector(
        "gpt-j-6b",
        "uppercase",
        25,
        "gptj/uppercase_o25_gptj",
        "d02b25a737cce4ff1cf3e843a9179f1cd40ac3bf8b32f6ad92ecadc9e6e88a11",
    ),
)


def folder() -> Path:
    """Where the files are kept: the folder that OVECTORS_AUTHORS names, else the user's cache."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named)
    return Path.home() / ".cache" / "ovectors" / "authors"


def known(model: str) -> tuple[AuthorsVector, ...]:
    """The published vectors of one model; none for most models."""
    return tuple(one for one in VECTORS if one.model == model)


def present(model: str) -> tuple[AuthorsVector, ...]:
    """Those of a model whose files are here and whole. Nothing is fetched."""
    return tuple(one for one in known(model) if _content(one) is not None)


def _content(one: AuthorsVector) -> bytes | None:
    try:
        content = (folder() / one.file).read_bytes()
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest() == one.sha256 else None


def missing(model: str) -> str:
    """Why the vectors cannot be shown beside ours, in one sentence; "" where all are here."""
    if not known(model):
        names = " and ".join(sorted({one.model for one in VECTORS}))
        return f"The authors published o vectors for {names}, none for {model}."
    if len(present(model)) < len(known(model)):
        return (
            f"The authors' o vectors for {model} are not on this computer: "
            f'`python -c "from ovectors import authors; authors.download({model!r})"` fetches them.'
        )
    return ""


def load(one: AuthorsVector) -> Float[Tensor, " d_model"]:
    """A vector that has been downloaded, in float32. UserError where it is not here or changed."""
    content = _content(one)
    if content is None:
        raise UserError(
            f"{folder() / one.file} is not here or not what the authors published; "
            f"authors.download({one.model!r}) fetches it"
        )
    values = np.load(io.BytesIO(content), allow_pickle=False)
    return torch.from_numpy(values.reshape(-1).astype(np.float32))


def fetch(url: str) -> bytes:
    """The content behind a URL; UserError where it cannot be had."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            return answer.read()
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        raise UserError(f"{url} cannot be fetched ({error}); is there a network?") from None


def download(model: str, *, get: Callable[[str], bytes] = fetch) -> list[Path]:
    """Fetch the authors' vectors of a model, as far as they are not here; returns all their paths.

    A file counts, and is kept, only with the hash that is written down here. UserError for a model
    that they published none for, for a network that fails, and for a file with another hash.
    """
    if not known(model):
        raise UserError(missing(model))
    paths = []
    for one in known(model):
        path = folder() / one.file
        if _content(one) is None:
            content = get(one.url)
            found = hashlib.sha256(content).hexdigest()
            if found != one.sha256:
                raise UserError(
                    f"{one.url} has the hash {found[:12]}..., not {one.sha256[:12]}...: not kept"
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
        paths.append(path)
    return paths
