"""Rules of one measurement, each driven through the plain situation it was made for."""

import math

import numpy as np
import pytest

from adaptive_optax import rules
from tests.rules.driving import autocorrelated, moves
from tests.rules.signal_streams import one_step, run_rule, steps


@pytest.mark.parametrize(
    "make, field", [(rules.trend, "loss__trend"), (rules.reward, "reward__trend")]
)
class TestTrendAndReward:
    def test_up_on_progress_down_on_regress_else_hold(self, make, field):
        z = {field: [3.0, -3.0, 0.5, -0.5], "reward__arrived": True}
        expected = [math.log(1.1), math.log(0.7), 0.0, 0.0]
        np.testing.assert_allclose(
            moves(make(up=1.1, down=0.7), 4, **z), expected, rtol=1e-5
        )

    def test_pure_noise_has_no_drift(self, make, field):
        z = autocorrelated(0, 40_000)
        deltas = moves(make(), len(z), **{field: z, "reward__arrived": True})
        assert (deltas != 0).mean() > 0.2
        assert abs(deltas.mean()) < 5e-4

    def test_a_restore_holds(self, make, field):
        z = {field: 5.0, "reward__arrived": True, "standing__restored": True}
        assert moves(make(), 1, **z) == 0.0


class TestVariance:
    def test_damps_and_gives_back_exactly(self):
        v = [1.0, 2.0, 5.0, 3.0, 1.0, 0.2]
        deltas = moves(
            rules.variance(strength=0.5, deadzone=1.0), 6, loss__variance_ratio=v
        )
        divisors = 1 + 0.5 * np.array([0, 1, 4, 2, 0, 0])
        np.testing.assert_allclose(np.exp(np.cumsum(deltas)), 1 / divisors, rtol=1e-6)
        assert deltas[5] == 0.0

    def test_usual_noise_is_left_alone(self):
        assert not moves(
            rules.variance(), 3, loss__variance_ratio=[1.0, 1.9, 0.5]
        ).any()

    def test_a_restore_keeps_the_offset_to_give_back(self):
        deltas = moves(
            rules.variance(),
            3,
            loss__variance_ratio=[6.0, 1.0, 1.0],
            standing__restored=[False, True, False],
        )
        assert deltas[0] < 0 and deltas[1] == 0 and deltas[2] == -deltas[0]


class TestGradNorm:
    def test_backs_off_at_once_and_returns_step_by_step(self):
        z = np.r_[0.0, 6.0, np.zeros(10)]
        deltas = moves(rules.grad_norm(threshold=3.0, up=1.5), len(z), grad_norm_z=z)
        gain = np.exp(np.cumsum(deltas))
        expected = np.minimum(np.r_[1, 0.25, 0.25 * 1.5 ** np.arange(1, 11)], 1)
        np.testing.assert_allclose(gain, expected, rtol=1e-5)
        assert deltas[-1] == 0.0

    def test_a_small_gradient_is_no_spike(self):
        assert not moves(rules.grad_norm(), 2, grad_norm_z=[-9.0, 2.9]).any()

    def test_a_spike_that_overflows_holds_and_leaves_nothing_behind(self):
        stream = steps(2, grad_norm_z=[1e30, 0.0])
        deltas, state = run_rule(rules.grad_norm(strength=1e30), stream)
        assert not deltas.any() and float(state.grad_norm_offset) == 0.0


class TestCyclical:
    @pytest.mark.parametrize("shape", ["triangular", "sine"])
    def test_swings_around_the_centre_without_drift(self, shape):
        rule = rules.cyclical(amplitude=0.5, period=8, shape=shape)
        deltas = moves(rule, 801)
        position = np.cumsum(deltas, dtype=np.float64)
        np.testing.assert_allclose(position[::4], 0.0, atol=1e-6)
        np.testing.assert_allclose(position[2::8], 0.5, atol=1e-6)
        np.testing.assert_allclose(position[6::8], -0.5, atol=1e-6)

    def test_keeps_counting_steps_beyond_float32(self):
        rule = rules.cyclical(amplitude=1.0, period=4)
        _, state = run_rule(rule, steps(1, count=[2**24 + 1]))
        assert float(state.cyclical_offset) == 1.0


