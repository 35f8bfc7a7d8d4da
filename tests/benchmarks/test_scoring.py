import numpy as np
import pytest

from benchmarks import scoring

INF = np.inf


def test_metric_is_kept_between_the_floor_and_the_start():
    metric = np.array([np.nan, INF, -INF, 50.0, 3.0, 1e-9])
    cleaned = scoring.cleaned(metric, floor=1e-3, cap=10.0)
    np.testing.assert_array_equal(cleaned, [10.0, 10.0, 10.0, 10.0, 3.0, 1e-3])


def test_a_run_has_diverged_if_it_ends_worse_than_it_began():
    final = np.array([np.nan, INF, 10.1, 10.0, 0.0])
    np.testing.assert_array_equal(
        scoring.diverged(final, cap=10.0), [True, True, True, False, False]
    )


def test_time_to_target_is_the_first_evaluation_at_it():
    steps = np.array([0, 10, 20, 30])
    curves = [[9, 5, 2, 1], [9, 2, 5, 5], [9, 9, np.nan, INF], [1, 1, 1, 1]]
    times = scoring.time_to_target(np.array(curves), steps, target=2.0)
    np.testing.assert_array_equal(times, [20.0, 10.0, INF, 0.0])


# Three peers, four workloads. The first is fastest on two, the third diverges always,
# the last workload nobody solves.
TIMES = np.array(
    [
        [10.0, 10.0, 40.0, INF],
        [20.0, 10.0, 10.0, INF],
        [INF, INF, INF, INF],
    ]
)


def test_profile_of_a_known_staircase():
    ratios = scoring.ratios_to_best(TIMES)
    np.testing.assert_array_equal(ratios[0], [1.0, 1.0, 4.0, INF])
    profile = scoring.profile(ratios, np.array([1.0, 1.99, 2.0, 3.99, 4.0]))
    np.testing.assert_array_equal(profile[0], [0.5, 0.5, 0.5, 0.5, 0.75])
    np.testing.assert_array_equal(profile[1], [0.5, 0.5, 0.75, 0.75, 0.75])
    np.testing.assert_array_equal(profile[2], 0.0)


def test_score_is_the_integral_of_the_profile():
    ratios = scoring.ratios_to_best(TIMES)
    # First: half the workloads over all of [1, 4]. Second: those and a quarter from 2.
    expected = [0.5, 0.5 + 0.25 * 2 / 3, 0.0]
    np.testing.assert_allclose(scoring.integrated_score(ratios), expected)
    taus = np.linspace(1.0, 4.0, 300_001)
    profile = scoring.profile(ratios, taus)
    numeric = np.trapezoid(profile, taus, axis=1) / 3.0
    np.testing.assert_allclose(numeric, expected, atol=1e-4)


def test_a_peer_that_always_diverges_ranks_last_and_a_tie_shares_the_better_rank():
    np.testing.assert_array_equal(scoring.ranks(np.array([0.5, 0.7, 0.0])), [2, 1, 3])
    np.testing.assert_array_equal(
        scoring.ranks(np.array([0.5, 0.7, 0.5, 0.1])), [2, 1, 2, 4]
    )


def test_scores_of_identical_peers_are_equal_in_every_draw():
    rng = np.random.default_rng(0)
    times = rng.integers(1, 30, size=(1, 6, 5)).astype(float)
    scores = scoring.score(np.concatenate([times, times]))
    assert scores[0] == scores[1]
    assert scores[0].value == 1.0  # both are always the fastest


def test_score_takes_the_median_over_seeds():
    times = np.full((2, 1, 5), 10.0)
    times[1, 0] = [20.0, 20.0, 20.0, INF, INF]
    assert [s.value for s in scoring.score(times)] == [1.0, pytest.approx(2 / 3)]
    times[1, 0, 2] = INF  # most seeds never get there
    assert [s.value for s in scoring.score(times)] == [1.0, 0.0]


def test_geometric_mean_of_medians():
    ratios = np.array([[1.0, 4.0, 9.0], [0.25, 0.25, 100.0]])
    interval = scoring.geometric_mean(ratios)
    assert interval.value == pytest.approx(1.0)
    assert interval.low < 1.0 < interval.high


def test_progress_is_a_share_of_the_way_on_a_log_scale():
    start, oracle = np.array([[100.0], [8.0]]), np.array([[0.01], [2.0]])
    gone = scoring.progress(np.array([[1.0], [8.0]]), start, oracle)
    assert gone.value == pytest.approx(0.25)  # half of the one, nothing of the other
    assert scoring.progress(oracle, start, oracle).value == pytest.approx(1.0)


def test_interval_covers_the_spread_over_workloads_and_over_seeds():
    flat = scoring.geometric_mean(np.full((8, 5), 2.0))
    assert flat.low == flat.high == pytest.approx(2.0)
    by_workload = np.repeat(np.geomspace(0.5, 8.0, 8)[:, None], 5, axis=1)
    by_seed = np.repeat(np.geomspace(0.5, 8.0, 5)[None], 8, axis=0)
    for ratios in (by_workload, by_seed):
        interval = scoring.geometric_mean(ratios)
        assert interval.low < 0.95 * interval.value < 1.05 * interval.value
        assert interval.high > 1.05 * interval.value


def test_bootstrap_interval_has_about_its_coverage():
    rng = np.random.default_rng(1)
    covered = 0
    for repeat in range(60):
        ratios = np.exp(rng.normal(0.3, 0.5, size=(16, 1)) + np.zeros((16, 5)))
        interval = scoring.geometric_mean(ratios, seed=repeat)
        covered += interval.low <= np.exp(0.3) <= interval.high
    assert 48 <= covered <= 60


def test_recovery_is_counted_when_it_lasts():
    steps = np.array([0, 10, 20, 30, 40, 50])
    curves = np.array(
        [
            [9, 1, 5, 1, 1, 1],  # back at 30
            [9, 1, 1, 5, 1, 1],  # dips below once, relapses, then is back at 40
            [9, 1, 5, 5, 5, 5],  # never
            [9, 1, 1, 1, 1, 1],  # never left
            [9, 1, 5, np.nan, 1, 1],
        ]
    )
    recovered = scoring.steps_to_recover(curves, steps, disturbed_at=10, level=2.0)
    np.testing.assert_array_equal(recovered, [20.0, 30.0, INF, 10.0, 30.0])
