"""Runs a plan: numbers compared first, then times in pairs, then memory; gives it all as a dict."""

from __future__ import annotations

import contextlib
import gc
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata

import psutil
import torch

from benchmarks import agreement, contestants, flops, memory, plan, shapes, timing
from benchmarks.contestants import by_hand, ours, plain
from benchmarks.questions import Question
from ovectors import results, stream
from ovectors.encoding import EncodedPrompts, encode_relation
from ovectors.models import LanguageModel

Report = Callable[[str], None]
_PACKAGES = ("torch", "transformers", "transformer-lens", "nnsight")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a run is made: repeats of each pair, where, and where progress is told."""

    repeats: int
    device: str
    report: Report


def run(plans: Sequence[plan.Plan], settings: Settings) -> dict:
    """Everything that the plans ask for; Disagreement when any two give different numbers."""
    began = datetime.now(UTC)
    found: dict = {"shapes": {}, "agreement": [], "ratios": [], "memory": [], "scaling": []}
    for one in plans:
        model = shapes.build(one.shape, device=settings.device)
        settings.report(f"{one.shape}: {model.provenance['weights']} weights")
        _measured(model, one, settings, found)
        del model
        gc.collect()
        shapes.empty_cache(settings.device)
        _memory(one, settings, found)
    ended = datetime.now(UTC)
    return {
        "date": began.date().isoformat(),
        "minutes": round((ended - began).total_seconds() / 60, 1),
        "repeats": settings.repeats,
        "machine": machine(settings.device),
        "versions": {**results.versions(), **_versions()},
        "commit": results.git_state(),
        **found,
    }


def _measured(model: LanguageModel, one: plan.Plan, settings: Settings, found: dict) -> None:
    """Agreement, then ratios, on one model."""
    everything = shapes.prompts(model, count=one.many)
    rows = plain.quickest_rows(model, everything.token_ids, device=settings.device)
    found["shapes"][one.shape] = {
        **shapes.described(one.shape, model),
        "rows": rows,
        "rates": rates(model, everything, rows=rows, settings=settings),
    }
    found["agreement"] += agreed(model, one, rows=rows, report=settings.report)
    for measure in plan.MEASURES:
        found["ratios"].append(ratio(model, one, measure, rows=rows, settings=settings))


def question(model: LanguageModel, encoded: EncodedPrompts, positions: str) -> Question:
    """The sweep over all start layers, with the o vector of a middle layer of the first prompt."""
    first = encoded.select([0])
    middle = model.n_layers // 2
    vector = stream.record(model, first, parts=("ffn",), layers=[middle])["ffn"][0, 0]
    starts = tuple(range(model.n_layers))
    return Question(encoded=encoded, vector=vector, positions=positions, starts=starts)


def agreed(
    model: LanguageModel, one: plan.Plan, *, rows: int, report: Report = print
) -> list[dict]:
    """Every contestant's numbers against the truth; Disagreement where they are others."""
    encoded = shapes.prompts(model, count=one.agreeing)
    truth, found = agreement.Truth(model), []

    def note(what: str, name: str, allowed: float, told: dict) -> None:
        report(f"{one.shape}: {name} agrees on {what}")
        row = {"shape": one.shape, "what": what, "contestant": name, "allowed": allowed}
        found.append(row | {key: results.plain(value) for key, value in told.items()})

    for what, positions in ((plan.LAST, "last"), (plan.ALL, "all")):
        asked = question(model, encoded, positions)
        exact = truth.sweep(asked)
        allowed = agreement.tolerance(model, exact)
        for name in filter(lambda name: not contestants.missing(name), contestants.SWEEPERS):
            with contestants.opened(name, model, rows=rows) as ask:
                told = agreement.check(name, ask(asked), exact, asked, allowed=allowed)
            note(what, name, allowed, told)
    encoded = encode_relation(model, shapes.RELATION, shapes.FORM, n_items=one.agreeing)
    exact = truth.stages(encoded.token_ids)
    allowed, asked = agreement.tolerance(model, exact), question(model, encoded, "last")
    answers = {
        contestants.OURS: ours.stages(model, shapes.RELATION, n_items=one.agreeing),
        contestants.BY_HAND: by_hand.stages(contestants.copied(model), encoded),
    }
    for name, answer in answers.items():
        told = agreement.check(name, answer, exact, asked, allowed=allowed)
        note(plan.STAGES, name, allowed, told)
    logits = plain.forward(model, encoded.token_ids, rows=rows)
    told = agreement.check_logits(plan.PLAIN, logits, exact[-1], allowed=allowed)
    note("the last layer", plan.PLAIN, allowed, told)
    return found


