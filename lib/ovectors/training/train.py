"""The training loop: seeded, resumable after a kill at any moment, with a kept loss curve."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn
from tqdm.auto import tqdm
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from ovectors import paths
from ovectors.errors import UserError
from ovectors.results import environment, sha256_of, write_json
from ovectors.tables import DATA
from ovectors.training.corpus import Batch, Corpus
from ovectors.training.documents import Documents
from ovectors.training.held_out import HeldOut
from ovectors.training.lexicon import Lexicon
from ovectors.training.optimizer import Optimizer, new_optimizer
from ovectors.training.recipe import Recipe, load_recipe
from ovectors.training.tokenizer import build_tokenizer

WAVE_HEIGHT = 0.1
CHECKPOINT = "checkpoint.pt"
RECORD = "training.json"
LOG = "training_log.csv"
LOG_FIELDS = (
    "step",
    "tokens",
    "loss",
    "held_out_accuracy",  # at checkpoints only
    "learning_rate",
    "tokens_per_second",
    "seconds",
)


def new_model(
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerFast,
    *,
    device: str = "cpu",
    dtype: str = "float32",
) -> GPT2LMHeadModel:
    """A freshly initialised GPT-2 of the recipe's shape, seeded; its positions start as waves.

    Its weights are in float32 whatever the `dtype` that they are trained in.
    """
    torch.manual_seed(recipe.seed)
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=recipe.n_positions,
        n_embd=recipe.n_embd,
        n_layer=recipe.n_layer,
        n_head=recipe.n_head,
        activation_function="gelu_pytorch_tanh",  # the same function as gelu_new, fused
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        initializer_range=recipe.initializer_range,
        bos_token_id=end,
        eos_token_id=end,
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        positions = _waves(recipe.n_positions, recipe.n_embd)
        model.transformer.wpe.weight.copy_(WAVE_HEIGHT * positions)
    if (device, dtype) == ("cpu", "bfloat16"):
        # There PyTorch's fused attention goes backwards four times as slowly as plain products.
        model.set_attn_implementation("eager")
    return model.to(device)


def _waves(length: int, width: int) -> Float[torch.Tensor, "position d_model"]:
    """Sines and cosines of falling frequency, one position a row.

    With them "one token back" is the same rotation everywhere, which heads that copy and bind need
    first; random rows would have to be learned pair by pair. They go on to be trained.
    """
    angles = torch.arange(length)[:, None] * 500.0 ** (-torch.arange(0, width, 2) / width)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(length, width)


def loss_on(model: GPT2LMHeadModel, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy; the head runs only on positions whose next token enters the loss."""
    hidden = model.transformer(input_ids=batch.ids[:, :-1], use_cache=False).last_hidden_state
    logits = model.lm_head(hidden[batch.predict])
    return F.cross_entropy(logits.float(), batch.ids[:, 1:][batch.predict])


def train(
    name: str,
    *,
    output: Path | None = None,
    resume: bool = True,
    device: str = "auto",
    dtype: str = "float32",
    steps: int | None = None,
) -> Path:
    """Train the recipe called `name` to its end, or on from the last checkpoint in `output`.

    `output` defaults to `models/<name>`. `device` "auto" takes a GPU where there is one; `dtype`
    "bfloat16" trains under autocast; `steps` overrides the recipe's. Returns the folder, which then
    holds config, tokenizer, float16 safetensors, the log and the training record. The same seed,
    device, dtype and number of threads give the same weights, interrupted or not.

    Errors: UserError for an unknown recipe, device or dtype, a folder that cannot be written or
    holds a finished model, or a checkpoint made with other settings or data.
    """
    recipe = load_recipe(name, steps=steps)
    device = _device(device)
    if dtype not in ("float32", "bfloat16"):
        raise UserError(f"training runs in float32 or bfloat16, not {dtype!r}: choose one of them")
    folder = paths.MODELS / name if output is None else output
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror
        raise UserError(f"{folder} cannot be made ({reason}): give another --output") from None
    if not resume:
        (folder / CHECKPOINT).unlink(missing_ok=True)
    elif (folder / "model.safetensors").exists() and not (folder / CHECKPOINT).exists():
        raise UserError(
            f"{folder} holds a finished model: give another --output, or --no-resume to replace it"
        )
    _run(recipe, folder, device=device, dtype=dtype)
    return folder


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError("there is no CUDA device on this machine: use --device cpu")
    if name.split(":")[0] not in ("cpu", "cuda"):
        raise UserError(f"training runs on cpu or cuda, not {name!r}: choose one of them")
    return name


