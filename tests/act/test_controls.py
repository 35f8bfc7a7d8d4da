"""Gains and coordinates: bounds, slew, holds to the bit, maps that invert."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_optax import rules
from adaptive_optax._types import Rule
from adaptive_optax.act.controls import HORIZON, LINEAR, LOG, Control
from tests.rules.signal_streams import one_step

CONTROLS = {
    "log": Control(LOG, 1e-6, 1e2),
    "log from zero": Control(LOG, 0.0, 1e-2),
    "horizon": Control(HORIZON, 0.0, 0.999),
    "linear": Control(LINEAR, 0.1, 0.95),
}
every = pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS)
shares = st.floats(0, 1)


def gain_of(control, share):
    low, high = np.float32(control.low), np.float32(control.high)
    return jnp.float32(np.clip(low + np.float32(share) * (high - low), low, high))


@every
@settings(max_examples=150, deadline=None)
@given(share=shares, delta=st.floats(width=32), jump=st.floats(-50, 50, width=32))
def test_a_gain_never_leaves_its_bounds(control, share, delta, jump):
    gain = gain_of(control, share)
    moved = np.asarray(control.move(gain, jnp.float32(delta), jnp.float32(jump)))
    assert np.float32(control.low) <= moved <= np.float32(control.high)
    assert moved.dtype == np.float32


@every
@settings(max_examples=100, deadline=None)
@given(
    share=shares, nothing=st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf])
)
def test_no_change_holds_to_the_bit(control, share, nothing):
    # exp(log x) is not x, and a rule that answers NaN has said nothing.
    gain = gain_of(control, share)
    np.testing.assert_array_equal(control.move(gain, jnp.float32(nothing)), gain)


@every
@settings(max_examples=100, deadline=None)
@given(share=shares, delta=st.floats(-5, 5, width=32))
def test_the_move_is_the_change_of_the_coordinate(control, share, delta):
    gain = gain_of(control, share)
    moved = control.move(gain, jnp.float32(delta))
    inside = np.float32(control.low) < moved < np.float32(control.high)
    if not inside or float(gain) < 1e-20:
        return  # clipped: the test above
    change = control.distance(moved, gain)
    # Near its ends float32 holds the horizon to 1e-7 / (1 - mu).
    assert float(change) == pytest.approx(delta, rel=1e-3, abs=2e-4)


@settings(max_examples=100, deadline=None)
@given(
    x=st.floats(2.0**-26, 2.0**26, width=32),
    mu=st.floats(0, 1 - 2.0**-13, width=32),
)
def test_coordinates_invert(x, mu):
    for coordinate, gain, tolerance in (
        (LOG, x, 3e-6),
        (HORIZON, mu, 1e-6),
        (LINEAR, mu, 0),
    ):
        there = coordinate.of(jnp.float32(gain))
        assert float(coordinate.inverse(there)) == pytest.approx(
            gain, rel=tolerance, abs=1e-7
        )


@pytest.mark.parametrize("coordinate", [LOG, HORIZON, LINEAR])
def test_coordinates_are_monotone(coordinate):
    gains = jnp.linspace(1e-3, 0.999, 500)
    assert (jnp.diff(coordinate.of(gains)) > 0).all()


def test_the_laws_of_the_three_gains():
    # alpha' = alpha f, 1 - mu' = (1 - mu) / f, and the theory's mu' = mu + f.
    delta = jnp.float32(math.log(2.0))
    alpha = Control(LOG, 1e-6, 1e6).move(jnp.float32(0.1), delta)
    horizon = Control(HORIZON, 0.0, 0.9999).move(jnp.float32(0.9), delta)
    linear = Control(LINEAR, 0.0, 0.9999).move(jnp.float32(0.2), delta)
    assert float(alpha) == pytest.approx(0.2)
    assert float(horizon) == pytest.approx(0.95)
    assert float(linear) == pytest.approx(0.2 + math.log(2.0))


@settings(max_examples=100, deadline=None)
@given(delta=st.floats(-1e3, 1e3, width=32), slew=st.floats(1e-3, 1.0))
def test_the_slew_limits_a_rule_but_not_a_cut(delta, slew):
    control = Control(LOG, 1e-30, 1e30, slew)
    gain = jnp.float32(1.0)
    moved = math.log(float(control.move(gain, jnp.float32(delta))))
    assert abs(moved) <= slew * (1 + 1e-5) + 1e-6
    cut = math.log(float(control.move(gain, jnp.float32(0.0), jnp.float32(-3.0))))
    assert cut == pytest.approx(-3.0, rel=1e-5)


def test_distance_is_exactly_zero_at_the_start():
    for start in (0.1, 1.0, 3e-7):
        assert float(Control(LOG, 1e-9, 1.0).distance(jnp.float32(start), start)) == 0.0


def always_counted(delta):
    """The same change at every step, and a state that shows whether it was asked."""
    return Rule(lambda: jnp.int32(0), lambda signals, n: (jnp.float32(delta), n + 1))


class TestDrive:
    control = Control(LOG, 1e-3, 1e3)
    gain = jnp.float32(2.0)

    def drive(
        self, rule, state, *, hold=False, correction=0.0, no_rise=False, **fields
    ):
        return self.control.drive(
            rule,
            state,
            self.gain,
            1.0,
            one_step(**fields),
            hold=jnp.asarray(hold),
            correction=jnp.float32(correction),
            no_rise=jnp.asarray(no_rise),
        )

    def test_the_rule_is_asked_and_obeyed(self):
        gain, state = self.drive(always_counted(0.5), jnp.int32(7))
        assert float(gain) == pytest.approx(2.0 * math.exp(0.5), rel=1e-6)
        assert int(state) == 8

    def test_the_rule_is_told_where_the_gain_stands(self):
        rule = Rule(
            lambda: (), lambda signals, state: (-signals.standing.log_scale, state)
        )
        gain, _ = self.drive(rule, ())
        assert float(gain) == pytest.approx(1.0, rel=1e-6)

    def test_a_hold_stops_the_gain_and_the_rule(self):
        gain, state = self.drive(always_counted(0.5), jnp.int32(7), hold=True)
        assert float(gain) == 2.0 and int(state) == 7

    def test_a_correction_is_made_even_in_a_hold(self):
        gain, _ = self.drive(
            always_counted(0.5), jnp.int32(7), hold=True, correction=-1.0
        )
        assert float(gain) == pytest.approx(2.0 * math.exp(-1.0), rel=1e-6)

    @pytest.mark.parametrize(
        "delta, no_rise, correction, change",
        [
            (0.5, True, 0.0, 0.0),
            (-0.5, True, 0.0, -0.5),
            (0.5, False, 0.0, 0.5),
            (0.5, True, 0.1, 0.1),
        ],
    )
    def test_where_nothing_may_rise_the_rule_may_still_lower(
        self, delta, no_rise, correction, change
    ):
        # A correction is not the rule's, and is made.
        gain, state = self.drive(
            always_counted(delta), jnp.int32(7), no_rise=no_rise, correction=correction
        )
        assert float(gain) == pytest.approx(2.0 * math.exp(change), rel=1e-6)
        assert int(state) == 8

    def test_without_a_rule_the_gain_holds(self):
        gain, state = self.drive(None, ())
        assert float(gain) == 2.0 and state == ()

    def test_types_are_kept_under_strict_promotion(self, strict_types):
        gain, _ = jax.eval_shape(lambda: self.drive(rules.trend(), (), loss__trend=9.0))
        assert gain.dtype == jnp.float32 and gain.shape == ()
