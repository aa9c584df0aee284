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
from ovectors.forward import BUDGET_BYTES, Batch, execution_device, full_logits
from ovectors.interventions import Intervention, Replace, during
from ovectors.lens import LogitLens
from ovectors.stream import record, recording
from ovectors.sweeps import MOST_WINDOW, one_token
from ovectors.sweeps.points import Settings

if TYPE_CHECKING:
    from ovectors.models import LanguageModel

# Two prompts of different length, so that padding is exercised too.
PROMPTS = ("Q: What is the capital of France?\nA:", "one two three one two")

REFEREED = 100  # so many logits, those that differ most, are summed up exactly

SUM = "before + attention + ffn = after"
MID = "before + attention = mid"
LOGITS = "early decoding of the last state = the model's logits"
WINDOWS = "the last token run alone = as run with all others, beyond the window"
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
    """One pass: states of the last token in float64, and what the last block and the head gave for
    all tokens, as they gave it."""

    states: dict[str, Float[Tensor, "layer row d_model"]]
    final: Float[Tensor, "row token d_model"]
    logits: Float[Tensor, "row token vocabulary"]


def self_check(model: LanguageModel, *, strict: bool = True) -> CheckReport:
    """Check the invariants of this project's adapters on two short prompts, in three passes:

    what a layer is said to add really is what it adds (and the mid residual, where there is one, is
    the state between the two additions); early decoding of the last state gives the model's own
    logits at every token; replacing what an FFN adds with itself changes nothing, and with noise
    adds that noise. Where layers have a sliding window, a longer prompt checks the fast way of
    sweeps in each of them.

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
    found[LOGITS] = [_logit_gap(model, batch, clean, eps)]
    found[ITSELF] = _itself_gaps(clean, replaced, eps)
    found[NOISE] = _noise_gaps(noisy, noise, eps)
    change = float((noisy.logits - clean.logits)[batch.mask].abs().max())
    found[REACHED] = [(change, found[LOGITS][0][1])]
    if model.window and model.window <= MOST_WINDOW:
        found[WINDOWS] = _window_gaps(model, eps)
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
    around, rows = during(model, changes)(batch) if changes else nullcontext(), len(batch.rows)
    with (
        around,
        recording(model, parts=parts, layers=numbers, rows=rows, positions=batch.last) as kept,
        recording(model, parts=["after"], layers=numbers[-1:], rows=rows, positions=None) as final,
    ):
        logits = full_logits(model, batch)
    return _Pass(
        states={
            part: torch.stack([kept[part, layer].cpu().double() for layer in numbers])
            for part in parts
        },
        final=final["after", numbers[-1]],
        logits=logits.cpu().to(torch.promote_types(model.dtype, torch.float32)),
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


def _logit_gap(model: LanguageModel, batch: Batch, clean: _Pass, eps: float) -> tuple[float, float]:
    """Early decoding against the model's logits, at all tokens in the shape of the pass itself.

    Both then apply the same modules to the same states in the same shapes, and differ by nothing at
    all. Where they do (a model may shape its last step otherwise), exact arithmetic is the referee:
    either may be as far from it as its sums can be off, and no further.
    """
    lens = LogitLens(model, as_the_model=True)
    used = ~lens.unused
    decoded = lens(clean.final).cpu()[batch.mask][:, used]
    own = clean.logits[batch.mask][:, used]
    gap = (decoded - own).abs()
    tight = 4 * eps * float(own.double().pow(2).mean().sqrt())
    if bool((gap == 0).all()):
        return 0.0, tight
    worst = gap.nan_to_num(nan=torch.inf).flatten().topk(min(REFEREED, gap.numel())).indices
    token, number = worst // gap.shape[1], worst % gap.shape[1]
    exact, slack = _exactly(
        lens, clean.final[batch.mask.to(clean.final.device)][token], used.nonzero()[number, 0], eps
    )
    off = torch.maximum(
        (decoded[token, number].double() - exact).abs(), (own[token, number].double() - exact).abs()
    )
    return _worst(off, slack + tight)


def _exactly(
    lens: LogitLens, states: Float[Tensor, "pair d_model"], ids: Tensor, eps: float
) -> tuple[Float[Tensor, " pair"], Float[Tensor, " pair"]]:
    """One logit of each state, its head's sum in float64, and how far that sum may be off in the
    model's dtype: n terms, each rounded in float32 on the way to the result at most n times, and
    the result once more. It scales with the terms, which may be far larger than their sum.
    """
    head = lens.head
    if not isinstance(head, torch.nn.Linear) or head.weight.is_meta:
        return torch.full((len(ids),), torch.nan), torch.zeros(len(ids))
    normed = lens.norm(states.to(execution_device(lens.norm), lens.dtype)).detach().cpu().double()
    terms = normed * head.weight[ids.to(head.weight.device)].detach().cpu().double()
    sums = terms.sum(dim=1)
    if head.bias is not None:
        sums = sums + head.bias[ids.to(head.bias.device)].detach().cpu().double()
    n, single = terms.shape[1], min(eps, torch.finfo(torch.float32).eps)
    slack = n * single / 2 * terms.abs().sum(dim=1) + 2 * eps * sums.abs()
    scale = abs(lens.logits_from(torch.ones(1, dtype=torch.float64)).item())
    return lens.logits_from(sums), slack * max(scale, 1.0)


@torch.no_grad()
def _window_gaps(model: LanguageModel, eps: float) -> list[tuple[float, float]]:
    """The fast way of sweeps against the clean pass, on a prompt that the window does not hold: the
    stream sets out after one layer as it is, and goes through the next one as a token alone.

    Both round the same steps in other shapes: a few roundings in the model's dtype, and some more
    in float32 within its sums, of the length of what is added up.
    """
    longest = min(model.window + 8, model.max_length or model.window + 8)
    ids = list(model.tokenizer(PROMPTS[0])["input_ids"])
    ids = (ids * (longest // len(ids) + 1))[:longest]
    numbers = model.layer_numbers(None)
    stream = record(model, [ids], parts=("before", "attention", "ffn", "after"))
    own = {i: [Replace(stream["ffn"][i], layers=[i], positions="last")] for i in numbers[:-1]}
    gaps = [(0.0, 0.0)] * len(numbers)  # no token arrives at layer 0 from another layer
    settings = Settings(layers=numbers, budget_bytes=BUDGET_BYTES)
    for piece in one_token.pieces(model, [ids], own, settings):
        at = piece.layer
        if at - 1 in piece.points and at > 0:
            found = piece.states[piece.points.index(at - 1), 0].cpu().double()
            gap = (found - stream["after"][at, 0].double()).norm()
            parts = (stream[part][at, 0].double().norm() for part in ("before", "attention", "ffn"))
            few = 4 * eps + 128 * min(eps, torch.finfo(torch.float32).eps)
            gaps[at] = (float(gap), few * float(sum(parts)))
    return gaps


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