def ratio(
    model: LanguageModel,
    one: plan.Plan,
    measure: plan.Measure,
    *,
    rows: int,
    settings: Settings,
) -> dict:
    """One measure on one model: a row of the table."""
    row = {"shape": one.shape, "what": measure.what, "against": measure.against}
    row |= {"sense": measure.sense, "goal": measure.goal if one.goals else None}
    if why := contestants.missing(measure.against):
        settings.report(f"{one.shape}: {why}")
        return row | {"missing": why}
    count = getattr(one, measure.prompts)
    if measure.what == plan.STAGES:
        encoded = encode_relation(model, shapes.RELATION, shapes.FORM, n_items=count)
    else:
        encoded = shapes.prompts(model, count=count)
    pairs = _paired(model, measure, encoded, rows=rows, count=count, settings=settings)
    at_most = measure.sense == plan.AT_MOST
    taken = pairs.ratios if at_most else tuple(1 / value for value in pairs.ratios)
    found = timing.summary(taken)
    good = found["median"] <= measure.goal if at_most else found["median"] >= measure.goal
    sizes = flops.sizes_of(model)
    settings.report(f"{one.shape}: {measure.what} / {measure.against}: {found['median']:.2f}")
    return row | {
        "prompts": len(encoded),
        "ratio": found,
        "met": good if one.goals else None,
        "seconds": {
            "ours": timing.summary(pairs.first),
            "other": timing.summary(pairs.second),
        },
        "counted": plan.counted(measure, sizes, encoded.token_ids),
        "counted_unshared": plan.counted(measure, sizes, encoded.token_ids, share_prefix=False),
    }


def _paired(
    model: LanguageModel,
    measure: plan.Measure,
    encoded: EncodedPrompts,
    *,
    rows: int,
    count: int,
    settings: Settings,
) -> timing.Paired:
    """Times of both ways on the same prompts, each warmed up on one of them before."""
    positions = "all" if measure.what == plan.ALL else "last"
    asked, small = (
        question(model, prompts, positions) for prompts in (encoded, encoded.select([0]))
    )
    other = measure.against if measure.against != plan.PLAIN else contestants.OURS
    with (
        contestants.opened(contestants.OURS, model, rows=rows) as mine,
        contestants.opened(other, model, rows=rows) as theirs,
    ):
        if measure.against == plan.PLAIN:
            theirs = lambda asked: plain.forward(model, asked.token_ids, rows=rows)  # noqa: E731
        if measure.what == plan.STAGES:
            mine = lambda asked: ours.stages(  # noqa: E731
                model, shapes.RELATION, n_items=count if asked.encoded is encoded else 2
            )
        mine(small), theirs(small)
        return timing.paired(
            lambda: mine(asked),
            lambda: theirs(asked),
            repeats=settings.repeats,
            device=settings.device,
        )


def rates(
    model: LanguageModel, encoded: EncodedPrompts, *, rows: int, settings: Settings
) -> dict[str, float]:
    """Operations a second of the plain pass, and of a large matrix product in the same dtype."""
    work = flops.plain_pass(flops.sizes_of(model), encoded.token_ids)
    side = 8192 if settings.device.startswith("cuda") else 1024
    one = torch.randn(side, side, device=settings.device).to(model.dtype)
    passes, products = [], []
    for _ in range(max(2, settings.repeats)):
        products.append(timing.seconds(lambda: one @ one, device=settings.device))
        passes.append(
            timing.seconds(
                lambda: plain.forward(model, encoded.token_ids, rows=rows), device=settings.device
            )
        )
    return {
        "plain_pass": work / timing.summary(passes[1:])["median"],
        "matrix_product": 2 * side**3 / timing.summary(products[1:])["median"],
    }


def _memory(one: plan.Plan, settings: Settings, found: dict) -> None:
    """Peak memory of each experiment, and time and memory from few prompts to many."""
    for experiment in memory.EXPERIMENTS if one.memory else ():
        row = memory.in_a_new_process(one.shape, experiment, device=settings.device)
        row["goal_bytes"] = round(plan.MEMORY_SHARE * row["weight_bytes"] + plan.MEMORY_MORE)
        row["met"] = row["peak_bytes"] <= row["goal_bytes"]
        settings.report(f"{one.shape}: {experiment}: {row['peak_bytes'] / 2**20:,.0f} MiB")
        found["memory"].append(row)
    for prompts in one.scaling:
        row = memory.in_a_new_process(
            one.shape,
            plan.LAST,
            relation=shapes.MANY,
            prompts=prompts,
            repeats=settings.repeats,
            device=settings.device,
        )
        row["seconds_per_prompt"] = timing.summary(
            [taken / row["prompts"] for taken in row["seconds"]]
        )
        settings.report(
            f"{one.shape}: {row['prompts']:,} prompts, "
            f"{1000 * row['seconds_per_prompt']['median']:.1f} ms each"
        )
        found["scaling"].append(row)


def machine(device: str) -> dict:
    """Where it was measured, in words that do not name the machine."""
    told = {
        "processor": platform.machine(),
        "system": platform.system(),
        "cores": psutil.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "device": "cpu",
    }
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        told |= {"device": properties.name, "device_memory_bytes": properties.total_memory}
    return told


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
