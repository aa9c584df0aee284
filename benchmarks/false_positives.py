"""How often an interval lies above 0 though the true mean is 0: the one used, and others.

    .venv/bin/python -m benchmarks.false_positives

Writes `benchmarks/false_positives.json`, which the book's page on methods is made from. Differences
are shaped like those of reciprocal ranks: nearly 0 on most items, far from it on a few. A few
minutes on one core; SciPy and NumPy only, no model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import scipy
from jaxtyping import Float
from scipy import stats

from ovectors.statistics import bands, corrected, crossed_mean, mean, share

OUTPUT = Path(__file__).with_name("false_positives.json")
CONFIDENCES = tuple(corrected(relations) for relations in (1, 3, 21))
SIZES = (10, 20, 30, 50, 200)
N_SOURCES, QUESTIONS, COLOURS = 5, 10, 20
RESAMPLES, TRIALS, FEWER, FEWEST = 20_000, 20_000, 4_000, 2_000
BLOCK = 500  # trials at a time, so that their resamples fit into memory
USED, STUDENT, FLIPS, BCA, PERCENTILE = (
    "as used",
    "Student's",
    "sign flips",
    "bootstrap, BCa",
    "bootstrap, percentile",
)
NAIVE = "questions taken as independent"

Rng = np.random.Generator
Draw = Callable[[Rng, tuple[int, ...]], np.ndarray]


def even(rng: Rng, size: tuple[int, ...]) -> np.ndarray:
    """A tenth of the items rises far, a tenth falls far."""
    far = rng.uniform(0.3, 1, size) * rng.choice([-1, 1], size)
    return np.where(rng.random(size) < 0.2, far, 0) + rng.normal(0, 0.02, size)


def few_rise(rng: Rng, size: tuple[int, ...]) -> np.ndarray:
    """A tenth rises far, all others fall a little."""
    far = rng.uniform(0.5, 1, size)
    return np.where(rng.random(size) < 0.1, far, -0.075 / 0.9) + rng.normal(0, 0.02, size)


def few_fall(rng: Rng, size: tuple[int, ...]) -> np.ndarray:
    """A tenth falls far, all others rise a little."""
    return -few_rise(rng, size)


SHAPES: dict[str, Draw] = {
    "as many rise as fall": even,
    "a tenth rises far": few_rise,
    "a tenth falls far": few_fall,
}


def lows(
    values: Float[np.ndarray, "item trial"], rng: Rng, resamples: int = RESAMPLES
) -> dict[str, Float[np.ndarray, "confidence trial"]]:
    """Lower bounds of other intervals for a mean, all trials of a block at once.

    Sign flips: the differences less the bound are no likelier as they are than with signs flipped
    at random. Flipping items is leaving them out, so these bounds are quantiles of the means of
    random halves (Hartigan 1969).
    """
    n = len(values)
    means, tails = values.mean(axis=0), (1 - np.array(CONFIDENCES)) / 2
    counts = rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float32) / n
    drawn = np.sort(counts @ values.astype(np.float32), axis=0)
    kept = rng.random((resamples, n)) < 0.5
    kept = (kept / np.maximum(kept.sum(axis=1, keepdims=True), 1)).astype(np.float32)
    apart = values - means
    bias = stats.norm.ppf(((drawn < means).sum(axis=0) + 0.5) / (resamples + 1))
    bent = (apart**3).sum(axis=0) / (6 * (apart**2).sum(axis=0) ** 1.5)
    shifted = bias + stats.norm.ppf(tails)[:, None]
    places = stats.norm.cdf(bias + shifted / (1 - bent * shifted)) * (resamples - 1)
    error = values.std(axis=0, ddof=1) / np.sqrt(n)
    return {
        STUDENT: means + stats.t.ppf(tails, n - 1)[:, None] * error,
        FLIPS: np.quantile(kept @ values.astype(np.float32), tails, axis=0),
        BCA: np.take_along_axis(drawn, places.round().astype(int), axis=0),
        PERCENTILE: drawn[(tails * (resamples - 1)).round().astype(int)],
    }


def rates(found: np.ndarray, truth: float = 0.0) -> list[float]:
    """The share of lower bounds above the truth, for each confidence."""
    return (np.asarray(found) > truth).mean(axis=-1).tolist()


def one_vector(draw: Draw, n: int, rng: Rng) -> dict[str, list[float]]:
    """Rates of every interval for the mean over n items."""
    values = draw(rng, (n, TRIALS))
    found = {USED: rates([[one.low for one in bands(values, confidence=c)] for c in CONFIDENCES])}
    blocks = [lows(draw(rng, (n, BLOCK)), rng) for _ in range(FEWEST // BLOCK)]
    return found | {name: rates(np.hstack([one[name] for one in blocks])) for name in blocks[0]}


def several_vectors(draw: Draw, n: int, rng: Rng) -> dict[str, list[float]]:
    """Five vectors on n items: some vectors do better on all items, some items are easier for all
    vectors. The intervals used, and a percentile bootstrap that resamples both."""
    spread, resamples = draw(rng, (10_000,)).std(), FEWEST
    counts = [rng.multinomial(k, np.full(k, 1 / k), size=resamples) / k for k in (N_SOURCES, n)]
    tails = (1 - np.array(CONFIDENCES)) / 2
    found: dict[str, list] = {USED: [], PERCENTILE: []}
    for _ in range(FEWER):
        values = draw(rng, (1, n)) + 0.5 * spread * rng.normal(size=(N_SOURCES, 1))
        values = values + 0.3 * spread * rng.normal(size=(N_SOURCES, n))
        found[USED].append([crossed_mean(values, confidence=c).low for c in CONFIDENCES])
        drawn = ((counts[0] @ values) * counts[1]).sum(axis=1)
        found[PERCENTILE].append(np.quantile(drawn, tails))
    return {name: rates(np.transpose(one)) for name, one in found.items()}


def questions(draw: Draw, rng: Rng) -> dict[str, list[float]]:
    """Ten questions about each of twenty colours, of which half show what is special to theirs: a
    design effect of about 3."""
    labels, found = np.repeat(np.arange(COLOURS), QUESTIONS), {USED: [], NAIVE: []}
    for _ in range(FEWER):
        size = (COLOURS, QUESTIONS)
        shared = rng.random(size) < 0.5
        values = np.where(shared, draw(rng, (COLOURS, 1)), draw(rng, size)).ravel()
        for name, clusters in ((USED, labels), (NAIVE, None)):
            asked = [mean(values, clusters=clusters, confidence=c).low for c in CONFIDENCES]
            found[name].append(asked)
    return {name: rates(np.transpose(one)) for name, one in found.items()}


def answered(accuracy: float, rng: Rng) -> dict[str, list[float]]:
    """The same of a share: how often its interval lies above it."""
    labels, found = np.repeat(np.arange(COLOURS), QUESTIONS), {USED: [], NAIVE: []}
    for _ in range(FEWER):
        of_colour = rng.beta(3 * accuracy, 3 * (1 - accuracy), size=(COLOURS, 1))
        outcomes = (rng.random((COLOURS, QUESTIONS)) < of_colour).ravel()
        for name, clusters in ((USED, labels), (NAIVE, None)):
            asked = [share(outcomes, clusters=clusters, confidence=c).low for c in CONFIDENCES]
            found[name].append(asked)
    return {name: rates(np.transpose(one), accuracy) for name, one in found.items()}


def measured(seed: int = 0) -> list[Mapping]:
    """All rows: what is drawn, n, what of (`design`), and the rates of each interval."""
    rng, rows = np.random.default_rng(seed), []
    for shape, draw in SHAPES.items():
        for n in SIZES:
            row = {"shape": shape, "n": n}
            rows.append(row | {"design": "one vector", "rates": one_vector(draw, n, rng)})
            found = several_vectors(draw, n, rng)
            rows.append(row | {"design": f"{N_SOURCES} vectors", "rates": found})
        row = {"shape": shape, "n": COLOURS, "design": f"{QUESTIONS} questions each"}
        rows.append(row | {"rates": questions(draw, rng)})
    for accuracy in (0.1, 0.5, 0.9):
        row = {"shape": f"a share of {accuracy}", "n": COLOURS, "rates": answered(accuracy, rng)}
        rows.append(row | {"design": f"{QUESTIONS} questions each"})
    return rows


if __name__ == "__main__":
    drawn = {"trials": [TRIALS, FEWER, FEWEST], "resamples": [RESAMPLES, FEWEST]}
    versions = {"numpy": np.__version__, "scipy": scipy.__version__}
    told = {"versions": versions, **drawn, "confidences": CONFIDENCES, "rows": measured()}
    OUTPUT.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
