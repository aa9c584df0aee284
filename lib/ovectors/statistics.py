"""Intervals for means and shares: computed from SciPy's distributions, always with their n.

Means of differences of reciprocal ranks are skewed and of few items. How often each interval here
excludes the truth is simulated in `benchmarks/false_positives.py`. Nothing is drawn at random: a
`seed` is accepted where callers hand one around, and changes nothing.

Everywhere `clusters` is a label an item, in the items' order. Items of one cluster (questions about
the same colour) are not independent: their mean counts as one, and `n` counts clusters.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with the bounds of its confidence interval and the number of items, or of
    clusters of items."""

    value: float
    low: float
    high: float
    n: int

    def plain(self) -> dict[str, float | int | None]:
        """As it is written to JSON: None for a number that there is not."""
        told = {"value": self.value, "low": self.low, "high": self.high}
        return {name: None if np.isnan(one) else one for name, one in told.items()} | {"n": self.n}

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}], n = {self.n}"


def nothing() -> Interval:
    """What is known of a mean over no items: n = 0, and no number."""
    return Interval(value=np.nan, low=np.nan, high=np.nan, n=0)


def per_cluster(
    values: Float[np.ndarray, "item column"], clusters: Collection[Hashable] | None
) -> Float[np.ndarray, "cluster column"]:
    """The mean over the items of each cluster, in the order in which clusters first occur.

    Each item is a cluster of its own without `clusters`. ValueError where labels are too few or
    too many.
    """
    values = np.asarray(values, dtype=np.float64)
    if clusters is None:
        return values
    places = {label: place for place, label in enumerate(dict.fromkeys(clusters))}
    at = np.array([places[label] for label in clusters], dtype=int)
    if len(at) != len(values):
        raise ValueError(f"{len(at)} labels of clusters for {len(values)} items")
    sums = np.zeros((len(places), *values.shape[1:]))
    np.add.at(sums, at, values)
    return sums / np.bincount(at, minlength=len(places))[:, None]


def bands(
    values: Float[np.ndarray, "item column"],
    *,
    clusters: Collection[Hashable] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Interval]:
    """Mean over items with its interval, one per column (say, per layer); see `_bounds`.

    Numbers that all lie between 0 and 1, as ranks' reciprocals do, have bounds that do. A column of
    truth values that are all the same has the bounds of a `share`. A single item gives the interval
    (nan, nan); no item at all raises ValueError.
    """
    values = np.asarray(values)
    if len(values) == 0:
        raise ValueError("no items to average")
    wide = per_cluster(values, clusters)
    low, high = _within(values, *_bounds(wide, confidence))
    found = [
        Interval(value=float(m), low=float(lo), high=float(hi), n=len(wide))
        for m, lo, hi in zip(wide.mean(axis=0), low, high, strict=True)
    ]
    if values.dtype == bool:
        for column in np.flatnonzero((values == values[0]).all(axis=0)):
            found[column] = share(values[:, column], clusters=clusters, confidence=confidence)
    return found


def mean(
    values: Sequence[float] | Float[np.ndarray, " item"],
    *,
    clusters: Collection[Hashable] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean over items with its interval; see `bands`."""
    column = np.asarray(values)[:, None]
    return bands(column, clusters=clusters, confidence=confidence)[0]


def _bounds(
    values: Float[np.ndarray, "cluster column"], confidence: float
) -> tuple[Float[np.ndarray, " column"], Float[np.ndarray, " column"]]:
    """The wider, on either side, of Student's interval and of Hall's, which allows for skewness.

    Student's excludes 0 too often where a few large values of one sign balance many small ones of
    the other; Hall's (1992: a cubic transformation of Student's t that removes its skewness) does
    where values are few and their skewness is chance. Neither of a single value.
    """
    n = len(values)
    means = values.mean(axis=0)
    if n == 1:
        return np.full_like(means, np.nan), np.full_like(means, np.nan)
    spread = values.std(axis=0)
    far = stats.t.ppf((1 + confidence) / 2, n - 1)
    cubed = ((values - means) ** 3).mean(axis=0)
    skewness = np.divide(cubed, spread**3, out=np.zeros_like(means), where=spread > 0)
    bent = np.where(np.abs(skewness) < 1e-6, 1e-6, skewness) / np.sqrt(n)
    error = spread / np.sqrt(n - 1)
    low, high = (
        means - error * 3 / bent * (np.cbrt(1 + bent * (t - bent / 6)) - 1) for t in (far, -far)
    )
    return np.minimum(low, means - far * error), np.maximum(high, means + far * error)


def _within(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds between 0 and 1 where all values are."""
    if values.min() >= 0 and values.max() <= 1:
        return np.clip(low, 0, 1), np.clip(high, 0, 1)
    return low, high


