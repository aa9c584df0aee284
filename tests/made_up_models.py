"""Runs of several models, for what compares them."""

from __future__ import annotations

from made_up_runs import claim, shares, write_failure, write_run

STAGES, RETRIEVAL, BEYOND = (
    "01_stages_of_processing",
    "04_retrieval_versus_context",
    "07_beyond",
)


def write_stages(
    model: str, values: dict[str, float], parameters: int, *, n: int = 100, **more: float
) -> None:
    found = [claim("stages", model, values, n=n)]
    table = shares(more or {"past_tense": 0.5})
    write_run(STAGES, model, found, table=table, parameters=parameters)


def write_three() -> None:
    """Two language models and a miniature, with something different in every cell."""
    write_stages("gpt2-medium", {"past_tense": 0.9, "uppercase": 0.9}, 355_000_000, uppercase=0.75)
    write_stages("gpt2", {"past_tense": 0.2, "uppercase": 0.85}, 124_000_000, uppercase=0.25)
    write_stages("mini-2m", {"past_tense": 0.8, "uppercase": 0.1}, 2_000_000)
    write_failure(RETRIEVAL, "gpt2", "ZeroDivisionError: division by zero")
    write_failure(RETRIEVAL, "gpt2-medium", "it fails its self-check", refused=True)
    write_run(BEYOND, "gpt2", [claim("beyond", "gpt2", {"a": 0.9}, n=3)])
