"""How a run was made, in words: what the pages fold under each figure."""

from __future__ import annotations

import html
import shlex
from collections.abc import Mapping
from typing import Any

from ovectors import runs
from ovectors.claims import Claim
from ovectors.errors import UserError
from ovectors.notebooks import choose_chapters, default_parameters
from ovectors.results import CLAIMS, Manifest

UNKNOWN = "not recorded"


def facts(place: runs.Place, manifest: Manifest, run: runs.Made | None) -> dict[str, str]:
    """What is on record of a run, by name; UNKNOWN where nothing is.

    The manifest has what the chapter itself knew, `run` what the batch measured: its sidecar, or
    what was published of it. A run by hand has neither.
    """
    loaded = manifest.provenance.get("model", {})
    found = {
        "Key": run.key if run else None,
        "Model": _model(manifest, run),
        "Number format": loaded.get("dtype"),
        "Device": _device(loaded),
        "Versions": _listed(manifest.provenance.get("versions", {})),
        "Machine": manifest.provenance.get("machine"),
        "Commit": _commit(manifest.provenance),
        "This run": _run_cost(run) if run else None,
        "Measuring": _measuring_cost(place, manifest, run),
        "Parameters": _listed(manifest.parameters),
    }
    told = {name: str(value) if value else UNKNOWN for name, value in found.items()}
    return {**told, "To make it again": command(manifest)}


def command(manifest: Manifest) -> str:
    """The command line that makes the run again, with the parameters that are not the defaults."""
    number = int(manifest.chapter[:2])
    try:
        (chapter,) = choose_chapters([manifest.chapter])
        defaults, across = default_parameters(chapter), chapter.across
    except UserError:  # the chapter is gone: say all that is known
        defaults, across = {}, False
    words = ["ovectors", "run", *([] if across else ["--model", manifest.model])]
    words += ["--chapter", str(number)]
    for name, value in manifest.parameters.items():
        if name != "model" and value != defaults.get(name):
            words += ["--parameter", f"{name}={value}"]
    return shlex.join(words)


def as_html(told: Mapping[str, str]) -> str:
    """Facts as a list of terms and descriptions, on one line."""
    rows = []
    for name, value in told.items():
        shown = html.escape(value)
        if name in ("Key", "To make it again"):
            shown = f"<code>{shown}</code>"
        rows.append(f"<dt>{html.escape(name)}</dt><dd>{shown}</dd>")
    return f'<dl class="made">{"".join(rows)}</dl>'


def _model(manifest: Manifest, run: runs.Made | None) -> str:
    loaded = manifest.provenance.get("model", {})
    if "results" in loaded:  # a chapter across models reads results and loads none
        return f"none: it reads the claims of all models, whose SHA-256 is {loaded['results']}"
    name = loaded.get("name") or manifest.model
    source = f", from {loaded['source']}" if loaded.get("source") else ""
    if revision := loaded.get("commit") or loaded.get("revision"):
        return f"{name}{source}, revision {revision}"
    files = run.parts.get("model", {}).get("files", {}) if run else {}
    weights = [f"{file}: SHA-256 {sha}" for file, sha in files.items() if "safetensors" in file]
    return f"{name}{source}; {', '.join(weights) or f'revision {UNKNOWN}'}"


def _run_cost(run: runs.Made) -> str | None:
    if not run.seconds:  # published from a run by hand
        return None
    tables = run.tables if isinstance(run, runs.Sidecar) else []
    kept = sum(table.how == "known" for table in tables)
    said = f"; {kept} of its {len(tables)} tables were there already" if kept else ""
    return f"{run.seconds:.0f} s, at most {run.peak_memory_bytes / 1e9:.2f} GB of memory{said}"


def _measuring_cost(place: runs.Place, manifest: Manifest, run: runs.Made | None) -> str | None:
    """What all tables of the chapter took when they were measured: its last claim adds them up."""
    files = run.files if run else [saved.file for saved in manifest.files]
    costs = [
        Claim.model_validate_json((place.saved / name).read_bytes()).cost
        for name in files
        if name.startswith(f"{CLAIMS}/")
    ]
    if not (known := [cost for cost in costs if cost]):
        return None
    most = max(known, key=lambda cost: cost.seconds)
    return f"{most.seconds:.0f} s, at most {most.peak_memory_bytes / 1e9:.2f} GB of memory"


def _device(loaded: Mapping[str, Any]) -> str | None:
    placed = sorted({str(one) for one in (loaded.get("device_map") or {}).values()})
    return ", ".join(placed) or loaded.get("device")


def _commit(provenance: Mapping[str, Any]) -> str | None:
    if not provenance.get("commit"):
        return None
    return f"{provenance['commit']}, with{'' if provenance.get('dirty') else 'out'} local changes"


def _listed(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in found.items())
