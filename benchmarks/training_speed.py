"""Tokens per second of a training step, per recipe, dtype and threads: JSON and a Markdown table.

    .venv/bin/python benchmarks/training_speed.py mini-2m --threads 1 2

Each figure is the median of single steps after a warm-up, data generation included, with its range.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from itertools import product

import numpy as np
import torch

from ovectors.training import train as loop
from ovectors.training.corpus import Corpus
from ovectors.training.documents import Documents
from ovectors.training.lexicon import Lexicon
from ovectors.training.recipe import load_recipe
from ovectors.training.tokenizer import build_tokenizer

WARM_UP = 5


def step_seconds(name: str, *, dtype: str, threads: int, steps: int) -> list[float]:
    """Seconds of each of `steps` training steps, batches included."""
    torch.set_num_threads(threads)
    recipe, lexicon = load_recipe(name), Lexicon()
    tokenizer, documents = build_tokenizer(lexicon), Documents(lexicon)
    corpus = Corpus(documents, tokenizer, seed=0, rows=recipe.rows, length=recipe.length)
    model = loop.new_model(recipe, tokenizer, dtype=dtype).train()
    optimizer = loop.new_optimizer(model, recipe)
    taken = []
    for step in range(WARM_UP + steps):
        began = time.perf_counter()
        loop._step(model, optimizer, recipe, corpus.batch(step), step, dtype=dtype)
        taken.append(time.perf_counter() - began)
    return taken[WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["mini-2m"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--steps", type=int, default=20)
    chosen = parser.parse_args()
    rows = []
    for name, dtype, threads in product(chosen.names, chosen.dtypes, chosen.threads):
        recipe = load_recipe(name)
        taken = step_seconds(name, dtype=dtype, threads=threads, steps=chosen.steps)
        speed = recipe.rows * recipe.length / np.array(taken)
        row = {"recipe": name, "dtype": dtype, "threads": threads, "steps": chosen.steps}
        row |= {"median": float(np.median(speed)), "min": speed.min(), "max": speed.max()}
        rows.append({key: round(v) if isinstance(v, float) else v for key, v in row.items()})
    machine = {"machine": platform.machine(), "torch": torch.__version__}
    print(json.dumps({**machine, "tokens_per_second": rows}, indent=1, default=float))
    print("\n| recipe | dtype | threads | tokens per second, median (range) |\n|---|---|---|---|")
    for row in rows:
        shown = f"{row['median']:,.0f} ({row['min']:,.0f} to {row['max']:,.0f})"
        print(f"| {row['recipe']} | {row['dtype']} | {row['threads']} | {shown} |")


if __name__ == "__main__":
    main()
