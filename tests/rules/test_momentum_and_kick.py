"""The rules of momentum and of dither: long in a valley, a kick on a plateau."""

import math

import numpy as np
import pytest

from adaptive_optax import rules
from tests.rules.driving import moves
from tests.rules.signal_streams import run_rule, steps


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
