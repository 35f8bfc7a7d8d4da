"""Whatever the feedback: gains within their bounds, numbers finite, updates sane."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import adaptive_optax as ao
from tests.contract.registry import RULES
from tests.rules.signal_streams import FIELDS, dtype_of, steps

STEPS = 40
LR, MU, SIGMA = (3e-3, 4e-2), (0.3, 0.95), (1e-4, 2e-3)

anything = st.one_of(
    st.floats(width=32),
    st.sampled_from([0.0, -0.0, 1.0, -1e30, 3e38, 1e-38, float("inf"), float("nan")]),
)
ordinary = st.floats(-10, 10, width=32)
streams = st.lists(
    st.tuples(st.one_of(ordinary, anything), st.one_of(ordinary, anything), anything),
    min_size=1,
    max_size=STEPS,
)
BASE = 1e-2
RULES_OF_ALL_GAINS = {
    "literal": {
        "rule": ao.rules.literal(up=1.5, down=0.5, damping=0.0),
        "momentum_rule": ao.rules.literal("momentum", step=0.1),
        "sigma_rule": ao.rules.literal("sigma", up=2.0, down=0.1),
        "momentum_coordinate": "linear",
    },
    "blend": {
        "rule": ao.blend(ao.rules.trend(up=3.0), ao.rules.reward(up=3.0), credit=30.0),
        "momentum_rule": ao.rules.trend(up=2.0, down=0.1),
        "sigma_rule": ao.rules.success(up=2.0, low=1.0),
        "slew": 0.7,
    },
    "default": {"mode": "search"},
}


@functools.cache
def runner(which):
    tx = ao.adaptive_scheduler(
        optax.sgd,
        BASE,
        momentum=0.9,
        sigma=1e-3,
        lr_bounds=LR,
        mu_bounds=MU,
        sigma_bounds=SIGMA,
        **RULES_OF_ALL_GAINS[which],
    )
    params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}

    @jax.jit
    def run(values, rewards, sizes):
        def step(carry, fed):
            params, state = carry
            value, reward, size = fed
            grads = jax.tree.map(lambda p: size * (p + 0.1), params)
            updates, state = tx.update(grads, state, params, value=value, reward=reward)
            params = optax.apply_updates(params, updates)
            gains = BASE * state.lr_scale, state.momentum, state.sigma
            return (params, state), (gains, state.learning_rate)

        carry = params, tx.init(params)
        return jax.lax.scan(step, carry, (values, rewards, sizes))

    return run


@pytest.mark.parametrize("which", RULES_OF_ALL_GAINS)
@settings(max_examples=40, deadline=None)
@given(stream=streams)
def test_gains_stay_in_bounds_and_parameters_finite(which, stream):
    padded = (stream * STEPS)[:STEPS]
    columns = [jnp.asarray(x, jnp.float32) for x in zip(*padded, strict=True)]
    (params, state), (gains, rates) = runner(which)(*columns)
    for gain, (low, high) in zip(gains, (LR, MU, SIGMA), strict=True):
        gain = np.asarray(gain, np.float64)
        assert (gain >= low * (1 - 1e-6)).all() and (gain <= high * (1 + 1e-6)).all()
    # What is taken of the rate while it warms up may lie below: down to a twentieth.
    assert (rates <= gains[0] * (1 + 1e-6)).all()
    assert (rates >= gains[0] / 20 * (1 - 1e-6)).all()
    chex.assert_tree_all_finite(state._replace(recovery=()))
    # A gradient of 3e38 is finite and may overflow the parameters of plain SGD.
    if max(abs(x) if np.isfinite(x) else 0 for x in np.asarray(columns[2])) < 1e15:
        chex.assert_tree_all_finite(params)


numbers = st.floats(allow_nan=True, allow_infinity=True, width=32)


FLAGS = tuple(name for name in FIELDS if dtype_of(name) is np.bool_)
ALL_RULES = {name: make() for name, make in RULES.items()}
ASKED = (
    "loss__trend",
    "loss__variance_ratio",
    "grad_norm_z",
    "loss__success",
    "alignment__mean",
    "alignment__sem",
    "loss__change",
    "reward__trend",
    "standing__log_scale",
    "loss__fast",
    *FLAGS,
)


@jax.jit
def ask_all(stream):
    """What every rule answers to the same four steps, in one program."""

    def step(states, signals):
        answers = {
            name: rule.update(signals, states[name]) for name, rule in ALL_RULES.items()
        }
        states = {name: state for name, (_, state) in answers.items()}
        return states, {name: delta for name, (delta, _) in answers.items()}

    states = {name: rule.init() for name, rule in ALL_RULES.items()}
    return jax.lax.scan(step, states, stream)[1]


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_every_rule_answers_any_signal_with_a_finite_change(data):
    fields = {
        field: data.draw(
            st.lists(
                st.booleans() if field in FLAGS else numbers, min_size=4, max_size=4
            ),
            label=field,
        )
        for field in ASKED
    }
    deltas = ask_all(steps(4, **fields, alignment__count=9))
    for name, each in deltas.items():
        assert np.isfinite(each).all(), (name, fields)
