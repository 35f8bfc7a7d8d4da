"""The default law against a slow twin of all of it: the same rates, step by step.

The twin is a closed loop in float64: its own parameters, momentum, sensor, judges and
rule. It meets the scheduler at the first step and never again.
"""

import collections
import copy
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from tests.rules import prior_twins
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
        self.rule = answers(
            functools.partial(prior_twins.prior, strength=STRENGTHS[mode])
        )
        self.judges = Judges(trust=STRENGTHS[mode])
        self.coordinate = 0.0  # log of the rate over the base rate
        self.count = 0

    def step(self, loss, grads, reward=None):
        """One step from its feedback; the rate that it is taken at."""
        judges, m = self.judges, self.coordinate
        nonfinite = not np.isfinite(grads).all()
        far, came = self.meets(loss if reward is None else -reward, grads)
        fed = (loss, math.nan if reward is None else reward, grads)
        readings = self.read([x * math.nan for x in fed] if far else fed)
        standing = {
            "log_scale": m,
            "warming": judges.left > (0 if judges.failures else 40),
            "failures": judges.failures,
            "trusted_log_scale": judges.trusted - judges.owed,
        }
        readings |= {f"standing.{name}": x for name, x in standing.items()}
        on_the_way_back, before = judges.back, self.good
        weighed = judges.weigh(record(readings | came), m, nonfinite)
        restore, repeat, keep, _, _, forget, hold, no_rise, correction = weighed
        if keep:
            self.good = self.params, self.momentum

        signals = record(readings)
        signals.standing.restored = again = restore or repeat or forget
        count, horizon = signals.count, self.total_steps
        ending = horizon is not None and count > 0.7 * horizon
        unread = not (signals.loss.arrived or signals.reward.arrived)
        if not (nonfinite or far or unread or hold or ending):
            delta = self.rule(signals)
            m += min(delta, 0.0) if no_rise else delta
        self.coordinate = min(max(m + correction, -math.log(1e6)), math.log(1e6))
        rate = self.base_rate * math.exp(self.coordinate) * judges.warm_up()
        if horizon is not None:
            rate *= min(max((horizon - count) / (0.3 * horizon), 0), 1)

        step = np.zeros_like(grads)
        if on_the_way_back == 1:
            self.momentum = before[1]
        if not (nonfinite or far or restore or repeat):
            self.momentum = MOMENTUM * self.momentum + grads
            step = -rate * self.momentum
        if restore or on_the_way_back:
            step = step + self.good[0] - self.params
        if forget:
            judges.norms, judges.log_norm, judges.spread = 0, 0.0, 0.0
        elif not (nonfinite or far):
            judges.usual(float(np.linalg.norm(grads)))
        self.steps.append((np.float32(step), again))
        self.params = self.params + step
        self.count += 1
        return rate

    def meets(self, objective, grads):
        """Whether a batch is far outside, and what the judges hear of it as it came."""
        came = {
            "count": self.count,
            "grad_norm": float(np.linalg.norm(grads)),
            "objective.arrived": math.isfinite(objective),
            "objective.value": objective,
        }
        nonfinite = not math.isfinite(came["grad_norm"])
        ahead = copy.deepcopy(self.judges).look(record(came), nonfinite)
        if nonfinite or not came["objective.arrived"]:
            came = {}
        return ahead.far, came


class Problem:
    """A quadratic whose minimum jitters from batch to batch, and may move for good."""

    def __init__(self, seed=0, shift=0.0):
        rng = np.random.default_rng(seed)
        self.start = np.float32(3 + rng.normal(size=8))
        moved = shift * (np.arange(STEPS) >= 250)
        self.minima = np.float32(0.5 * rng.normal(size=(STEPS, 8)) + moved[:, None])
        # Added to the loss and to the gradient of a batch: 0, NaN, or much.
        self.faults = np.zeros((STEPS, 2), np.float32)


def feedback(params, minimum, faults):
    """The loss of a batch and its gradient."""
    away = params - minimum
    loss = 1.0 + 0.5 * (CURVATURES * away * away).sum()
    return loss + faults[0], CURVATURES * away + faults[1]


def slow_rates(problem, law, rewarded):
    rates = []
    for minimum, faults in zip(np.float64(problem.minima), problem.faults, strict=True):
        loss, grads = feedback(law.params, minimum, faults)
        rates.append(law.step(loss, grads, -loss if rewarded else None))
    return np.asarray(rates)


# One program for all modes: each is a number.
@functools.partial(jax.jit, static_argnames=("total_steps", "rewarded"))
def fast_run(start, batches, base_rate, strength, total_steps=None, rewarded=False):
    tx = ao.adaptive_scheduler(
        optax.sgd,
        base_rate,
        momentum=MOMENTUM,
        mode=strength,
        average=False,
        total_steps=total_steps,
    )

    def step(carry, batch):
        params, state = carry
        loss, grads = feedback(params, *batch)
        fed = {"reward": -loss, "value": 0 * loss} if rewarded else {"value": loss}
        updates, state = tx.update(grads.astype(jnp.float32), state, params, **fed)
        told = state.learning_rate, state.recovery.judges.trial.restores
        return (optax.apply_updates(params, updates), state), told

    return jax.lax.scan(step, (start, tx.init(start)), batches)


def both(problem, mode, base_rate, **options):
    """The same run by the scheduler and by the twin: their rates, and the twin."""
    rewarded = options.get("rewarded", False)
    (params, _), (rates, restores) = fast_run(
        problem.start,
        (problem.minima, problem.faults),
        base_rate,
        STRENGTHS[mode],
        **options,
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
    assert judges.failures > 0 == judges.left  # it has passed, late
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
    assert {"acquitted", "begun again"} <= judges.kinds


@MODES
def test_faults_of_single_batches(mode):
    rng, problem = np.random.default_rng(5), Problem(4)
    problem.faults[rng.random((STEPS, 2)) < (0.3, 0.03)] = math.nan
    problem.faults[:90, 1] = 0.0
    problem.faults[[10, 11, *range(120, 126), *range(180, 186)], 1] = math.nan
    problem.faults[[150, 151, 250], 1] = 300.0
    problem.minima[90:][rng.random(STEPS - 90) < 0.05] += 30.0
    _, judges = both(problem, mode, GOOD_RATE)
    assert judges.restores > 2 and judges.skipped > 5 and judges.failures == 0


def test_a_known_horizon():
    scale, _ = both(Problem(2), "nudge", GOOD_RATE, total_steps=STEPS)
    assert scale[-1] < 0.02


def test_a_reward_instead_of_the_loss():
    scale, judges = both(Problem(3, shift=30.0), "search", GOOD_RATE, rewarded=True)
    assert {"acquitted", "begun again"} <= judges.kinds