def _run(recipe: Recipe, folder: Path, *, device: str, dtype: str) -> None:
    tokenizer = build_tokenizer(Lexicon())
    model = new_model(recipe, tokenizer, device=device, dtype=dtype)
    optimizer = new_optimizer(model, recipe)
    start, seconds = _resume(folder, recipe, model, optimizer)
    corpus = _corpus(recipe, tokenizer)
    per_step = recipe.rows * recipe.length
    bar = tqdm(total=recipe.steps * per_step, initial=start * per_step, unit="tok", unit_scale=True)
    model.train()
    held_out, glance = HeldOut(tokenizer), "not yet"
    pending: list[dict[str, float]] = []
    for step in range(start, recipe.steps):
        began = time.perf_counter()
        loss = _step(model, optimizer, recipe, corpus.batch(step), step, dtype=dtype)
        elapsed = time.perf_counter() - began
        seconds += elapsed
        pending.append(_row(step, per_step, loss, recipe, elapsed, seconds))
        bar.update(per_step)
        if (step + 1) % recipe.checkpoint_every == 0:
            accuracy = pending[-1]["held_out_accuracy"] = held_out.accuracy(model)
            glance = f"{accuracy:.2f}"
            _append_log(folder, pending)
            _save_checkpoint(folder, recipe, model, optimizer, step + 1, seconds)
            pending = []
        bar.set_postfix(loss=f"{loss:.3f}", held_out=glance)
    bar.close()
    _append_log(folder, pending)
    save_model(model, tokenizer, folder)
    record = training_record(recipe, model, seconds=seconds, device=device, dtype=dtype)
    write_json(folder / RECORD, record)


def _corpus(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Corpus:
    return Corpus(
        Documents(Lexicon()),
        tokenizer,
        seed=recipe.seed,
        rows=recipe.rows,
        length=recipe.length,
        context_steps=recipe.context_steps,
    )


def save_model(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write config, tokenizer and float16 safetensors; what was trained stays as it is."""
    state = {name: tensor.detach().half().cpu() for name, tensor in model.state_dict().items()}
    half = GPT2LMHeadModel(model.config).half()
    half.load_state_dict(state)
    half.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def data_hashes() -> dict[str, str]:
    """SHA-256 of every data file that the corpus is made from."""
    files = sorted(path for path in DATA.rglob("*") if path.suffix in (".csv", ".toml"))
    return {path.relative_to(DATA).as_posix(): sha256_of(path) for path in files}


def training_record(
    recipe: Recipe, model: GPT2LMHeadModel, *, seconds: float, device: str, dtype: str
) -> dict[str, Any]:
    """What a model card has to tell: settings, budget, machine, and the data by their hashes."""
    return {
        "recipe": asdict(recipe),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary": model.config.vocab_size,
        "tokens": recipe.steps * recipe.rows * recipe.length,
        "minutes": round(seconds / 60, 1),
        "device": device,
        "dtype": dtype,
        "threads": torch.get_num_threads(),
        "data": data_hashes(),
        "environment": environment(),
    }


def _step(
    model: GPT2LMHeadModel,
    optimizer: Optimizer,
    recipe: Recipe,
    batch: Batch,
    step: int,
    *,
    dtype: str,
) -> float:
    device = next(model.parameters()).device
    batch = Batch(ids=batch.ids.to(device), predict=batch.predict.to(device))
    optimizer.set_share(recipe.share(step))
    with _some_layers(model, recipe, step):
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = loss_on(model, batch)
        loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


@contextmanager
def _some_layers(model: GPT2LMHeadModel, recipe: Recipe, step: int) -> Iterator[None]:
    """Stochastic depth: for one step, leave out each layer but the first with `recipe.drop(step)`.

    Layers that must work without their neighbours keep to one language in the residual stream,
    that of the head: without it the stream of so small a model cannot be early decoded before the
    last layers. Which layers go depends on seed and step only.
    """
    blocks, rng = model.transformer.h, Random(f"depth-{recipe.seed}-{step}")
    chance = recipe.drop(step)
    kept = [block for i, block in enumerate(blocks) if i == 0 or rng.random() >= chance]
    model.transformer.h = nn.ModuleList(kept)
    try:
        yield
    finally:
        model.transformer.h = blocks


def _row(
    step: int, per_step: int, loss: float, recipe: Recipe, elapsed: float, seconds: float
) -> dict[str, float]:
    return {
        "step": step + 1,
        "tokens": (step + 1) * per_step,
        "loss": round(loss, 5),
        "learning_rate": recipe.learning_rate * recipe.share(step),
        "tokens_per_second": round(per_step / elapsed),
        "seconds": round(seconds, 2),
    }


def _append_log(folder: Path, rows: list[dict[str, float]]) -> None:
    path = folder / LOG
    is_new = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, LOG_FIELDS)
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def _save_checkpoint(
    folder: Path,
    recipe: Recipe,
    model: GPT2LMHeadModel,
    optimizer: Optimizer,
    step: int,
    seconds: float,
) -> None:
    state = {
        "recipe": asdict(recipe),
        "data": data_hashes(),
        "step": step,
        "seconds": seconds,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    temporary = folder / (CHECKPOINT + ".tmp")
    torch.save(state, temporary)
    os.replace(temporary, folder / CHECKPOINT)


def _resume(
    folder: Path, recipe: Recipe, model: GPT2LMHeadModel, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Load the last checkpoint and cut the log back to it; (0, 0.0) where there is none."""
    path = folder / CHECKPOINT
    if not path.exists():
        (folder / LOG).unlink(missing_ok=True)
        return 0, 0.0
    state = torch.load(path, weights_only=True, map_location="cpu")
    if (state["recipe"], state["data"]) != (asdict(recipe), data_hashes()):
        raise UserError(
            f"{path} was made with other settings or other relation data: "
            "start anew with --no-resume, or give another --output folder"
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    with (folder / LOG).open(newline="") as stream:
        kept = [row for row in csv.DictReader(stream) if int(row["step"]) <= state["step"]]
    (folder / LOG).unlink()
    _append_log(folder, kept)
    return state["step"], state["seconds"]
