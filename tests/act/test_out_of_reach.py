"""Inner optimizers that a gain cannot reach: what is told of them, and when."""

import functools

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adaptive_optax.act import injection
from tests.act.injecting import PARAMS, adapt


def no_rate(weight_decay):
    return optax.add_decayed_weights(weight_decay)


def not_an_optimizer(learning_rate):
    return learning_rate


def needs_more(learning_rate, horizon):
    return optax.sgd(learning_rate * horizon)


BAD = [
    (0.1, {}, TypeError, "must be a factory or a GradientTransformation, got 0.1"),
    (None, {}, TypeError, "must be a factory or a GradientTransformation, got None"),
    (
        no_rate,
        {},
        ValueError,
        r"no_rate has no argument `learning_rate` .*weight_decay",
    ),
    (not_an_optimizer, {}, TypeError, "not_an_optimizer must make a Gradient.* got "),
    (needs_more, {}, TypeError, "missing .* 'horizon'"),
    (
        optax.adagrad,
        {"momentum_wanted": True},
        ValueError,
        "adagrad has no momentum argument .*momentum_arg",
    ),
    (
        optax.sgd,
        {"momentum_wanted": True, "momentum_arg": "friction"},
        ValueError,
        "sgd has no argument 'friction' .* try momentum_arg=",
    ),
    (
        functools.partial(no_rate, weight_decay=0.1),
        {},
        ValueError,
        "no_rate has no argument `learning_rate`",
    ),
    (
        optax.sgd(0.1),
        {"momentum_arg": "momentum"},
        ValueError,
        "`momentum_arg`='momentum' names an argument of a factory, got a built",
    ),
]


@pytest.mark.parametrize("inner, options, error, message", BAD)
def test_what_cannot_be_reached_is_told_at_construction(inner, options, error, message):
    with pytest.raises(error, match=message):
        adapt(inner, **options)


def test_the_momentum_of_a_built_one_is_told_to_be_out_of_reach_at_init():
    adapter = adapt(optax.sgd(0.1, momentum=0.9), momentum_wanted=True)
    with pytest.raises(
        ValueError, match=r"pass its factory, adaptive_scheduler\(optax"
    ):
        adapter.init(PARAMS)


def test_a_mistake_in_the_suggested_name_is_not_suggested():
    # The first argument is the learning rate, which is no momentum.
    with pytest.raises(ValueError) as caught:
        adapt(optax.sgd, momentum_wanted=True, momentum_arg="friction")
    assert "momentum_arg='learning_rate'" not in str(caught.value)


@pytest.mark.parametrize(
    "factory, memory",
    [
        (optax.sgd, 0.0),
        (functools.partial(optax.sgd, momentum=0.5), 0.5),
        (functools.partial(optax.sgd, momentum=np.float32(0.5)), 0.5),
        (functools.partial(optax.adam, b1=jnp.float32(0.5)), 0.5),
        (optax.adam, 0.9),
        (optax.lion, 0.9),
        (optax.adagrad, 0.9),
        (optax.sgd(0.1, momentum=0.5), 0.9),
    ],
)
def test_what_the_filter_remembers_is_read_or_taken_for_the_usual(factory, memory):
    gains = injection.Gains(jnp.float32(0.1), jnp.float32(1.0), jnp.float32(0.0))
    inner = injection.adapt(factory, gains, momentum_wanted=False)
    assert inner.memory == pytest.approx(memory)
