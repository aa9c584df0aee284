"""Intervals against textbook values, and against the truth they claim to cover."""

import numpy as np
import pytest

from ovectors.statistics import (
    bootstrap_bands,
    bootstrap_mean,
    corrected,
    crossed_mean,
    nothing,
    paired_difference,
    share,
)


def test_the_bootstrap_agrees_with_the_normal_theory_of_a_mean():
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    found = bootstrap_mean(values)
    margin = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(
        (values.mean() - margin, values.mean() + margin), abs=0.1 * margin
    )
    assert found.n == 400


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        found = bootstrap_mean(rng.exponential(size=60))
        covered += found.low <= 1.0 <= found.high
    assert 0.87 <= covered / 200 <= 0.99


def test_bands_are_the_intervals_of_their_columns():
    values = np.random.default_rng(2).random((50, 3))
    bands = bootstrap_bands(values, seed=4)
    assert [band.value for band in bands] == pytest.approx(values.mean(axis=0).tolist())
    assert all(band.low < band.value < band.high for band in bands)
    # Whole rows are resampled, so a column that is another plus one has that one's band plus one.
    twins = bootstrap_bands(np.column_stack([values[:, 0], values[:, 0] + 1]))
    assert twins[1].low == pytest.approx(twins[0].low + 1)


def test_the_seed_decides():
    values = np.random.default_rng(3).random(30)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


def test_a_share_has_wilsons_interval():
    found = share([True] * 8 + [False] * 2)
    assert (found.value, found.n) == (0.8, 10)
    # Wilson, 1927: centre (p + z^2/2n) / (1 + z^2/n) and its half width, by hand for 8 of 10.
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert share([True] * 20).low == pytest.approx(0.8389, abs=1e-4)  # not 1: it stays honest


def test_one_item_has_no_interval_and_none_is_refused():
    assert np.isnan(bootstrap_mean([0.5]).low)
    with pytest.raises(ValueError, match="no items"):
        bootstrap_mean([])
    with pytest.raises(ValueError, match="no items"):
        share([])


def test_it_prints_with_bounds_and_n():
    assert str(share([True, False] * 50)) == "0.50 [0.40, 0.60], n = 100"


def test_a_paired_difference_is_the_bootstrap_of_the_differences():
    rng = np.random.default_rng(5)
    before = rng.normal(size=80)
    after = before + 0.3 + 0.1 * rng.normal(size=80)
    found = paired_difference(after, before, seed=3)
    assert found.value == pytest.approx((after - before).mean())
    margin = 1.96 * (after - before).std(ddof=1) / np.sqrt(80)
    assert (found.low, found.high) == pytest.approx(
        (found.value - margin, found.value + margin), abs=0.2 * margin
    )
    # Pairs are kept: the spread of items, which both share, does not widen the interval.
    assert found.high - found.low < 0.1 < bootstrap_mean(after).high - bootstrap_mean(after).low
    with pytest.raises(ValueError):
        paired_difference(after, before[:-1])


def resampled_by_loops(values, *, n_resamples, seed):
    """Draw sources and items, each as a whole, one resample at a time."""
    rng = np.random.default_rng(seed)
    sources, items = values.shape
    return np.array(
        [
            values[rng.integers(sources, size=sources)][:, rng.integers(items, size=items)].mean()
            for _ in range(n_resamples)
        ]
    )


def made_up_effects(sources, items, *, seed=6):
    """Values of which some sources are good and some items are easy."""
    rng = np.random.default_rng(seed)
    of_source, of_item = rng.normal(size=(sources, 1)), 0.5 * rng.normal(size=items)
    return of_source + of_item + 0.1 * rng.normal(size=(sources, items))


@pytest.mark.parametrize(("sources", "items"), [(20, 60), (5, 200), (40, 8)])
def test_a_crossed_mean_resamples_sources_and_items(sources, items):
    values = made_up_effects(sources, items)
    found = crossed_mean(values)
    truth = resampled_by_loops(values, n_resamples=4000, seed=7)
    low, high = np.percentile(truth, [2.5, 97.5])
    assert (found.value, found.n) == (pytest.approx(values.mean()), items)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.08 * (high - low))
    # Taken over items alone the interval would be far too narrow.
    narrow = bootstrap_mean(values.mean(axis=0))
    if sources < items:
        assert narrow.high - narrow.low < 0.6 * (found.high - found.low)


def test_a_crossed_mean_covers_the_truth_where_items_alone_do_not():
    rng = np.random.default_rng(8)
    crossed = alone = 0
    for _ in range(200):
        values = made_up_effects(20, 60, seed=rng.integers(2**32))
        interval, naive = crossed_mean(values), bootstrap_mean(values.mean(axis=0))
        crossed += interval.low <= 0 <= interval.high
        alone += naive.low <= 0 <= naive.high
    assert crossed / 200 > 0.85 and alone / 200 < 0.7


def test_a_crossed_mean_of_one_source_is_a_mean_over_items():
    values = made_up_effects(1, 100)
    found, plain = crossed_mean(values), bootstrap_mean(values[0])
    assert found.value == pytest.approx(plain.value)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.03)


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
        bands = bootstrap_bands(data, confidence=corrected(10))
        missed += any(not band.low <= 0 <= band.high for band in bands)
    assert missed / 200 < 0.15
    plain = sum(
        any(not b.low <= 0 <= b.high for b in bootstrap_bands(rng.normal(size=(80, 10))))
        for _ in range(60)
    )
    assert plain / 60 > 0.25


def test_more_confidence_is_a_wider_interval_everywhere():
    values = np.random.default_rng(10).random((6, 30))
    for make in (
        lambda c: crossed_mean(values, confidence=c),
        lambda c: bootstrap_mean(values[0], confidence=c),
        lambda c: paired_difference(values[0], values[1], confidence=c),
        lambda c: share(values[0] > 0.5, confidence=c),
    ):
        usual, strict = make(0.95), make(corrected(5))
        assert strict.low < usual.low and usual.high < strict.high
        assert strict.value == usual.value


def test_nothing_is_known_of_no_items():
    found = nothing()
    assert found.n == 0 and np.isnan([found.value, found.low, found.high]).all()
