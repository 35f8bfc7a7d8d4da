"""The default law against a slow twin of all of it: the same rates, step by step.

The twin is a closed loop in float64: its own parameters, momentum, sensor, judges and
rule. It meets the scheduler at the first step and never again.
"""

import collections
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from tests.rules import twins
from tests.rules.signal_streams import record
from tests.sense import sensor_twin
from tests.supervise.judges_twin import Judges

STEPS = 400
STRENGTHS = {"nudge": 6.0, "search": 3.0, "safe": math.inf}
CURVATURES = np.geomspace(0.2, 4.0, 8)
MOMENTUM = 0.9
GOOD_RATE = 0.02


def answers(twin):
    """A generator of answers to a stream, as a function of one item."""
    asked = collections.deque()
    replies = twin(iter(asked.popleft, None))

    def answer(item):
        asked.append(item)
        return next(replies)

    return answer


class Law:
    """Rates of the default law, and heavy-ball SGD under them."""

    def __init__(self, mode, base_rate, start, total_steps=None):
        self.base_rate, self.total_steps = base_rate, total_steps
        self.params, self.momentum = start, np.zeros_like(start)
        self.good = self.params, self.momentum
        self.steps = collections.deque()
        self.read = answers(
            lambda fed: sensor_twin.read(fed, iter(self.steps.popleft, None))
        )
        self.rule = answers(functools.partial(twins.prior, strength=STRENGTHS[mode]))
        self.judges = Judges(strength=STRENGTHS[mode])
        self.coordinate = 0.0  # log of the rate over the base rate

    def step(self, loss, grads, reward=None):
        """One step from its feedback; the rate that it is taken at."""
        readings = self.read((loss, math.nan if reward is None else reward, grads))
        judges, m = self.judges, self.coordinate
        standing = {
            "log_scale": m,
            "warming": judges.warming(),
            "failures": judges.failures,
            "trusted_log_scale": judges.trusted,
            "diverged_log_scale": judges.ceiling,
        }
        standing = {f"standing.{name}": x for name, x in standing.items()}
        signals = record(readings | standing)
        on_the_way_back, before = judges.steps_back, self.good
        count, horizon = signals.count, self.total_steps
        held = horizon is not None and count > 0.7 * horizon
        restore, repeat, keep, *_, jump, climb = judges.weigh(signals, m, False, held)
        signals.standing.restored = restore or repeat
        if keep:
            self.good = self.params, self.momentum

        if not held:
            m += max(self.rule(signals), climb) if climb else self.rule(signals)
        self.coordinate = min(max(m + jump, -math.log(1e6)), math.log(1e6))
        rate = self.base_rate * math.exp(self.coordinate) * judges.warm_up()
        if horizon is not None:
            rate *= min(max((horizon - count) / (0.3 * horizon), 0), 1)

        momentum = before[1] if on_the_way_back == 1 else self.momentum
        self.momentum = MOMENTUM * momentum + grads
        step = 0.0 * grads if signals.standing.restored else -rate * self.momentum
        if restore or on_the_way_back:
            step = step + self.good[0] - self.params
        self.steps.append((np.float32(step), signals.standing.restored))
        self.params = self.params + step
        return rate


class Problem:
    """A quadratic whose minimum jitters from batch to batch, and may move for good."""

    def __init__(self, seed=0, shift=0.0):
        rng = np.random.default_rng(seed)
        self.start = np.float32(3 + rng.normal(size=8))
        moved = shift * (np.arange(STEPS) >= 250)
        self.minima = np.float32(0.5 * rng.normal(size=(STEPS, 8)) + moved[:, None])


def feedback(params, minimum):
    """The loss of a batch and its gradient."""
    away = params - minimum
    return 1.0 + 0.5 * (CURVATURES * away * away).sum(), CURVATURES * away


def slow_rates(problem, law, rewarded):
    rates = []
    for minimum in np.float64(problem.minima):
        loss, grads = feedback(law.params, minimum)
        rates.append(law.step(loss, grads, -loss if rewarded else None))
    return np.asarray(rates)


# One program for all modes: each is a number.
@functools.partial(jax.jit, static_argnames=("total_steps", "rewarded"))
def fast_run(start, minima, base_rate, strength, total_steps=None, rewarded=False):
    tx = ao.adaptive_scheduler(
        optax.sgd,
        base_rate,
        momentum=MOMENTUM,
        mode=strength,
        average=False,
        total_steps=total_steps,
    )

    def step(carry, minimum):
        params, state = carry
        loss, grads = feedback(params, minimum)
        fed = {"reward": -loss, "value": 0 * loss} if rewarded else {"value": loss}
        updates, state = tx.update(grads.astype(jnp.float32), state, params, **fed)
        told = state.learning_rate, state.recovery.judges.restores
        return (optax.apply_updates(params, updates), state), told

    return jax.lax.scan(step, (start, tx.init(start)), minima)


def both(problem, mode, base_rate, **options):
    """The same run by the scheduler and by the twin: their rates, and the twin."""
    rewarded = options.get("rewarded", False)
    (params, _), (rates, restores) = fast_run(
        problem.start, problem.minima, base_rate, STRENGTHS[mode], **options
    )
    law = Law(mode, base_rate, np.float64(problem.start), options.get("total_steps"))
    expected = slow_rates(problem, law, rewarded)
    np.testing.assert_allclose(rates, expected, rtol=1e-3, atol=1e-12)
    np.testing.assert_allclose(params, law.params, rtol=1e-2, atol=1e-3)
    assert int(restores[-1]) == law.judges.restores
    return expected / base_rate, law.judges


MODES = pytest.mark.parametrize("mode", STRENGTHS)


@MODES
@pytest.mark.parametrize("seed", [0, 1])
def test_a_good_rate(mode, seed):
    scale, judges = both(Problem(seed), mode, GOOD_RATE)
    assert judges.restores == 0 and scale[19] == 1.0
    assert (scale[-1] < 0.9) == (mode != "safe")  # it settles


@MODES
@pytest.mark.parametrize("seed", [0, 1])
def test_a_rate_a_hundred_times_too_high(mode, seed):
    scale, judges = both(Problem(seed), mode, 100 * GOOD_RATE)
    assert {"failed", "late"} <= judges.verdicts
    assert scale[-1] < 0.1


@MODES
@pytest.mark.parametrize("seed", [0, 1])
def test_a_rate_a_hundred_times_too_low(mode, seed):
    scale, judges = both(Problem(seed), mode, GOOD_RATE / 100)
    assert judges.restores == 0
    assert scale.max() == 1.0 if mode == "safe" else scale.max() > 5


@MODES
@pytest.mark.parametrize("seed", [0, 1])
def test_a_shift_of_the_data(mode, seed):
    _, judges = both(Problem(seed, shift=30.0), mode, GOOD_RATE)
    assert "acquitted" in judges.verdicts


def test_a_known_horizon():
    scale, _ = both(Problem(2), "nudge", GOOD_RATE, total_steps=STEPS)
    assert scale[-1] < 0.02


def test_a_reward_instead_of_the_loss():
    scale, judges = both(Problem(3, shift=30.0), "search", GOOD_RATE, rewarded=True)
    assert "acquitted" in judges.verdicts
