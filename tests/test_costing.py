"""What is counted on a small model, and what a larger one is foretold to take."""

from __future__ import annotations

import json

import pytest
import torch
from benchmarks import chapter_costs, counting, flops, idle
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop
from transformers import AutoModelForCausalLM, GPT2Config

import tiny_models
from ovectors import costing, notebooks
from ovectors.catalogue import catalogue
from ovectors.costing import Shape
from ovectors.errors import UserError
from ovectors.interventions import Replace
from ovectors.models import LanguageModel
from ovectors.stream import record
from ovectors.sweeps import sweep

LENGTH = 18  # more tokens than points: a sweep takes no more columns at a time than that
PROMPTS = [[*range(LENGTH - 2), number, 3] for number in range(31, 43)]
ENDS = {"bos_token_id": 0, "eos_token_id": 0}
WANTED = {"answer": torch.zeros(len(PROMPTS), dtype=torch.long)}


def random_model(*, layers: int, width: int, vocabulary: int = 320) -> LanguageModel:
    torch.manual_seed(0)
    config = GPT2Config(n_layer=layers, n_embd=width, n_head=4, vocab_size=vocabulary, **ENDS)
    model = AutoModelForCausalLM.from_config(config).eval()
    return LanguageModel.of(model, tiny_models.tiny_tokenizer(), name=f"random-{layers}-{width}")


def counted_sweep(model: LanguageModel) -> counting.Counts:
    """A vector in place of the FFNs, from every layer on, and what recording the stream takes."""
    points = [
        [Replace(torch.ones(model.d_model), layers=range(start, model.n_layers), positions="last")]
        for start in range(model.n_layers)
    ]
    with counting.counting(model) as counts:
        sweep(model, PROMPTS, points, wanted=WANTED)
        record(model, PROMPTS, parts=["before", "ffn"])
    return counts


def test_a_plain_pass_is_counted_as_by_hand():
    model = random_model(layers=3, width=32)
    sizes = flops.sizes_of(model)
    with counting.counting(model) as counts:
        record(model, PROMPTS, parts=["before", "ffn"])
    tokens = sum(map(len, PROMPTS))
    assert counts.blocks == 3 * tokens * (2 * 4 * 32**2 + flops.ffn(sizes))
    # PyTorch counts every pair of tokens, also those that the mask hides.
    assert counts.attention == 3 * len(PROMPTS) * LENGTH**2 * 2 * 2 * 32
    assert (counts.head, counts.other, counts.tokens) == (0, 0, LENGTH)
    assert counts.stream == 2 * 3 * len(PROMPTS)


def test_pytorchs_own_counter_finds_the_same():
    model = random_model(layers=3, width=32)

    def fused(queries: tuple, keys: tuple, values: tuple, *rest: object, **more: object) -> int:
        return sdpa_flop(queries, keys, values)

    more = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: fused}
    with FlopCounterMode(display=False, custom_mapping=more) as theirs:
        counts = counted_sweep(model)
    assert counts.all == theirs.get_total_flops() and counts.all > 0


def test_logits_and_other_products_are_told_apart():
    model = random_model(layers=3, width=32)
    with counting.counting(model) as counts:
        model.model.get_output_embeddings()(torch.ones(5, 32))
        torch.ones(4, 32) @ torch.ones(32, 7)
    assert counts.head == 2 * 5 * 32 * 320 and counts.other == 2 * 4 * 32 * 7
    assert counts.all == counts.head + counts.other
    before = counts.all
    torch.ones(4, 32) @ torch.ones(32, 7)
    assert counts.all == before  # nothing is counted any more


def told_of(models: dict[int, LanguageModel], width: int) -> dict:
    """The content of a file of counts, of one chapter that is one sweep."""
    found = {layers: vars(counted_sweep(model)) | {"items": 12} for layers, model in models.items()}
    by_layers = {str(layers): {"one": one, "all": one} for layers, one in found.items()}
    least = min(found)
    sizes = {"layers": least, "width": width, "vocabulary": 320}
    return {"sizes": sizes, "chapters": by_layers[str(least)], "by_layers": by_layers}


