"""Without noise: what an optimizer solves alone, it solves under the loop.

The problems and rates are those of Optax's own tests (optax/_src/alias_test.py).
"""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest

import adaptive_optax as ao
from tests.helpers import few

STEPS, CLOSE = 10_000, 3e-2
PROBLEMS = {
    "parabola": ([-1.0, 10.0, 1.0], [1.0, -1.0, 1.0]),
    "rosenbrock": ([0.0, 0.0], [1.0, 1.0]),
}
OPTIMIZERS = {
    "adabelief": (optax.adabelief, 0.1),
    "adafactor": (optax.adafactor, 5e-3),
    "adagrad": (optax.adagrad, 1.0),
    "adam": (optax.adam, 0.1),
    "adamax": (optax.adamax, 0.1),
    "amsgrad": (optax.amsgrad, 0.1),
    "lamb": (optax.lamb, 1e-3),
    "nadam": (optax.nadam, 1e-2),
    "novograd": (optax.novograd, 1e-3),
    "rmsprop": (optax.rmsprop, 5e-3),
    "sgd": (optax.sgd, 1e-3),
    "sign_sgd": (optax.sign_sgd, 0.1),
    "signum": (functools.partial(optax.signum, beta=0.9), 0.1),
    "yogi": (optax.yogi, 0.1),
}
NOT_ALONE = {("sign_sgd", "rosenbrock"), ("signum", "rosenbrock")}
CASES = [
    (name, problem)
    for name in OPTIMIZERS
    for problem in PROBLEMS
    if (name, problem) not in NOT_ALONE
]


def distance(problem, make):
    """How far from the minimum the run ends, and the averaged parameters."""
    start, end = map(jnp.array, PROBLEMS[problem])

    def loss(x):
        if problem == "parabola":
            return jnp.sum((x - end) ** 2)
        return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = make.update(grads, state, params, value=value)
        return (optax.apply_updates(params, updates), state), None

    carry = start, make.init(start)
    train = jax.jit(lambda carry: jax.lax.scan(step, carry, length=STEPS)[0])
    params, state = train(carry)
    return [jnp.abs(x - end).max() for x in (params, ao.eval_params(state, params))]


@pytest.mark.parametrize(
    "name, problem",
    few(
        CASES,
        [
            ("sign_sgd", "parabola"),
            ("signum", "parabola"),
            ("rmsprop", "rosenbrock"),
            ("sgd", "rosenbrock"),
        ],
    ),
)
def test_what_converges_alone_converges_under_the_loop(name, problem):
    factory, rate = OPTIMIZERS[name]
    found = distance(problem, ao.adaptive_scheduler(factory, rate))
    assert max(found) < CLOSE
