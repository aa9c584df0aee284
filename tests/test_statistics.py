"""Intervals against SciPy's, formulas by hand, and the truth that they claim to cover."""

from dataclasses import asdict

import numpy as np
import pytest
from scipy import stats

from ovectors.statistics import (
    bands,
    corrected,
    crossed_mean,
    mean,
    nothing,
    paired_difference,
    per_cluster,
    share,
)


def alike(one, other):
    """The same interval, but for rounding."""
    return asdict(one) == pytest.approx(asdict(other))


@pytest.mark.parametrize("confidence", [0.95, corrected(21)])
def test_a_mean_without_skewness_has_students_interval(confidence):
    half = np.random.default_rng(0).normal(size=30)
    values = np.concatenate([3 + half, 3 - half])
    found = mean(values, confidence=confidence)
    student = stats.t.interval(confidence, 59, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(student)
    assert (found.value, found.n) == (pytest.approx(3), 60)


def hall(t, skewness, n):
    """Hall's transformation of Student's t, as he states it (1992, equation 2.1)."""
    a, b = 1 / 3, 1 / 6
    bent = t + a * skewness * t**2 / n**0.5 + a**2 * skewness**2 * t**3 / (3 * n)
    return bent + b * skewness / n**0.5


def test_a_skewed_mean_has_halls_bound_where_that_is_farther_out():
    values = np.random.default_rng(1).exponential(size=40) - 3
    found = mean(values)
    error, skewness, far = stats.sem(values), stats.skew(values), stats.t.ppf(0.975, 39)
    assert found.low == pytest.approx(values.mean() - far * error)
    transformed = hall((values.mean() - found.high) / error, skewness, 40)
    assert transformed == pytest.approx(-far)
    assert found.high > values.mean() + 1.2 * far * error
    turned = mean(-values)  # and the other way round
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def skewed(rng, size):
    """Differences of mean 0: a tenth falls far, the others rise a little."""
    far = rng.uniform(-1, -0.5, size)
    return np.where(rng.random(size) < 0.1, far, 0.075 / 0.9) + rng.normal(0, 0.02, size)


def test_intervals_exclude_the_truth_no_more_often_than_they_say():
    rng = np.random.default_rng(1)
    values = {"normal": rng.normal(size=(60, 4000)), "skewed": skewed(rng, (60, 4000))}
    values["and back"] = -values["skewed"]
    for name, drawn in values.items():
        for confidence in (0.95, corrected(3)):
            found = bands(drawn, confidence=confidence)
            above = np.mean([one.low > 0 for one in found])
            below = np.mean([one.high < 0 for one in found])
            assert max(above, below) < 1.3 * (1 - confidence) / 2, (name, confidence)
            # An interval that is always wide enough would say nothing.
            assert max(above, below) > 0.2 * (1 - confidence) / 2, (name, confidence)
        if name == "skewed":  # what Student's interval alone would do
            margin = stats.t.ppf(0.975, 59) * stats.sem(drawn)
            assert np.mean(drawn.mean(axis=0) > margin) > 0.05


def test_bands_are_the_intervals_of_their_columns():
    values = np.random.default_rng(2).random((50, 3))
    assert all(alike(*pair) for pair in zip(bands(values), map(mean, values.T), strict=True))


def test_what_lies_between_0_and_1_has_bounds_that_do():
    values = np.r_[np.full(30, 0.001), 1.0]
    found = mean(values)
    assert found.low == 0 < found.value < found.high <= 1
    assert mean(values - 0.5).low < -0.5  # what a difference may be is not known
    assert crossed_mean(np.stack([values, values])).low == 0


def test_a_share_has_wilsons_interval():
    found = share([True] * 8 + [False] * 2)
    assert (found.value, found.n) == (0.8, 10)
    # Wilson, 1927: centre (p + z^2/2n) / (1 + z^2/n) and its half width, by hand for 8 of 10.
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert share([True] * 20).low == pytest.approx(0.8389, abs=1e-4)  # not 1: it stays honest
    for count in (0, 3, 29, 30):
        found = share([True] * count + [False] * (30 - count), confidence=0.99)
        known = stats.binomtest(count, 30).proportion_ci(0.99, method="wilson")
        assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=1e-12)


