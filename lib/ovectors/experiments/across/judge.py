"""Verdicts, values and depths side by side, and what grows or falls with size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pandas as pd

from ovectors.catalogue import ModelSpec, catalogue, catalogue_rows, parameters_in
from ovectors.claims import LEAST_ITEMS
from ovectors.comparison import Finding
from ovectors.experiments.stages.judge import ANSWER, APPLICATION
from ovectors.studies import all_rules

MINIATURE, OWN, LANGUAGE_MODEL = KINDS = "miniature", "own model", "language model"
"""Kinds of models, never put on one line: a miniature is no small language model, and a user's own,
from a folder, may be anything."""
NOT_WRITTEN = "its chapter left no such claim"
MODEL_COLUMNS = ["model", "kind", "parameters", "dtype", "n_items", "origin", "commit"]
MODEL_COLUMNS += ["chapters", "changed"]
VERDICT_COLUMNS = ["claim", "question", "chapter", "model", "kind", "parameters"]
VERDICT_COLUMNS += ["state", "why", "origin", "changed"]
MEASURED_COLUMNS = ["claim", "model", "kind", "parameters", "relation", "name"]
MEASURED_COLUMNS += ["value", "low", "high", "n", "bound", "holds", "criterion"]
TREND_COLUMNS = ["claim", "relation", "name", "kind", "models", "smallest", "largest"]
TREND_COLUMNS += ["values", "change"]
DEPTH_COLUMNS = ["model", "kind", "parameters", "relation", "stage", "items", "median_layer"]
DEPTH_COLUMNS += ["relative_depth"]
CURVE_COLUMNS = ["model", "kind", "parameters", "relation", "token", "layer", "relative_depth"]
CURVE_COLUMNS += ["mean", "low", "high", "n"]
PEAK = "the argument's highest mean reciprocal rank"
OTHER_COLUMNS = ["model", "parameters", "memory_bytes", "state"]


def models(findings: Sequence[Finding]) -> pd.DataFrame:
    """One row a model, kind by kind (miniatures first), the smallest first.

    Columns: model, kind, parameters, dtype, n_items (0: all), origin, commit, chapters (how many
    have a whole run), changed (what has changed since, over its chapters).
    """
    rows = []
    for known in _by_model(findings):
        whole = [one for one in known if one.kept]
        made = whole[0].kept.provenance if whole else {}
        changed = dict.fromkeys(part for one in whole for part in one.changed)
        row = _identity(known) | {"dtype": made.get("model", {}).get("dtype")}
        row |= {"n_items": whole[0].kept.parameters.get("n_items") if whole else None}
        row |= {"origin": ", ".join(dict.fromkeys(one.origin for one in whole)) or "none"}
        row |= {"commit": made.get("commit"), "chapters": len(whole)}
        rows.append(row | {"changed": ", ".join(changed)})
    return _sorted(rows, MODEL_COLUMNS)


def verdicts(findings: Sequence[Finding]) -> pd.DataFrame:
    """One row a claim and model: its verdict, or why there is none.

    `state` is a verdict, or one of: not run, does not fit (on this machine), failed, refused (the
    chapter refused the model), broken. `why` is one line. `changed` names what has changed since
    the run, of chapter, library, data and model.
    """
    unfit = {row["name"] for row in catalogue_rows() if not row["fits"]}
    rules, rows = all_rules().values(), []
    for known in _by_model(findings):
        identity = _identity(known)
        chapters = {one.chapter: one for one in known}
        claims = {claim.id: claim for one in known for claim in one.claims}
        for rule in rules:
            one = chapters[rule.chapter]
            claim = claims.get(rule.id)
            state, why = one.condition, one.reason
            if claim is not None:
                state, why = claim.verdict, claim.why
            elif one.condition == "whole":
                state, why = "not run", NOT_WRITTEN
            elif one.condition == "not run" and one.model in unfit:
                state, why = "does not fit", "it needs more memory than this machine has"
            row = identity | {"claim": rule.id, "question": rule.question, "state": state}
            row |= {"chapter": rule.chapter, "why": why, "origin": one.origin}
            rows.append(row | {"changed": ", ".join(one.changed)})
    return _sorted(rows, VERDICT_COLUMNS)


def measured(findings: Sequence[Finding]) -> pd.DataFrame:
    """One row a measured number of a claim: model, relation, name, value, interval, n, bound,
    whether it holds, and criterion (the kind of criterion that it is)."""
    rows = []
    for known in _by_model(findings):
        identity = _identity(known)
        for claim in (claim for one in known for claim in one.claims):
            told = identity | {"claim": claim.id}
            for number in claim.measured:  # its kind is no model's
                rows.append(number.model_dump() | told | {"criterion": number.kind})
    table = _sorted(rows, MEASURED_COLUMNS)
    numbers = ["value", "low", "high", "bound"]
    return table.astype(dict.fromkeys(numbers, float))


def headlines(numbers: pd.DataFrame) -> pd.DataFrame:
    """For each claim, model and relation its main criterion: the last that the paper made."""
    own = numbers[numbers["criterion"] == "paper"]
    return own.groupby(["claim", "model", "relation"], sort=False).tail(1).reset_index(drop=True)


def trends(headline: pd.DataFrame) -> pd.DataFrame:
    """From the smallest to the largest model of a kind: does the main criterion rise or fall?

    `change` is "rises" or "falls" where the two intervals do not meet, otherwise "no clear change".
    Relations measured with LEAST_ITEMS items on two models or more; `values` are those of all of
    them, the smallest model's first.
    """
    rows = []
    order = {claim: place for place, claim in enumerate(all_rules())}
    known = headline[(headline["n"] >= LEAST_ITEMS) & headline["low"].notna()]
    known = known[known["parameters"].notna()]
    known = known.sort_values("claim", key=lambda one: one.map(order), kind="stable")
    for (claim, relation, kind), part in known.groupby(["claim", "relation", "kind"], sort=False):
        part = part.sort_values("parameters", kind="stable")
        if part["model"].nunique() < 2:
            continue
        small, large = part.iloc[0], part.iloc[-1]
        change = "no clear change"
        if large["low"] > small["high"]:
            change = "rises"
        elif large["high"] < small["low"]:
            change = "falls"
        row = {"claim": claim, "relation": relation, "name": small["name"], "kind": kind}
        row |= {"models": len(part), "smallest": small["model"], "largest": large["model"]}
        rows.append(row | {"values": part["value"].tolist(), "change": change})
    return pd.DataFrame(rows, columns=TREND_COLUMNS)


def depths(findings: Sequence[Finding]) -> pd.DataFrame:
    """How deep the function is applied, from chapter 1's table of stages: one row a model, relation
    and stage.

    Stages: function application, and the answer's first layer on top whatever came before. `items`
    show it; `relative_depth` is (median layer + 1) / layers. Relations on which no item shows it
    have no row.
    """
    rows = []
    for identity, table in _tables(findings, "stage-shares"):
        shown = table["stage"].isin((APPLICATION, ANSWER)) & table["relative_depth"].notna()
        for one in table[shown & (table["form"] == "one_shot")].to_dict("records"):
            one["items"] = round(one["share"] * one["n"])
            rows.append(identity | {name: one[name] for name in DEPTH_COLUMNS[3:]})
    return _sorted(rows, DEPTH_COLUMNS)


def curves(findings: Sequence[Finding]) -> pd.DataFrame:
    """Mean reciprocal ranks over layers, from chapter 1's figure with the X: one row a model,
    relation, token (argument or answer) and layer, with `relative_depth`, (layer + 1) / layers."""
    rows = []
    for identity, table in _tables(findings, "reciprocal-ranks"):
        table["relative_depth"] = (table["layer"] + 1) / (table["layer"].max() + 1)
        shown = table[table["form"] == "one_shot"]
        rows += [identity | one for one in shown[CURVE_COLUMNS[3:]].to_dict("records")]
    return _sorted(rows, CURVE_COLUMNS)


def peaks(curves: pd.DataFrame) -> pd.DataFrame:
    """How far the argument comes up: the highest of its means, one row a model and relation.

    The layer is chosen on the items that it is reported on, so that the value is a little high
    where the layers are close. Columns as of `headlines`, as far as `trends` reads them, and
    `relative_depth`.
    """
    argument = curves[curves["token"] == "argument"].reset_index(drop=True)
    best = argument.groupby(["model", "relation"], sort=False)["mean"].idxmax()
    found = argument.loc[best].reset_index(drop=True).rename(columns={"mean": "value"})
    return found.assign(claim="stages", name=PEAK).drop(columns=["token", "layer"])


def others(findings: Sequence[Finding]) -> pd.DataFrame:
    """The catalogue's models of which nothing is known here: not run, or too large to fit."""
    known = {one.model for one in findings}
    rows = [
        {
            "model": row["name"],
            "parameters": row["parameters"],
            "memory_bytes": row["memory_bytes"],
            "state": "not run" if row["fits"] else "does not fit",
        }
        for row in catalogue_rows()
        if row["name"] not in known
    ]
    return pd.DataFrame(rows, columns=OTHER_COLUMNS)


