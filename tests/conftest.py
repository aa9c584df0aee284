"""Fixtures that several test modules use."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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


@pytest.fixture
def folder(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A tiny GPT-2 on disk that a test may break."""
    return Path(shutil.copytree(folders["gpt2"], tmp_path / "gpt2-copy"))
