"""Figures that can be checked by hand, and an interval that covers what it says."""

import numpy as np
import pytest

from benchmarks import scoring
from benchmarks.scoring import Interval, Place


def test_metric_is_kept_between_the_floor_and_the_start():
    cleaned = scoring.cleaned([1e-12, 0.5, 9.0, np.nan, np.inf], 1e-3, np.float64(2.0))
    np.testing.assert_array_equal(cleaned, [1e-3, 0.5, 2.0, 2.0, 2.0])


def logs(spread, draws=2, instances=2, seeds=2, families=((0, 0), (0, 1), (1, 2))):
    """Place -> log ratios around the family's number, with a draw's own deviation."""
    rng = np.random.default_rng(0)
    return {
        Place(f"t{trade}", f"f{family}", f"f{family}@1.{i}"): (
            0.1 * family + spread * rng.normal() + np.zeros((instances, seeds))
        )
        for trade, family in families
        for i in range(draws)
    }


def test_trades_weigh_alike_and_families_within_them():
    found = scoring.mean(logs(spread=0.0))
    # Trade 0 has families 0 and .1, trade 1 has .2.
    expected = np.exp(np.mean([0.05, 0.2]))
    np.testing.assert_allclose(found, [expected] * 3, rtol=1e-12)
    of_trade = scoring.by_trade(logs(spread=0.0))
    np.testing.assert_allclose(of_trade["t0"].value, np.exp(0.05), rtol=1e-12)
    of_family = scoring.by_family(logs(spread=0.0))
    np.testing.assert_allclose(of_family["f1"].value, np.exp(0.1), rtol=1e-12)


def test_a_unit_is_a_draw_or_an_instance_where_there_is_one_draw():
    values = np.array([[1.0, 3.0], [5.0, 7.0]])
    two = {Place("t", "f", "a"): values, Place("t", "f", "b"): 2 * values}
    np.testing.assert_array_equal(scoring.units(two)["t"]["f"], [4.0, 8.0])
    one = {Place("t", "f", "a"): values}
    np.testing.assert_array_equal(scoring.units(one)["t"]["f"], [2.0, 6.0])


@pytest.mark.parametrize("draws", [2, 4])
def test_the_interval_covers_what_it_says(draws):
    """Twelve families with two or four draws each: 95 % of the intervals hold 0."""
    rng = np.random.default_rng(1)
    held = 0
    for trial in range(300):
        sample = {
            Place(f"t{family // 2}", f"f{family}", f"{family}.{i}"): (
                rng.normal(size=(1, 1))
            )
            for family in range(12)
            for i in range(draws)
        }
        found = scoring.mean(sample, seed=trial)
        held += found.low <= 1.0 <= found.high
    assert 0.90 <= held / 300 <= 0.98


def test_ratios_are_paired_and_clipped():
    place = Place("t", "f", "d")
    finals = {place: np.array([[2.0, 1e9], [1e-9, 1.0]])}
    over = {place: np.array([[1.0, 1.0], [1.0, 4.0]])}
    expected = np.log([[2.0, scoring.CLIP], [1 / scoring.CLIP, 0.25]])
    np.testing.assert_allclose(scoring.log_ratios(finals, over)[place], expected)
    pooled = scoring.pooled([finals, over])[place]
    np.testing.assert_allclose(pooled, (finals[place] + over[place]) / 2)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        (Interval(0.9, 0.8, 0.99), "better"),
        (Interval(0.9, 0.8, 1.01), "tie"),
        (Interval(0.99, 0.985, 0.995), "tie"),  # sure, and too small to matter
        (Interval(1.1, 1.01, 1.2), "worse"),
        (Interval(1.1, 0.99, 1.2), "tie"),
    ],
)
def test_a_difference_counts_where_it_is_sure_and_matters(interval, verdict):
    assert interval.verdict == verdict


def test_an_interval_is_written_with_its_ends():
    assert f"{Interval(1.0, 0.9, 1.1):.2f}" == "1.00 (0.90–1.10)"
    assert Interval(1.0, np.exp(-0.1), np.exp(0.1)).half_width == pytest.approx(0.1)
