"""Each rule driven by hand through the plain situation it was made for."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adaptive_optax import rules
from adaptive_optax.law import Law
from adaptive_optax.rules.search import prior
from tests.rules.signal_streams import one_step, run_rule, steps


def moves(rule, length=1, state=None, **fields):
    deltas, _ = run_rule(rule, steps(length, **fields), state)
    return deltas


def autocorrelated(seed, length, memory=0.9):
    rng = np.random.default_rng(seed)
    z = np.zeros(length)
    for t, shock in enumerate(rng.normal(size=length)):
        z[t] = memory * z[t - 1] + math.sqrt(1 - memory**2) * shock
    return z


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


class TestSearch:
    AGREE = {"alignment__mean": 0.9, "alignment__slow": 0.9}

    def climb(self, length=60, **fields):
        signals = {
            **self.AGREE,
            "alignment__count": np.arange(length),
            "standing__warming": np.arange(length) < 20,
            "loss__trend": 2.0,
        } | fields
        return moves(rules.search(), length, **signals)

    def test_a_loss_that_has_not_moved_is_climbed_from_at_once(self):
        # Waiting for the warm-up and twenty steps more cost short runs their time.
        deltas = self.climb(loss__drop=0.01)
        assert np.flatnonzero(deltas)[0] == 9
        np.testing.assert_allclose(deltas[9:], 0.18, rtol=1e-6)

    @pytest.mark.parametrize("gain", [0.3, -0.3])
    def test_one_that_has_moved_waits_and_climbs_slowly(self, gain):
        deltas = self.climb(loss__drop=gain)
        assert np.flatnonzero(deltas)[0] == 39
        np.testing.assert_allclose(deltas[39:], 0.06, rtol=1e-6)

    def test_it_waits_while_the_agreement_recedes(self):
        # Long before it is gone: the steps of the climb are being felt.
        short = np.where((np.arange(60) >= 30) & (np.arange(60) < 40), 0.5, 0.9)
        deltas = self.climb(loss__drop=0.01, alignment__mean=short, alignment__sem=0.1)
        assert (deltas[30:40] == 0).all() and (deltas[9:30] > 0).all()
        assert (deltas[40:] > 0).all()
        held = self.climb(loss__drop=0.01, alignment__mean=short, alignment__sem=0.3)
        assert (held[9:] > 0).all()

    @pytest.mark.parametrize("fields", [{"loss__noise": 0.6}, {"loss__fast": 0.1}])
    def test_noise_as_large_as_the_loss_hides_whether_it_moved(self, fields):
        deltas = self.climb(loss__drop=0.01, **fields)
        assert np.flatnonzero(deltas)[0] == 39

    def test_a_loss_that_is_missing_has_not_stood_still(self):
        assert np.flatnonzero(self.climb(loss__arrived=False))[0] == 39

    def test_nothing_lands_during_the_warm_up(self):
        against = np.where(np.arange(60) < 16, 0.9, -0.9)
        deltas = self.climb(
            loss__drop=0.01, alignment__mean=against, standing__log_scale=1.0
        )
        assert (deltas[:19] >= 0).all() and deltas[20:40].min() < 0

    @pytest.mark.parametrize("momentum, lag", [(0.0, 6), (0.9, 15), (0.99, 25)])
    def test_it_lands_where_it_was_when_the_filter_last_heard(self, momentum, lag):
        # The coordinate has risen by .1 a step, and nothing is trusted.
        length, m = 200, 0.1 * np.arange(200.0)
        deltas = moves(
            rules.search(momentum=momentum),
            length,
            alignment__mean=np.where(np.arange(length) < 150, 0.9, -0.9),
            alignment__slow=0.0,
            loss__drop=0.5,
            loss__trend=2.0,
            standing__log_scale=m,
            standing__failures=1,
        )
        assert deltas[150] == pytest.approx(-0.1 * lag, rel=0.1)

    @pytest.mark.parametrize(
        "trusted, landing",
        [(-1.0, 0.3), (0.5, 0.5), (0.9, 0.9), (1.3, 1.0)],
        ids=["far below", "below", "just below", "above"],
    )
    def test_it_lands_at_the_trusted_rate_if_that_is_near(self, trusted, landing):
        # Where it was: at 1.0 all the time.
        deltas = self.climb(
            length=160,
            alignment__mean=np.where(np.arange(160) < 150, 0.9, -0.01),
            alignment__slow=0.0,
            loss__drop=0.5,
            standing__log_scale=1.0,
            standing__trusted_log_scale=trusted,
        )
        assert deltas[150] == pytest.approx(landing - 1.0, abs=0.01)

    @pytest.mark.parametrize("strength", [6.0, math.inf])
    def test_a_strength_may_be_traced_infinity_included(self, strength):
        signals = one_step(**TestOpposition.OPPOSED, step_correlation__mean=0.8)

        @jax.jit
        def delta(strength):
            rule = prior(Law(trust=strength))
            state = rule.init()._replace(searching=jnp.zeros((), bool))
            return rule.update(signals, state)[0]

        assert (float(delta(strength)) < 0) == (strength < math.inf)

    @pytest.mark.parametrize("momentum", [-0.1, 1.0, math.nan])
    def test_a_momentum_outside_its_range_is_quoted(self, momentum):
        with pytest.raises(ValueError, match=f"`momentum` must .* {momentum}"):
            rules.search(momentum=momentum)


class TestOpposition:
    """Gradients oppose the steps of a filter without memory at every rate."""

    OPPOSED = {
        "alignment__mean": -0.3,
        "alignment__slow": -0.3,
        "alignment__count": 50,
        "loss__trend": -3.0,
        "loss__long_trend": 0.0,
        "loss__count": 50,
        "count": 80,
        "heading__slow": -0.2,
    }

    @pytest.mark.parametrize("persistence, falls", [(0.8, True), (-0.3, False)])
    def test_it_lowers_the_rate_where_steps_carry_on(self, persistence, falls):
        delta = moves(
            rules.alignment(), 1, **self.OPPOSED, step_correlation__mean=persistence
        )
        assert (delta[0] < 0) == falls

    @pytest.mark.parametrize("heading", [0.3, 0.0, -0.05])
    def test_a_rate_does_not_settle_where_nothing_draws_the_parameters_back(
        self, heading
    ):
        signals = self.OPPOSED | {"heading__slow": heading}
        assert moves(rules.settle(), 1, **signals, step_correlation__mean=0.8)[0] == 0


class TestMomentum:
    AGREEING = {
        "alignment__mean": 0.6,
        "alignment__value": 0.6,
        "loss__success": 0.9,
    }
    OPPOSED = {
        "alignment__mean": -0.3,
        "alignment__value": -0.3,
        "loss__success": 0.9,
        "step_correlation__mean": 0.99,
    }

    def test_longer_while_gradients_agree_clearly(self):
        assert moves(rules.momentum(), **self.AGREEING) == pytest.approx(0.02)
        assert moves(rules.momentum(), **self.AGREEING, alignment__sem=0.4) == 0
        assert moves(rules.momentum(), **self.AGREEING | {"alignment__mean": 0.3}) == 0
        assert moves(rules.momentum(), **self.AGREEING | {"loss__success": 0.4}) == 0

    def test_a_run_of_opposed_steps_halves_the_horizon_and_restarts(self):
        fields = {**self.OPPOSED, "standing__log_scale": 2.0}
        deltas, state = run_rule(rules.momentum(), steps(17, **fields))
        falls = np.where(np.arange(17) % 8 == 7, -math.log(2), 0.0)
        np.testing.assert_allclose(deltas, falls, rtol=1e-6)
        assert state.momentum_restarts == 2

    def test_one_agreeing_step_starts_the_run_again(self):
        values = [-0.3] * 7 + [0.1] + [-0.3] * 7
        _, state = run_rule(
            rules.momentum(),
            steps(len(values), **self.OPPOSED | {"alignment__value": values}),
        )
        assert state.momentum_restarts == 0

    def test_never_below_the_start(self):
        deltas, state = run_rule(
            rules.momentum(opposed=1), steps(3, **self.OPPOSED, standing__log_scale=0.2)
        )
        np.testing.assert_allclose(deltas, -0.2, rtol=1e-6)
        deltas, _ = run_rule(rules.momentum(opposed=1), steps(3, **self.OPPOSED))
        assert not deltas.any() and state.momentum_restarts == 3

    def test_noise_does_not_restart(self):
        signs = np.random.default_rng(0).choice([-0.2, 0.2], 1000)
        fields = self.OPPOSED | {"alignment__value": signs}
        _, state = run_rule(rules.momentum(), steps(1000, **fields))
        assert state.momentum_restarts <= 4

    @pytest.mark.parametrize(
        "sign", [{"loss__success": 0.4}, {"step_correlation__mean": 0.9}]
    )
    def test_no_restart_in_noise_or_of_a_short_memory(self, sign):
        _, state = run_rule(rules.momentum(), steps(100, **self.OPPOSED | sign))
        assert state.momentum_restarts == 0


class TestKick:
    LEVEL = {"loss__success": 0.0, "loss__long_trend": 0.0}

    def test_the_patience_doubles(self):
        deltas = moves(rules.kick(patience=3), 22, **self.LEVEL)
        assert np.flatnonzero(deltas > 0).tolist() == [2, 8, 20]

    def test_back_to_the_lower_bound_right_after(self):
        assert moves(rules.kick(), **self.LEVEL, standing__log_scale=5.0) < -100

    def test_a_run_that_has_stopped_is_level_however_sure_its_last_fall_was(self):
        fields = {"loss__trend": 40.0, "loss__long_trend": 90.0, "loss__noise": 1e-6}
        assert moves(rules.kick(patience=1), **fields) > 0
        assert not moves(rules.kick(patience=1), **fields, loss__slow=1.01)

    @pytest.mark.parametrize(
        "sign",
        [
            {"loss__trend": 1.5},
            {"loss__trend": -1.5},
            {"loss__long_trend": 2.5},
            {"loss__success": 0.3},
            {"heading__slow": -0.2},  # drawn back: a minimum
            {"loss__count": 5},
            {"standing__warming": True},
            {"standing__restored": True},
            {"loss__arrived": False},
        ],
    )
    def test_none_while_something_moves(self, sign):
        assert not moves(rules.kick(patience=1), 5, **{**self.LEVEL, **sign}).any()