def share(
    outcomes: Sequence[bool] | Bool[np.ndarray, " item"],
    *,
    clusters: Collection[Hashable] | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Share of true outcomes with Wilson's interval, which keeps its width at 0 and at 1.

    With clusters of more than one item: Wilson's for the number of independent items that would
    leave as much uncertainty as the clusters' means have, at least the clusters and at most the
    items, with Student's quantile for that many clusters in place of the normal one.
    """
    outcomes = np.asarray(outcomes, dtype=bool)
    if len(outcomes) == 0:
        raise ValueError("no items to count")
    means = per_cluster(outcomes[:, None], clusters)[:, 0]
    k, value = len(means), float(means.mean())
    n, z = len(outcomes), stats.norm.ppf((1 + confidence) / 2)
    if k == 1 < n:
        return Interval(value=value, low=np.nan, high=np.nan, n=1)
    if k < n:
        z, uncertain = stats.t.ppf((1 + confidence) / 2, k - 1), means.var(ddof=1) / k
        certain = 0 < value < 1  # whether one can tell how alike the items of a cluster are
        n = max(k, min(n, value * (1 - value) / uncertain if uncertain else n if certain else k))
    centre = (value + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(value * (1 - value) / n + z**2 / (4 * n**2))
    low = 0.0 if value == 0 else float(centre - half)  # to the last digit
    high = 1.0 if value == 1 else float(centre + half)
    return Interval(value=value, low=low, high=high, n=k)


def paired_difference(
    after: Sequence[float] | Float[np.ndarray, " item"],
    before: Sequence[float] | Float[np.ndarray, " item"],
    *,
    clusters: Collection[Hashable] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean of `after - before` over the same items, with the interval of a `mean`."""
    differences = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    return mean(differences, clusters=clusters, confidence=confidence)


def crossed_mean(
    values: Float[np.ndarray, "source item"],
    *,
    clusters: Collection[Hashable] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean over sources and items, either of which might have been others.

    For a measurement made with every source (a vector of one example) on every item: items share
    their sources, so neither axis alone carries the uncertainty. The distance of each bound is that
    of the items' means (`_bounds`) and that of as many sources, by Student's t, added as squares.
    Sources differ by what their means vary beyond the chance of so many items (two-way analysis of
    variance). `n` counts items, or clusters of them. With a single source the interval is over
    items only. ValueError where there is nothing to average.
    """
    values = np.asarray(values)
    if not values.size:
        raise ValueError("no sources or no items to average")
    if values.dtype == bool and (values == values[0, 0]).all():
        return share(values[0], clusters=clusters, confidence=confidence)
    wide = per_cluster(values.T, clusters).T
    (n_sources, n), value = wide.shape, wide.mean()
    of_items, of_sources = wide.mean(axis=0), wide.mean(axis=1)
    low, high = _bounds(of_items[:, None], confidence)
    if min(n_sources, n) > 1:
        rest = wide - of_sources[:, None] - of_items + value
        by_chance = (rest**2).sum() / ((n_sources - 1) * (n - 1) * n)
        variance = max(0, of_sources.var(ddof=1) - by_chance) / n_sources
        far = stats.t.ppf((1 + confidence) / 2, n_sources - 1) * np.sqrt(variance)
        low, high = value - np.hypot(value - low, far), value + np.hypot(high - value, far)
    low, high = _within(values, low, high)
    return Interval(value=float(value), low=float(low[0]), high=float(high[0]), n=n)


def corrected(comparisons: int, *, confidence: float = 0.95) -> float:
    """The confidence of each of several intervals that shall hold together (Bonferroni)."""
    return 1 - (1 - confidence) / max(1, comparisons)
