"""The load-time self-check: a model not wired as its adapter says is refused, never mismeasured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from ovectors.errors import UserError
from ovectors.forward import Batch, full_logits
from ovectors.interventions import Intervention, Replace, during
from ovectors.lens import LogitLens
from ovectors.stream import recording

if TYPE_CHECKING:
    from ovectors.models import LanguageModel

# Two prompts of different length, so that padding is exercised too.
PROMPTS = ("Q: What is the capital of France?\nA:", "one two three one two")

SUM = "before + attention + ffn = after"
MID = "before + attention = mid"
LOGITS = "early decoding of the last state = the model's logits"
ITSELF = "an FFN replaced with itself changes nothing"
NOISE = "an FFN replaced with noise adds that noise"
REACHED = "the noise reaches the logits"


@dataclass(frozen=True, kw_only=True)
class CheckRow:
    """One invariant, where it holds least.

    Attributes:
        invariant: what should hold.
        layer: the layer with the worst gap.
        gap: the largest difference found there, in units of the states or logits compared.
        tolerance: what rounding alone may make of it (see `_rounding`).
        passed: gap <= tolerance; for REACHED, which must differ, gap > tolerance.
    """

    invariant: str
    layer: int
    gap: float
    tolerance: float
    passed: bool


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What the self-check found.

    Attributes:
        model: its name; dtype: what it computed in.
        rows: one for each invariant.
        layers: for each invariant, (gap, tolerance) of every layer it is checked at.
    """

    model: str
    dtype: str
    rows: tuple[CheckRow, ...]
    layers: dict[str, tuple[tuple[float, float], ...]]

    @property
    def passed(self) -> bool:
        """Whether every invariant holds."""
        return all(row.passed for row in self.rows)

    @property
    def complaint(self) -> str:
        """One line on the first invariant that does not hold; empty where all do."""
        row = next((row for row in self.rows if not row.passed), None)
        if row is None:
            return ""
        if math.isnan(row.gap):
            return (
                f"{self.model} is refused: layer {row.layer} is not a number in {self.dtype}: "
                "take bfloat16 or float32, or get its weights again"
            )
        return (
            f"{self.model} is refused: at layer {row.layer} it does not hold that {row.invariant} "
            f"(gap {row.gap:.2g}, tolerance {row.tolerance:.2g}), so its numbers would be wrong"
        )


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """States `[layer, row, d_model]` and logits `[row, vocabulary]` of one pass, in float64."""

    states: dict[str, Float[Tensor, "layer row d_model"]]
    logits: Float[Tensor, "row vocabulary"]


def self_check(model: LanguageModel, *, strict: bool = True) -> CheckReport:
    """Check the three invariants of this project's adapters on two short prompts, in three passes:

    what a layer is said to add really is what it adds (and the mid residual, where there is one, is
    the state between the two additions); early decoding of the last state gives the model's own
    logits; replacing what an FFN adds with itself changes nothing, and with noise adds that noise.

    UserError names the layer and the gap of the first that does not hold, unless `strict` is false.
    """
    batch = _prompts(model)
    clean = _run(model, batch)
    replaced = _run(model, batch, _replacements(clean.states["ffn"]))
    noise = _noise(model, clean)
    noisy = _run(model, batch, _replacements(noise))

    eps = torch.finfo(model.dtype).eps
    found = {SUM: _sum_gaps(clean, eps)}
    if "mid" in clean.states:
        found[MID] = _mid_gaps(clean, eps)
    found[LOGITS] = [_logit_gap(model, clean, eps)]
    found[ITSELF] = _itself_gaps(clean, replaced, eps)
    found[NOISE] = _noise_gaps(noisy, noise, eps)
    change = float((noisy.logits - clean.logits).abs().max())
    found[REACHED] = [(change, found[LOGITS][0][1])]
    report = CheckReport(
        model=model.name,
        dtype=str(model.dtype).removeprefix("torch."),
        rows=tuple(_row(name, gaps, model.n_layers) for name, gaps in found.items()),
        layers={name: tuple(gaps) for name, gaps in found.items()},
    )
    if strict and not report.passed:
        raise UserError(report.complaint)
    return report


def _prompts(model: LanguageModel) -> Batch:
    ids = [list(model.tokenizer(text)["input_ids"])[: model.max_length] for text in PROMPTS]
    if min(len(one) for one in ids) < 2:
        raise UserError(f"the tokenizer of {model.name} cannot read plain English text")
    if len(ids[0]) == len(ids[1]):
        ids[1] = ids[1][:-1]
    width = max(len(one) for one in ids)
    mask = torch.tensor([[i < len(one) for i in range(width)] for one in ids])
    padded = torch.tensor([one + [0] * (width - len(one)) for one in ids])
    return Batch(rows=torch.arange(len(ids)), token_ids=padded, mask=mask)


def _run(model: LanguageModel, batch: Batch, changes: Sequence[Intervention] = ()) -> _Pass:
    """One pass of the whole model, recorded while its own logits are computed."""
    parts = ["before", "attention", "ffn", "after"]
    parts += ["mid"] if model.architecture.mid is not None else []
    numbers = model.layer_numbers(None)
    around = during(model, changes)(batch) if changes else nullcontext()
    with around, recording(model, parts=parts, layers=numbers, positions=batch.last) as kept:
        logits = full_logits(model, batch)
    return _Pass(
        states={
            part: torch.stack([kept[part, layer].cpu().double() for layer in numbers])
            for part in parts
        },
        logits=logits.cpu().double(),
    )


