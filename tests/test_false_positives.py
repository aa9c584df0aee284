"""The simulation of false positives, its table, and the least n that follows from it."""

import json
from itertools import product

import numpy as np
import pytest
from benchmarks import false_positives as simulation
from scipy import stats

from ovectors import paths
from ovectors.claims import LEAST_ITEMS
from ovectors.prose import false_positives as say


@pytest.mark.parametrize("draw", simulation.SHAPES.values())
def test_the_true_mean_of_every_shape_is_0(draw):
    values = draw(np.random.default_rng(0), (400_000,))
    assert abs(values.mean()) < 4 * stats.sem(values) < 0.002
    assert 0.1 <= (np.abs(values) > 0.25).mean() <= 0.21


def test_other_intervals_are_those_of_scipy_and_of_all_flips():
    values = simulation.few_fall(np.random.default_rng(1), (12, 1)) + 0.1
    found = simulation.lows(values, np.random.default_rng(2))
    width = values.std() / 12**0.5
    for name, method in ((simulation.BCA, "BCa"), (simulation.PERCENTILE, "percentile")):
        known = stats.bootstrap(
            (values[:, 0],), np.mean, n_resamples=20_000, method=method, rng=np.random.default_rng()
        )
        assert found[name][0] == pytest.approx(known.confidence_interval.low, abs=0.1 * width)
    assert found[simulation.STUDENT][0] == pytest.approx(
        stats.t.interval(0.95, 11, values.mean(), stats.sem(values[:, 0]))[0]
    )
    # At the bound the sum of the differences less it is exceeded by 2.5% of all signs' sums.
    signs = np.array(list(product((1, -1), repeat=12)))
    apart = values[:, 0] - found[simulation.FLIPS][0]
    assert ((signs @ apart) >= apart.sum()).mean() == pytest.approx(0.025, abs=0.005)


def made_up(*rates):
    """One vector, at 10, 20 and 50 items, and a second design."""
    row = {"shape": "even", "design": "one vector"}
    rows = [
        row | {"n": n, "rates": {"as used": [0.02, rate, 0.0], "other": [0.1, 0.05, 0.01]}}
        for n, rate in zip((10, 20, 50), rates, strict=True)
    ]
    more = {"shape": "even", "n": 10, "design": "5 vectors", "rates": {"as used": [0.5] * 3}}
    return {"rows": [rows[0], more, *rows[1:]]}


def test_the_table_has_every_rate_in_per_cent():
    lines = say.rate_table(made_up(0.25, 0.125, 0.00831)).splitlines()
    assert lines[0] == "| differences | measured with | n | as used | other |"
    assert lines[2] == "| even | one vector | 10 | 2 / 25 / 0 | 10 / 5 / 1 |"
    assert "2 / 0.83 / 0" in lines[4]
    assert lines[5] == "| even | 5 vectors | 10 | 50 / 50 / 50 |  |"


def test_the_least_n_keeps_two_of_three_relations_apart_from_chance():
    said = say.least_sentence(made_up(0.25, 0.125, 0.2))  # 3 p^2 - 2 p^3
    assert "15.6% with 10, 4.3% with 20, 10.4% with 50" in said
    assert "20 is the smallest" not in said  # what holds at 20 and not at 50 is no rule
    assert "20 is the smallest n here" in say.least_sentence(made_up(0.25, 0.125, 0.0))


@pytest.mark.skipif(not (paths.ROOT / say.RESULTS).is_file(), reason="not simulated yet")
def test_the_rules_ask_for_what_the_committed_simulation_says():
    found = json.loads((paths.ROOT / say.RESULTS).read_text("utf-8"))
    assert f"{LEAST_ITEMS} is the smallest n here" in say.least_sentence(found)
    used = {(r["shape"], r["n"]): r["rates"]["as used"] for r in found["rows"] if r["n"] >= 50}
    nominal = [(1 - one) / 2 for one in found["confidences"]]
    for key, rates in used.items():
        assert rates[0] <= 1.2 * nominal[0] and rates[1] <= 1.2 * nominal[1], key
    assert say.false_positives().startswith("| differences |")
