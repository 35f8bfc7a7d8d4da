"""`Law.large`: small gradients have a small vote, and all others the same one."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from adaptive_optax.online import law_for_streams
from adaptive_optax.sense import gradient, sensor
from adaptive_optax.sense.gradient import Gradient, GradientNorms

USUAL = Gradient(*map(jnp.float32, (math.log(2.0), 0.5, 40.0, 0.0)))


def norms(norm):
    norm = jnp.float32(norm)
    return GradientNorms(norm[None], norm**2, jnp.isfinite(norm**2))


@pytest.mark.parametrize("large", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("norm", [1e-8, 0.5, 2.0, 20.0])
def test_it_is_the_norm_in_units_of_a_large_one(norm, large):
    deviation = 0.5 * math.sqrt(math.pi / 2)  # of a Gaussian with this mean distance
    wanted = min(1.0, norm / (2.0 * math.exp(large * deviation)))
    assert float(gradient.weight(USUAL, norms(norm), large)) == pytest.approx(wanted)


@pytest.mark.parametrize("norm", [0.0, math.nan, math.inf, 1e30])
def test_no_norm_is_no_weight(norm):
    assert float(gradient.weight(USUAL, norms(norm), 1.0)) == 1.0


@pytest.mark.parametrize("seen", [0.0, 1.0])
def test_two_norms_say_nothing_of_a_third(seen):
    young = USUAL._replace(norms_seen=jnp.float32(seen))
    assert float(gradient.weight(young, norms(1e-3), 1.0)) == 1.0


@pytest.mark.parametrize("kind", [np.float64, np.float32, jnp.float64, jnp.int32])
def test_it_is_float32_whatever_the_number_is(kind, strict_types):
    # A float64 made the cosines of the state float64, and a scan refused the step.
    with jax.enable_x64(True):
        weight = gradient.weight(USUAL, norms(0.5), kind(1))
        chex.assert_type(weight, jnp.float32)


@pytest.mark.parametrize(
    ("large", "error", "message"),
    [
        ("all", TypeError, r"a number, got 'all'; try ao.Law\(large=1.0\)"),
        (True, TypeError, "a number, got True"),
        (math.inf, ValueError, "finite, got inf"),
    ],
)
def test_deviations_are_a_finite_number(large, error, message):
    with pytest.raises(error, match=f"`law.large` must be {message}"):
        ao.adaptive_sgd(0.1, law=ao.Law(large=large))


def read(large):
    """Signals after a stream whose every third gradient is small."""
    state = sensor.init_sensor(jnp.zeros(4), 1.0)

    def step(state, t):
        grads = jax.random.normal(jax.random.key(t), (4,))
        grads *= jnp.where(t % 3 == 0, 1e-3, 1.0)
        found = sensor.gradient_norms(grads)
        weight = gradient.weight(Gradient(*state.gradient), found, 1.0)
        signals, _, state = sensor.measure(
            state, grads, found, value=1.0, fraction=1.0, large=large
        )
        state = sensor.record_step(state, -grads, jnp.array(False), fraction=1.0)
        return state, (signals, weight)

    return jax.lax.scan(step, state, jnp.arange(60))[1]


def test_alignment_and_heading_are_multiplied_and_nothing_else_is():
    (plain, weight), (weighed, _) = read(None), read(1.0)
    assert float(weight[30:].min()) < 0.01 and float(weight.max()) == 1.0
    for name in ("alignment", "heading"):
        one, other = getattr(plain, name).value, getattr(weighed, name).value
        np.testing.assert_allclose(other, one * weight, rtol=1e-5, atol=1e-7)
    for name in ("loss", "step_correlation", "grad_norm_z", "grad_norm"):
        chex.assert_trees_all_equal(getattr(plain, name), getattr(weighed, name))


@functools.partial(jax.jit, static_argnums=0)
def mean_loss(make):
    """Of a linear classifier of five classes, one example at a time, over the rates."""
    shape, steps = (5, 20), 2500

    def run(rate, key):
        tx = optax.with_extra_args_support(make(rate))
        centres = jax.random.normal(key, shape)

        def step(carry, t):
            params, state = carry
            one, other = jax.random.split(jax.random.fold_in(key, t))
            label = jax.random.randint(one, (), 0, shape[0])
            x = jax.random.normal(other, shape[1:]) + 0.6 * centres[label]

            def loss_fn(params):
                logits = params @ x
                return jax.nn.logsumexp(logits) - logits[label]

            loss, grads = jax.value_and_grad(loss_fn)(params)
            updates, state = tx.update(grads, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), loss

        start = jnp.zeros(shape)
        return jax.lax.scan(step, (start, tx.init(start)), jnp.arange(steps))[1].mean()

    keys = jax.random.split(jax.random.key(0), 4)
    rates = jnp.array([0.01, 0.1, 1.0])
    return jax.vmap(lambda rate: jax.vmap(lambda key: run(rate, key))(keys))(rates)


def everyone_votes(rate):
    law = law_for_streams(ao.law.LAWS["search"])
    return ao.online_sgd(rate, law=law._replace(large=None, margin=0.02))


def test_a_classifier_that_learns_from_single_examples_keeps_a_sound_rate():
    best = mean_loss(optax.sgd).mean(axis=1).min()
    ours, before = (
        np.log(mean_loss(make) / best).mean()
        for make in (ao.online_sgd, everyone_votes)
    )
    assert ours < math.log(1.3) and before > math.log(1.6)
