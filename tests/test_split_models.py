"""Models split over main memory and disk give the numbers of those that are not."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from benchmarks.in_process import run_chapter
from transformers import AutoModelForCausalLM, BloomConfig, GPTJConfig

from ovectors import models, notebooks, results
from ovectors.interventions import Replace
from ovectors.models import LanguageModel, load_model
from ovectors.stream import record
from ovectors.sweeps import sweep

LAYERS, WIDTH = 4, 32
CASES = ("bloom", "gptj")
CHAPTERS = {chapter.number: chapter for chapter in notebooks.find_chapters()}


@pytest.fixture(scope="module", params=CASES)
def folder(request, tmp_path_factory) -> Path:
    """A random model with a real tokenizer, so that chapters have something to ask it."""
    tokenizer = load_model("mini-2m").tokenizer
    shape = {"vocab_size": len(tokenizer), "n_layer": LAYERS, "n_head": 4}
    shape |= {"bos_token_id": 0, "eos_token_id": 0}
    configs = {
        "bloom": lambda: BloomConfig(**shape, hidden_size=WIDTH),
        "gptj": lambda: GPTJConfig(**shape, n_embd=WIDTH, rotary_dim=4, n_positions=256),
    }
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(configs[request.param]())
    place = tmp_path_factory.mktemp("models") / f"random-{request.param}"
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.fixture
def split(folder, monkeypatch):
    """Opens the model as `device="auto"` does where the fast memory holds two of its blocks."""
    whole = load_model(folder, device="cpu").model
    blocks = whole.transformer.h
    block = sum(weights.numel() * 4 for weights in blocks[0].parameters())
    rest = sum(weights.numel() * 4 for weights in whole.parameters()) - len(blocks) * block
    monkeypatch.setattr(
        "transformers.integrations.accelerate.get_max_memory",
        lambda most=None: {"cpu": rest + int(3.5 * block)},
    )
    monkeypatch.setattr(models, "_placement", lambda device: "auto")

    def opened(*args: object, **given: object) -> LanguageModel:
        model = load_model(*args, **given)
        placed = [str(device) for device in model.model.hf_device_map.values()]
        assert {"cpu", "disk"} <= set(placed), placed
        assert any(weights.is_meta for weights in model.layers[-1].parameters())
        return model

    return opened


def test_loading_and_recording(folder, split):
    whole = AutoModelForCausalLM.from_pretrained(folder).eval()
    prompts = [[5, 17, 99, 3], [7, 7, 12], [42]]
    found = record(split(folder), prompts, parts=["before", "attention", "ffn", "after"])
    with torch.no_grad():
        for row, ids in enumerate(prompts):
            states = whole(torch.tensor([ids]), output_hidden_states=True).hidden_states
            for layer in range(LAYERS):
                expected = states[layer][0, -1]
                assert torch.allclose(found["before"][layer, row], expected, atol=1e-5)


@pytest.mark.parametrize("positions", ["last", "all"])
def test_a_sweep(folder, split, positions, monkeypatch):
    """The same numbers, and they are not those of the model left alone."""
    prompts = [[*range(20, 30), number, 3] for number in range(40, 52)]
    points = [
        [Replace(torch.full((WIDTH,), 3.0), layers=range(start, LAYERS), positions=positions)]
        for start in range(LAYERS)
    ]
    asked = {"wanted": {"x": torch.arange(12)}, "layers": None}
    there = split(folder)
    found = sweep(there, prompts, points, **asked)
    monkeypatch.undo()
    here = load_model(folder, device="cpu")
    expected = sweep(here, prompts, points, **asked)
    assert (found.logits["x"] == expected.logits["x"]).all() and (found.top == expected.top).all()
    clean = sweep(here, prompts, [[]], **asked)
    assert (clean.logits["x"][0, -1] != expected.logits["x"][:, -1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 5])
def test_a_whole_chapter(folder, split, number, tmp_path, monkeypatch):
    """Every table that the chapter saves is the same, to the last digit."""
    given = {"model": str(folder), "n_items": 8, "device": "cpu"}
    there = run_chapter(CHAPTERS[number], given, tmp_path / "split")
    placed = results.read_manifest(there).provenance["model"]["device_map"]
    assert {"cpu", "disk"} <= set(placed.values())
    monkeypatch.undo()
    here = run_chapter(CHAPTERS[number], given, tmp_path / "whole")
    tables = [path.name for path in sorted(here.glob("*.parquet"))]
    assert tables and results.read_manifest(there).chapter == CHAPTERS[number].name
    for name in tables:
        pd.testing.assert_frame_equal(
            pd.read_parquet(there / name), pd.read_parquet(here / name), check_exact=True
        )