def _tables(
    findings: Sequence[Finding], name: str
) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """One of chapter 1's tables of each model that has it, with who the model is."""
    for known in _by_model(findings):
        for path in filter(None, (one.table(name) for one in known)):
            yield _identity(known), pd.read_parquet(path)


def _by_model(findings: Iterable[Finding]) -> list[list[Finding]]:
    grouped: dict[str, list[Finding]] = {}
    for one in findings:
        grouped.setdefault(one.model, []).append(one)
    return list(grouped.values())


def _identity(known: Sequence[Finding]) -> dict[str, Any]:
    """Name, kind and size of a model; NaN where nobody has counted its parameters."""
    name = next((one.name for one in known if one.kept), known[0].name)
    listed = catalogue().get(known[0].model)
    counts = [one.kept.provenance.get("model", {}).get("parameters") for one in known if one.kept]
    parameters = next(filter(None, counts), _listed_size(listed))
    size = float(parameters) if parameters else math.nan
    return {"model": name, "kind": _kind(listed, known), "parameters": size}


def _kind(listed: ModelSpec | None, known: Sequence[Finding]) -> str:
    """One of KINDS; what is not in the catalogue and has no commit of the hub is a user's own."""
    if listed is not None:
        return MINIATURE if listed.group == "miniature" else LANGUAGE_MODEL
    made = [one.kept.provenance.get("model", {}) for one in known if one.kept]
    return LANGUAGE_MODEL if any(one.get("commit") for one in made) else OWN


def _listed_size(listed: ModelSpec | None) -> int | None:
    """The catalogue's number of parameters; that in the file, for a miniature."""
    if listed is None or listed.parameters or listed.folder is None:
        return listed and listed.parameters
    return parameters_in(listed.folder)


def _sorted(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """Kind by kind, and by size; rows of one model stay in their order."""
    table = pd.DataFrame(rows, columns=columns)
    order = table["kind"].map({kind: number for number, kind in enumerate(KINDS)})
    table = table.assign(order=order).sort_values(["order", "parameters", "model"], kind="stable")
    return table.drop(columns="order").reset_index(drop=True)
