"""Fixtures that several test modules use."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from browser_fixtures import book, browser, opened  # noqa: F401

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ovectors.models import LanguageModel

# How long an example takes says how busy the machine is, and nothing of the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside the checkout, which users do not have."""
    if not SHARED.is_dir():
        pytest.skip("the reference material beside the checkout (../shared) is not here")
    return SHARED


@pytest.fixture(scope="session")
def gpt2_tokenizer(shared: Path) -> PreTrainedTokenizerBase:
    """GPT-2's real tokenizer, from the reference material."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(shared / "tokenizers" / "gpt2")


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Every tiny model on disk, not to be changed."""
    from tiny_models import CASES, save_tiny

    root = tmp_path_factory.mktemp("models")
    return {case: save_tiny(case, root / f"tiny-{case}") for case in CASES}


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A tiny GPT-2 of random weights, as a user would have it in a folder."""
    from tiny_models import save_tiny

    return save_tiny("gpt2", tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def mini() -> LanguageModel:
    """The embedded model in float64, so that no two ranks differ by rounding."""
    from ovectors.models import load_model

    return load_model("mini-2m", dtype="float64", device="cpu")


@pytest.fixture(scope="session")
def untrained_folder(tmp_path_factory) -> Path:
    """A miniature that has learned nothing: no item is answered correctly."""
    from ovectors.training.train import train

    return train("tiny", output=tmp_path_factory.mktemp("models") / "untrained", steps=1)


@pytest.fixture(scope="session")
def untrained(untrained_folder: Path) -> LanguageModel:
    """The same, loaded."""
    from ovectors.models import load_model

    return load_model(untrained_folder, device="cpu")


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    """Figures stay open until they are closed: no test leaves its own to the next."""
    yield
    if plot := sys.modules.get("matplotlib.pyplot"):
        plot.close("all")


@pytest.fixture(autouse=True)
def forget_the_catalogue() -> Iterator[None]:
    """It remembers where the project's models are, and some tests work in another project."""
    yield
    if module := sys.modules.get("ovectors.catalogue"):
        module.catalogue.cache_clear()


@pytest.fixture
def folder(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A tiny GPT-2 on disk that a test may break."""
    return Path(shutil.copytree(folders["gpt2"], tmp_path / "gpt2-copy"))
