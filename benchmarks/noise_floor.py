"""How far two right answers may be apart: fast and slow sweeps against float64, for every family.

    .venv/bin/python -m benchmarks.noise_floor

Writes `benchmarks/noise_floor.json`, which the book's page on numerical noise is made from. Models
are random (the embedded one apart) and of 6 layers x 192; weights are rounded to the dtype first,
and the float64 model has the very same weights. Differences are of logits after the last layer, in
roundings: units of the dtype's epsilon times the logits' root mean square.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from ovectors.encoding import encode_relation
from ovectors.interventions import Replace
from ovectors.models import LanguageModel, load_model
from ovectors.sweeps import SLOW, Outcome, sweep

OUTPUT = Path(__file__).with_name("noise_floor.json")
EMBEDDED = "mini-2m"
DTYPES = (torch.float32, torch.bfloat16)
N_LAYERS, WIDTH, HEADS, VOCABULARY = 6, 192, 6, 4096
N_PROMPTS, SHARED, SEED = 24, 12, 0

NAMES = {"gpt2": ("n_layer", "n_embd", "n_head"), "gptj": ("n_layer", "n_embd", "n_head")}
NAMES |= {"bloom": ("n_layer", "hidden_size", "n_head")}
COMMON = ("num_hidden_layers", "hidden_size", "num_attention_heads")
MORE = {
    "gptj": {"rotary_dim": 16},
    "gpt_neox": {"intermediate_size": 4 * WIDTH},
    "llama": {"intermediate_size": 3 * WIDTH, "num_key_value_heads": 2},
    "qwen2": {"intermediate_size": 3 * WIDTH, "num_key_value_heads": 2},
    "qwen3": {"intermediate_size": 3 * WIDTH, "num_key_value_heads": 2, "head_dim": 32},
}
FAMILIES = ("gpt2", "gptj", "bloom", "gpt_neox", "llama", "qwen2", "qwen3")


def random_model(family: str, dtype: torch.dtype) -> LanguageModel:
    """A model of a family's real configuration class with fresh seeded weights."""
    sizes = dict(zip(NAMES.get(family, COMMON), (N_LAYERS, WIDTH, HEADS), strict=True))
    config = AutoConfig.for_model(family, vocab_size=VOCABULARY, **sizes, **MORE.get(family, {}))
    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_config(config).eval().to(dtype)
    return LanguageModel.of(model, load_model(EMBEDDED).tokenizer, name=family)


def in_float64(model: LanguageModel) -> LanguageModel:
    """The same weights, computed with in float64."""
    exact = copy.deepcopy(model.model).double()
    return LanguageModel.of(exact, model.tokenizer, name=model.name)


def random_prompts(vocabulary: int) -> list[list[int]]:
    """Prompts of unlike lengths that start alike."""
    generator = torch.Generator().manual_seed(SEED)

    def drawn(count: int) -> list[int]:
        return torch.randint(vocabulary, (count,), generator=generator).tolist()

    start = drawn(SHARED)
    return [start + drawn(6 + number % 7) for number in range(N_PROMPTS)]


@contextmanager
def slowly() -> Iterator[None]:
    before = os.environ.get(SLOW)
    os.environ[SLOW] = "1"
    try:
        yield
    finally:
        os.environ.pop(SLOW) if before is None else os.environ.update({SLOW: before})


def measure(model: LanguageModel, prompts: Sequence[Sequence[int]], token: torch.Tensor) -> dict:
    """One row of the page's table."""
    generator = torch.Generator().manual_seed(SEED)
    vector = torch.randn(model.d_model, generator=generator)
    points = [[]] + [
        [Replace(vector, layers=range(start, model.n_layers), positions=positions)]
        for positions in ("last", "all")
        for start in range(model.n_layers)
    ]
    asked = {"wanted": {"wanted": token}, "layers": (-1,)}
    with slowly():
        exact = sweep(in_float64(model), prompts, points, **asked)
        slow = sweep(model, prompts, points, **asked)
    fast = sweep(model, prompts, points, **asked)
    size = float(np.sqrt(np.mean(exact.logits["wanted"] ** 2)))
    unit = torch.finfo(model.dtype).eps * size
    return {
        "model": model.name,
        "dtype": str(model.dtype).removeprefix("torch."),
        "layers": model.n_layers,
        "width": model.d_model,
        "answers": int(fast.top.size),
        "slow_from_exact": _apart(slow, exact) / unit,
        "fast_from_exact": _apart(fast, exact) / unit,
        "fast_from_slow": _apart(fast, slow) / unit,
        "ranks_that_differ": _share(fast.ranks["wanted"], slow.ranks["wanted"]),
        "ranks_slow_from_exact": _share(slow.ranks["wanted"], exact.ranks["wanted"]),
        "largest_change_of_reciprocal_rank": float(
            np.abs(1 / fast.ranks["wanted"] - 1 / slow.ranks["wanted"]).max()
        ),
        "top_tokens_that_differ": _share(fast.top, slow.top),
    }


def _apart(one: Outcome, other: Outcome) -> float:
    return float(np.abs(one.logits["wanted"] - other.logits["wanted"]).max())


def _share(one: np.ndarray, other: np.ndarray) -> float:
    return float((one != other).mean())


def main() -> None:
    """Measure every family in every dtype, and the embedded model on its own prompts."""
    rows = []
    for dtype in DTYPES:
        for family in FAMILIES:
            model = random_model(family, dtype)
            prompts = random_prompts(min(VOCABULARY, len(model.tokenizer)))
            rows.append(measure(model, prompts, torch.arange(len(prompts))))
            print(rows[-1], flush=True)
    model = load_model(EMBEDDED)
    encoded = encode_relation(model, "world_capitals", "one_shot")
    rows.append(measure(model, encoded.token_ids, encoded.answer_ids))
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    OUTPUT.write_text(json.dumps({"versions": versions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
