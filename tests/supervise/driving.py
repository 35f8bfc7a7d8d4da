"""Runs of the supervisor, fed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adaptive_optax as ao
from adaptive_optax.law import Law
from adaptive_optax.sense.gradient import Gradient
from adaptive_optax.sense.stage import Seen
from adaptive_optax.supervise import evidence, supervisor

LAW = Law()

NO_NORMS = Gradient(*np.zeros(4, np.float32))

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.ones(3)}

TX = ao.adaptive_scheduler(optax.sgd, 0.01, momentum=0.9, average=False, mode="safe")

PLAIN = ao.adaptive_scheduler(optax.sgd, 0.01, average=False, mode="safe")


def first(value):
    """Levels after a first loss."""
    return evidence.init_levels()._replace(first_value=value)


def updater(tx):
    """One step of an optimizer: every entry of the gradient is ``size``."""

    @jax.jit
    def update(params, state, size, **fed):
        grads = jax.tree.map(lambda p: jnp.full_like(p, size), params)
        updates, state = tx.update(grads, state, params, **fed)
        return optax.apply_updates(params, updates), state

    def step(params, state, value, size=None):
        # A batch whose loss is NaN has a gradient that is NaN, unless told otherwise.
        if size is None:
            size = np.nan if value is not None and np.isnan(value) else 1.0
        fed = {} if value is None else {"value": np.float32(value)}
        return update(params, state, np.float32(size), **fed)

    return step


STEP = updater(TX)

PLAIN_STEP = updater(PLAIN)


@jax.jit
def slow_step(params, state, **fed):
    """Another gradient than `STEP`'s, a hundredth of the step, any feedback."""
    updates, state = TX.update(params, state, params, **fed)
    updates = jax.tree.map(lambda u: 0.01 * u, updates)
    return optax.apply_updates(params, updates), state


def feed(values, params=PARAMS, state=None, step=STEP, tx=TX):
    """Steps with these losses; NaN stands for a gradient that is NaN as well."""
    state = tx.init(params) if state is None else state
    for value in values:
        params, state = step(params, state, value)
    return params, state


def calm(n, level=2.0):
    """``n`` sound losses about a level."""
    return level + 0.05 * np.cos(np.arange(n) * 2.4)


def see(signals, limits, nonfinite):
    """What a step has brought, where the limits are applied as the sensor does.

    The signals are those of the step without limits; their loss is the objective.
    """
    loss = signals.objective
    exceeded = limits.exceeded(loss.value, signals.grad_norm)
    far = ~nonfinite & loss.arrived & limits.room & exceeded
    learnt = ~(nonfinite | far)
    read = loss._replace(arrived=loss.arrived & ~far)
    return Seen(
        signals=signals._replace(
            loss=read,
            objective=read,
            has_gradient=learnt,
            grad_norm=jnp.where(learnt, signals.grad_norm, 0.0),
        ),
        has_feedback=True,
        nonfinite=nonfinite,
        far=far,
        new_objective=jnp.zeros((), bool),
        grads=(),
        live_grads=(),
        objective=jnp.where(loss.arrived, loss.value, 0.0),
        told=loss.arrived,
        norm=signals.grad_norm,
        leaf_norms=(),
    )


def judge_step(state, signals, log_scale, nonfinite, law=LAW):
    """One step of the judges, fed with signals: the verdict, and their memory."""
    bounds = supervisor.limits(state, law, signals.count, NO_NORMS)
    seen = see(signals, bounds, jnp.asarray(nonfinite))
    return supervisor.judge(state, seen, bounds, log_scale, law)


@jax.jit
def judge_on(state, signals, log_scale, law=LAW, nonfinite=False):
    """One step of the judges, and where its correction leads."""
    verdict, state = judge_step(state, signals, log_scale, nonfinite, law)
    return verdict, state, log_scale + verdict.correction


def failed_starts(state):
    """How many starts have failed."""
    return int(state.recovery.judges.audit.audit_failures)


def restores(state):
    """How often the parameters went back."""
    return int(state.recovery.judges.trial.restores)