def _replacements(vectors: Float[Tensor, "layer row d_model"]) -> list[Replace]:
    """One for each layer: its own vector for each prompt's last token."""
    return [Replace(own, layers=[i], positions="last") for i, own in enumerate(vectors)]


def _noise(model: LanguageModel, clean: _Pass) -> Float[Tensor, "layer row d_model"]:
    """Seeded noise of each state's own size, as the model's dtype holds it."""
    after = clean.states["after"]
    size = after.pow(2).mean(dim=-1, keepdim=True).sqrt()
    drawn = torch.randn(after.shape, generator=torch.Generator().manual_seed(0)).double()
    return (drawn * size).to(model.dtype).double()


def _rounding(eps: float, *terms: Tensor) -> Tensor:
    """How far a sum of these terms may be from the exact one, element by element.

    Each of the at most two additions rounds a number no larger than the sum of the magnitudes, and
    rounding errs by at most eps / 2 of it: eps times that sum is a bound, doubled for good measure.
    Being relative to each element's own size, it stays sharp where a few dimensions are huge.
    """
    return 2 * eps * sum(term.abs() for term in terms)


def _worst(gap: Tensor, tolerance: Tensor) -> tuple[float, float]:
    """Gap and tolerance of the element that exceeds its tolerance most; NaN counts most."""
    gap, tolerance = gap.flatten(), tolerance.flatten()
    excess = torch.where(gap == 0, 0.0, gap / tolerance).nan_to_num(nan=torch.inf)
    at = int(excess.argmax())
    return float(gap[at]), float(tolerance[at])


def _by_layer(gap: Tensor, tolerance: Tensor) -> list[tuple[float, float]]:
    return [_worst(one, allowed) for one, allowed in zip(gap, tolerance, strict=True)]


def _sum_gaps(run: _Pass, eps: float) -> list[tuple[float, float]]:
    before, attention, ffn = (run.states[part] for part in ("before", "attention", "ffn"))
    gap = (before + attention + ffn - run.states["after"]).abs()
    return _by_layer(gap, _rounding(eps, before, attention, ffn))


def _mid_gaps(run: _Pass, eps: float) -> list[tuple[float, float]]:
    before, attention = run.states["before"], run.states["attention"]
    gap = (before + attention - run.states["mid"]).abs()
    return _by_layer(gap, _rounding(eps, before, attention))


def _logit_gap(model: LanguageModel, clean: _Pass, eps: float) -> tuple[float, float]:
    """Early decoding against the model's logits, at each token's own tolerance.

    Both apply the same modules to the same state, so they differ only as the shape of the batch
    changes the order of the head's sums: in float32 (also within half-precision products) that
    costs up to about sqrt(d_model) roundings of a number of the logits' size; the result, and the
    normed state before it, are rounded to the model's dtype, each once on either side.
    """
    lens = LogitLens(model)
    decoded = lens(clean.states["after"][-1]).cpu().double()
    used = ~lens.unused
    size = clean.logits.abs() + clean.logits[:, used].pow(2).mean(dim=1, keepdim=True).sqrt()
    sums = math.sqrt(model.d_model) * min(eps, torch.finfo(torch.float32).eps)
    tolerance = (4 * eps + sums) * size
    return _worst((decoded - clean.logits).abs()[:, used], tolerance[:, used])


def _itself_gaps(clean: _Pass, replaced: _Pass, eps: float) -> list[tuple[float, float]]:
    """The same computation in the same shapes: should a kernel not repeat itself exactly, each
    layer may add the rounding of its own sum."""
    terms = [clean.states[part] for part in ("before", "attention", "ffn")]
    gap = (replaced.states["after"] - clean.states["after"]).abs()
    return _by_layer(gap, _rounding(eps, *terms).cumsum(dim=0))


def _noise_gaps(noisy: _Pass, noise: Tensor, eps: float) -> list[tuple[float, float]]:
    before, attention = noisy.states["before"], noisy.states["attention"]
    gap = (before + attention + noise - noisy.states["after"]).abs()
    return _by_layer(gap, _rounding(eps, before, attention, noise))


def _row(invariant: str, gaps: list[tuple[float, float]], n_layers: int) -> CheckRow:
    """The worst layer of an invariant; one that is checked at the end alone is the last layer's."""

    def excess(number: int) -> float:
        """A gap in units of its tolerance; a gap that is no number is endless."""
        gap, tolerance = gaps[number]
        return 0.0 if gap == 0 else math.inf if math.isnan(gap / tolerance) else gap / tolerance

    worst = max(range(len(gaps)), key=excess)
    gap, tolerance = gaps[worst]
    return CheckRow(
        invariant=invariant,
        layer=worst if len(gaps) == n_layers else n_layers - 1,
        gap=gap,
        tolerance=tolerance,
        passed=gap > tolerance if invariant == REACHED else gap <= tolerance,
    )