def test_items_of_one_cluster_count_by_their_mean():
    values = np.array([[1.0, 0.0], [4.0, 1.0], [3.0, 2.0]])
    assert per_cluster(values, "aba").tolist() == [[2.0, 1.0], [4.0, 1.0]]
    assert per_cluster(values, None).tolist() == per_cluster(values, "xyz").tolist()
    with pytest.raises(ValueError, match="2 labels of clusters for 3 items"):
        per_cluster(values, "ab")
    rng = np.random.default_rng(3)
    values, labels = rng.normal(size=(4, 60)), np.repeat(np.arange(30), 2)
    pairs = values.reshape(4, 30, 2).mean(axis=2)
    assert alike(mean(values[0], clusters=labels), mean(pairs[0]))
    assert alike(crossed_mean(values, clusters=labels), crossed_mean(pairs))
    difference = paired_difference(values[0], values[1], clusters=labels)
    assert alike(difference, mean(pairs[0] - pairs[1])) and difference.n == 30
    assert alike(bands(values.T, clusters=labels)[3], mean(pairs[3]))


def test_a_share_of_clusters_lies_between_that_of_items_and_that_of_so_few():
    rng = np.random.default_rng(4)
    labels = np.repeat(np.arange(20), 10)
    apart = rng.random(200) < 0.5  # of one cluster no more alike than of two
    together = np.repeat(rng.random(20) < 0.5, 10)
    found, same = share(apart, clusters=labels), share(together, clusters=labels)
    assert found.n == same.n == 20 and share(apart).n == 200
    assert found.high - found.low < 1.25 * (share(apart).high - share(apart).low)
    few = share(together[::10])
    assert 1 < (same.high - same.low) / (few.high - few.low) < 1.15
    # One cannot tell how alike they are where all are the same: then clusters are what counts.
    every = share([True] * 200, clusters=labels)
    assert every.high == pytest.approx(1) and every.low < share([True] * 20).low
    assert np.isnan(share([True] * 9 + [False], clusters=[1] * 10).low)
    assert share(apart, clusters=range(200)) == share(apart)


def test_clustered_intervals_cover_the_truth_where_others_do_not():
    rng = np.random.default_rng(5)
    labels = np.repeat(np.arange(20), 10)
    missed = dict.fromkeys(("means", "shares", "naive means", "naive shares"), 0)
    for _ in range(500):
        # An intraclass correlation of 2/9: a design effect of 1 + 9 * 2/9 = 3.
        values = np.sqrt(2 / 9) * rng.normal(size=(20, 1)) + np.sqrt(7 / 9) * rng.normal(
            size=(20, 10)
        )
        of_cluster = rng.beta(7 / 4, 7 / 4, size=(20, 1))  # likewise: 1 / (1 + 7/2) = 2/9
        right = (rng.random((20, 10)) < of_cluster).ravel()
        for name, clusters in (("", labels), ("naive ", None)):
            one = mean(values.ravel(), clusters=clusters)
            missed[f"{name}means"] += not one.low <= 0 <= one.high
            one = share(right, clusters=clusters)
            missed[f"{name}shares"] += not one.low <= 0.5 <= one.high
    assert missed["means"] / 500 < 0.08 and missed["shares"] / 500 < 0.08
    assert missed["naive means"] / 500 > 0.2 and missed["naive shares"] / 500 > 0.2


def test_shares_that_are_all_alike_keep_their_width():
    every = np.ones((40, 2), dtype=bool)
    assert bands(every) == [share(every[:, 0])] * 2
    assert crossed_mean(every.T) == share(every[:, 0])
    some = every.copy()
    some[:5, 1] = False
    assert bands(some)[0] == share(every[:, 0]) and bands(some)[1] == mean(some[:, 1])


def test_one_item_has_no_interval_and_none_is_refused():
    assert np.isnan(mean([0.5]).low)
    with pytest.raises(ValueError, match="no items"):
        mean([])
    with pytest.raises(ValueError, match="no items"):
        share([])


def test_it_prints_with_bounds_and_n():
    assert str(share([True, False] * 50)) == "0.50 [0.40, 0.60], n = 100"


def test_a_paired_difference_is_the_mean_of_the_differences():
    rng = np.random.default_rng(5)
    before = rng.normal(size=80)
    after = before + 0.3 + 0.1 * rng.normal(size=80)
    found = paired_difference(after, before)
    assert found.value == pytest.approx((after - before).mean())
    margin = 1.96 * (after - before).std(ddof=1) / np.sqrt(80)
    assert (found.low, found.high) == pytest.approx(
        (found.value - margin, found.value + margin), abs=0.2 * margin
    )
    # Pairs are kept: the spread of items, which both share, does not widen the interval.
    assert found.high - found.low < 0.1 < mean(after).high - mean(after).low
    with pytest.raises(ValueError):
        paired_difference(after, before[:-1])