def test_a_larger_model_takes_what_was_foretold():
    """Counted at 3, 5 and 7 layers of width 32, foretold for 12 layers of 64 and counted there."""
    told = told_of({n: random_model(layers=n, width=32) for n in (3, 5, 7)}, 32)
    larger = counted_sweep(random_model(layers=12, width=64, vocabulary=500))
    (found, _) = costing.work(told, Shape(layers=12, width=64, vocabulary=500)).values()
    assert found.blocks == pytest.approx(larger.blocks, rel=1e-6)
    # Columns look at one another too, which is a third power: it is a small part of a small part.
    assert found.attention == pytest.approx(larger.attention, rel=0.03)
    assert found.head == pytest.approx(larger.head, rel=1e-6)
    assert found.stream == pytest.approx(larger.stream) and found.tokens == larger.tokens == LENGTH
    assert found.operations == pytest.approx(larger.all, rel=0.01)


def test_what_is_foretold_can_be_wrong():
    """Work that grows with the cube of the depth is no parabola, and the held-out depth says so."""
    counts = {n: {"blocks": n**3, "items": 1} for n in (3, 6, 9, 12)}
    told = {"sizes": {"layers": 3}, "by_layers": {str(n): {"one": c} for n, c in counts.items()}}
    foretold, found = costing.held_out(told, "one", ["blocks"])
    assert found == 12**3 and abs(foretold / found - 1) > 0.05
    squares = {str(n): {"one": {"blocks": n**2}} for n in (3, 6, 9, 12)}
    foretold, found = costing.held_out({**told, "by_layers": squares}, "one", ["blocks"])
    assert foretold == pytest.approx(found)


def test_one_depth_is_taken_to_be_proportional():
    told = {"sizes": {"layers": 12}, "by_layers": {"12": {"one": {"blocks": 5}}}}
    assert costing.growth(told, "one", "blocks", 48) == 4.0
    told["by_layers"]["24"] = {"one": {"blocks": 15}}
    assert costing.growth(told, "one", "blocks", 48) == pytest.approx(7.0)  # on a line
    assert costing.growth(told, "one", "blocks", 12) == 1.0


def test_the_shape_of_bloom_follows_from_its_parameters():
    spec = catalogue()["bloom"]
    shape = Shape.of(parameters=spec.parameters, layers=spec.layers, width=spec.d_model)
    assert shape.vocabulary == 250_880
    small = catalogue()["bloom-560m"]
    shape = Shape.of(parameters=small.parameters, layers=small.layers, width=small.d_model)
    assert shape.vocabulary == 250_880


def test_idle_blocks_change_no_answer(tmp_path):
    model = random_model(layers=2, width=32)
    deeper = AutoModelForCausalLM.from_pretrained(idle.stretched(model, 3, tmp_path / "deeper"))
    ids = torch.tensor(PROMPTS)
    assert len(deeper.transformer.h) == 6
    assert torch.equal(deeper(ids).logits, model.model(ids).logits)


def test_time_is_computing_and_reading_weights():
    gpu = costing.Accelerator(name="x", memory=1, operations=100, reading=10)
    work = costing.Work(passes=60, items=1, blocks=300, attention=60, head=40, stream=1, tokens=1)
    # 400 operations at 40 a second; 60 tokens in 2 layers are 30, in batches of 5: 6 x 20 bytes
    assert costing.seconds(work, gpu, weights=20, layers=2, batch=5) == pytest.approx(10 + 12)


def test_a_broken_file_of_counts_is_one_line(tmp_path):
    assert costing.counted(tmp_path) is None
    path = tmp_path / costing.COUNTED
    path.parent.mkdir()
    path.write_text(json.dumps({"sizes": {}}))
    with pytest.raises(UserError, match=r"chapter_costs.json is no result of .*: run it again"):
        costing.counted(tmp_path)


@pytest.mark.slow
def test_every_chapter_is_counted(untrained_folder, capsys):
    found = chapter_costs.count(str(untrained_folder), n_items=2).chapters()
    own = {chapter.name for chapter in notebooks.find_chapters() if not chapter.across}
    assert found.keys() == own | {"all"}
    assert all(one["blocks"] > 0 and one["items"] > 0 for one in found.values())
    assert found["all"]["blocks"] <= sum(found[name]["blocks"] for name in own)
