"""The search for the base rate, and what it does where steps oppose each other."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adaptive_optax import rules
from adaptive_optax.law import Law
from adaptive_optax.rules.search import prior
from tests.rules.driving import moves
from tests.rules.signal_streams import one_step


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
