"""Intervals against textbook values, and against the truth they claim to cover."""

import numpy as np
import pytest

from ovectors.statistics import bootstrap_bands, bootstrap_mean, share


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