def made_up_effects(sources, items, *, seed=6):
    """Values of which some sources are good and some items are easy."""
    rng = np.random.default_rng(seed)
    of_source, of_item = rng.normal(size=(sources, 1)), 0.5 * rng.normal(size=items)
    return of_source + of_item + 0.1 * rng.normal(size=(sources, items))


@pytest.mark.parametrize(("sources", "items"), [(20, 60), (5, 200), (40, 8)])
def test_a_crossed_mean_has_the_variance_of_a_two_way_design(sources, items):
    values = made_up_effects(sources, items)
    found = crossed_mean(values)
    # The components by the textbook (Searle, Casella and McCulloch, 1992), from sums of squares.
    total, rows, columns = values.mean(), values.mean(axis=1), values.mean(axis=0)
    of_sources = items * ((rows - total) ** 2).sum() / (sources - 1)
    rest = ((values - rows[:, None] - columns + total) ** 2).sum() / ((sources - 1) * (items - 1))
    component = (of_sources - rest) / items
    far = stats.t.ppf(0.975, sources - 1) * (component / sources) ** 0.5
    of_items = mean(columns)
    assert total - found.low == pytest.approx(np.hypot(total - of_items.low, far))
    assert found.high - total == pytest.approx(np.hypot(of_items.high - total, far))
    assert (found.value, found.n) == (pytest.approx(values.mean()), items)
    # Taken over items alone the interval would be far too narrow.
    if sources < items:
        narrow = mean(columns)
        assert narrow.high - narrow.low < 0.5 * (found.high - found.low)


def test_five_sources_do_not_pass_for_many():
    """With five sources, all on one side by chance in one of 16 cases, resampling them would."""
    rng = np.random.default_rng(11)
    above = dict.fromkeys((1, 3, 21), 0)
    for _ in range(1500):
        values = rng.normal(size=(5, 1)) + 0.5 * rng.normal(size=(5, 50))
        for relations in above:
            above[relations] += crossed_mean(values, confidence=corrected(relations)).low > 0
    assert 0.01 < above[1] / 1500 < 0.04 and above[3] / 1500 < 0.02 and above[21] / 1500 < 0.005


def test_a_crossed_mean_covers_the_truth_where_items_alone_do_not():
    rng = np.random.default_rng(8)
    crossed = alone = 0
    for _ in range(200):
        values = made_up_effects(20, 60, seed=rng.integers(2**32))
        interval, naive = crossed_mean(values), mean(values.mean(axis=0))
        crossed += interval.low <= 0 <= interval.high
        alone += naive.low <= 0 <= naive.high
    assert crossed / 200 > 0.85 and alone / 200 < 0.7


def test_a_crossed_mean_of_one_source_is_a_mean_over_items():
    values = made_up_effects(1, 100)
    assert crossed_mean(values) == mean(values[0])


def test_a_crossed_mean_of_one_item_has_no_interval_and_of_nothing_is_refused():
    found = crossed_mean(np.ones((5, 1)))
    assert (found.value, found.n) == (1.0, 1) and np.isnan(found.low) and np.isnan(found.high)
    for shape in ((0, 3), (3, 0)):
        with pytest.raises(ValueError, match="no sources or no items"):
            crossed_mean(np.ones(shape))


def test_corrected_confidence_holds_for_all_intervals_together():
    assert corrected(1) == corrected(0) == pytest.approx(0.95)
    assert corrected(5) == pytest.approx(0.99)
    assert corrected(4, confidence=0.9) == pytest.approx(0.975)
    # Ten intervals of that confidence miss at least one of their ten truths in about 5% of cases.
    rng = np.random.default_rng(9)
    missed = 0
    for _ in range(200):
        data = rng.normal(size=(80, 10))
        found = bands(data, confidence=corrected(10))
        missed += any(not one.low <= 0 <= one.high for one in found)
    assert missed / 200 < 0.15
    plain = sum(
        any(not b.low <= 0 <= b.high for b in bands(rng.normal(size=(80, 10)))) for _ in range(60)
    )
    assert plain / 60 > 0.25


def test_more_confidence_is_a_wider_interval_everywhere():
    values = np.random.default_rng(10).random((6, 30))
    for make in (
        lambda c: crossed_mean(values, confidence=c),
        lambda c: mean(values[0], confidence=c),
        lambda c: paired_difference(values[0], values[1], confidence=c),
        lambda c: share(values[0] > 0.5, confidence=c),
    ):
        usual, strict = make(0.95), make(corrected(5))
        assert strict.low < usual.low and usual.high < strict.high
        assert strict.value == usual.value


def test_nothing_is_known_of_no_items():
    found = nothing()
    assert found.n == 0 and np.isnan([found.value, found.low, found.high]).all()