class TestPlateau:
    rule = rules.plateau(factor=0.5, patience=5, cooldown=7)

    def test_drops_once_then_holds(self):
        deltas = moves(self.rule, 6 + 7)
        assert np.flatnonzero(deltas).tolist() == [5]
        assert deltas[5] == pytest.approx(math.log(0.5))

    def test_drops_again_if_it_stays_level_after_the_cooldown(self):
        assert np.flatnonzero(moves(self.rule, 30)).tolist() == [5, 5 + 7 + 5, 29]

    def test_an_improving_loss_is_left_alone(self):
        assert not moves(self.rule, 200, loss__fast=-np.arange(200.0)).any()

    def test_improvement_within_the_noise_does_not_count(self):
        loss = 1.0 - 1e-4 * np.arange(8)
        assert moves(self.rule, 8, loss__fast=loss).any()
        assert not moves(self.rule, 8, loss__fast=loss, loss__noise=1e-5).any()

    def test_a_spike_then_a_slow_fall_does_not_fire_for_ever(self):
        # pytorch 30873: every patience steps for as long as the loss was above its
        # best, however steadily it fell.
        loss = np.r_[np.zeros(20), 100.0 - np.arange(300) * 0.2]
        cuts = np.flatnonzero(moves(rules.plateau(patience=25), 320, loss__fast=loss))
        assert len(cuts) == 1

    def test_a_clear_fall_far_above_the_best_is_no_plateau(self):
        loss = np.r_[0.0, 100.0 - np.arange(300) * 0.2]
        assert not moves(self.rule, 301, loss__fast=loss, loss__trend=4.0).any()

    def test_steps_without_a_loss_are_not_waited(self):
        arrived = np.arange(40) % 2 == 0
        deltas = moves(self.rule, 40, loss__arrived=arrived)
        assert np.flatnonzero(deltas)[0] == 10

    def test_a_restore_starts_afresh(self):
        deltas = moves(self.rule, 12, standing__restored=np.arange(12) == 5)
        assert np.flatnonzero(deltas).tolist() == [11]


class TestSuccess:
    def test_more_noise_when_stuck_less_when_unstable(self):
        deltas = moves(
            rules.success(),
            5,
            loss__success=[0.05, 0.05, 0.05, 0.6, 0.05],
            loss__trend=[0.0, -4.0, 2.0, 0.0, 0.0],
            loss__variance_ratio=[1.0, 1.0, 1.0, 1.0, 5.0],
        )
        up, down = math.log(1.02), math.log(0.8)
        np.testing.assert_allclose(deltas, [up, down, 0.0, 0.0, down], rtol=1e-5)

    def test_sigma_grows_on_a_plateau_of_pure_noise(self):
        z = autocorrelated(1, 20_000)
        assert (
            moves(rules.success(), len(z), loss__trend=z, loss__success=0.16).mean() > 0
        )


class TestLiteral:
    def test_the_vote_of_loss_and_reward(self):
        deltas = moves(
            rules.literal(damping=0.0),
            6,
            loss__change=[-1.0, 1.0, 0.0, -1.0, -1.0, 1.0],
            reward__change=[0.0, 0.0, 1.0, 1.0, -1.0, -1.0],
            reward__arrived=[False, False, True, True, True, True],
        )
        u, d = math.log(1.02), math.log(0.8)
        np.testing.assert_allclose(deltas, [u, d, u, u, 0.0, d], rtol=1e-5)

    def test_variance_damps_every_move(self):
        calm = moves(rules.literal(), loss__change=-1.0, loss__variance_ratio=0.0)
        noisy = moves(rules.literal(), loss__change=-1.0, loss__variance_ratio=3.0)
        np.testing.assert_allclose(noisy, calm / 4, rtol=1e-6)

    def test_a_coin_flip_loss_collapses_the_learning_rate(self):
        flips = np.random.default_rng(2).choice([-1.0, 1.0], 4000)
        deltas = moves(rules.literal(damping=0.0), 4000, loss__change=flips)
        per_step = (math.log(1.02) + math.log(0.8)) / 2
        assert deltas.mean() == pytest.approx(per_step, rel=0.1)

    def test_momentum_is_additive_and_symmetric(self):
        rule = rules.literal("momentum", step=0.01, damping=1.0)
        deltas = moves(rule, 3, loss__change=[-2.0, 5.0, 0.0])
        np.testing.assert_allclose(deltas, [0.005, -0.005, 0.0], rtol=1e-6)

    def test_sigma_rises_when_stuck_and_falls_when_unstable(self):
        deltas = moves(
            rules.literal("sigma"),
            3,
            loss__success=[0.1, 0.1, 0.9],
            loss__variance_ratio=[1.0, 3.0, 1.0],
        )
        u, d = math.log(1.02), math.log(0.8)
        np.testing.assert_allclose(deltas, [u, d, 0.0], rtol=1e-5)

    def test_a_reward_alone_is_enough(self):
        signals = one_step(
            loss__arrived=False, reward__arrived=True, reward__change=1.0
        )
        delta, _ = rules.literal().update(signals, ())
        assert float(delta) > 0
