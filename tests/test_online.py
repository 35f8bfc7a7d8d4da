"""The optimizers for streams: they follow a switch, and a far too high rate."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from adaptive_optax.act import worth
from tests.rules.signal_streams import QUIET, nested

STEPS, SWITCH, SIZE, KEYS = 600, 300, 8, 6


@functools.partial(jax.jit, static_argnums=0)
def losses(make, rate):
    """Of a regression whose target changes its sign halfway, before each step.

    Means over some keys: without noise a rate is sound up to the edge of stability, and
    a run in six goes up to it.
    """
    tx = optax.with_extra_args_support(make(rate))
    keys = jax.random.split(jax.random.key(0), KEYS)
    target = jnp.linspace(-1.0, 1.0, SIZE)

    def step(key, carry, t):
        params, state = carry
        x = jax.random.normal(jax.random.fold_in(key, t), (4, SIZE))
        y = x @ jnp.where(t < SWITCH, target, -target)

        def loss_fn(params):
            return 0.5 * jnp.mean((x @ params - y) ** 2) + 0.01

        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, state = tx.update(grads, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), loss

    start = jnp.zeros(SIZE)
    return jnp.mean(
        jax.vmap(
            lambda key: jax.lax.scan(
                functools.partial(step, key),
                (start, tx.init(start)),
                jnp.arange(STEPS),
            )[1]
        )(keys),
        axis=0,
    )


@pytest.mark.parametrize("make", [ao.online_sgd, ao.online_adagrad])
def test_a_switch_is_followed_at_once(make):
    plain = {ao.online_sgd: optax.sgd, ao.online_adagrad: optax.adagrad}[make]
    rate = {ao.online_sgd: 0.05, ao.online_adagrad: 0.3}[make]
    ours, theirs = losses(make, rate), losses(plain, rate)
    after = slice(SWITCH, SWITCH + 100)
    assert float(ours[SWITCH]) > 50 * float(jnp.median(ours[SWITCH - 50 : SWITCH]))
    # With batches left out it was ten times as much.
    assert float(jnp.mean(ours[after])) < 1.5 * float(jnp.mean(theirs[after]))
    assert float(jnp.mean(ours[-50:])) < 1.5 * 0.01


def test_a_rate_that_is_far_too_high_costs_little():
    ours = losses(ao.online_sgd, 5.0)
    assert float(jnp.max(ours[:SWITCH])) < 10 * float(ours[0])
    assert not np.all(np.isfinite(losses(optax.sgd, 5.0)))


@pytest.mark.parametrize(
    ("options", "trust", "skips"),
    [
        ({}, 3.0, False),
        ({"mode": "nudge"}, 6.0, False),
        ({"mode": 4.5}, 4.5, False),
        ({"mode": "observe"}, 6.0, False),
        ({"law": ao.Law()}, 6.0, True),
    ],
)
def test_the_law_is_that_of_the_mode_for_a_stream(options, trust, skips):
    stages = ao.online_sgd(0.1, **options).update.stages
    law = stages.about.law
    assert law.trust == trust and (law.skip is not None) == skips
    assert law.nudge.rate == (0.02 if skips else 0.01)
    assert law.audit.opposed == (1 / 4 if skips else 1 / 2)
    assert (law.large, law.margin) == ((None, 0.02) if skips else (1.5, 0.01))
    assert stages.observes == (options.get("mode") == "observe")


@pytest.mark.parametrize(
    ("count", "slow", "wanted"),
    [(40, 0.9, 0.1), (580, 0.9, 0.01), (5000, 0.9, 0.01), (40, -0.9, -0.01)],
)
def test_only_a_young_run_rises_fast(count, slow, wanted):
    law = ao.Law(nudge=ao.law.Nudge(rate=0.01, power=6.0))
    fields = {"count": count, "alignment__slow": slow, "alignment__mean": slow}
    fields |= {"loss__trend": -3.0, "step_correlation__mean": 0.5}
    delta, _ = ao.rules.alignment(law).update(nested(QUIET | fields), ())
    assert float(delta) == pytest.approx(wanted)


def test_the_power_of_a_rise_is_positive():
    with pytest.raises(ValueError, match="`power` must lie in .* got -1.0"):
        ao.rules.alignment(ao.Law(nudge=ao.law.Nudge(power=-1.0)))


@pytest.mark.parametrize("mode", ["fast", -1, None, True])
def test_an_unknown_mode_is_refused_by_its_name(mode):
    with pytest.raises((TypeError, ValueError), match=f"`mode` must .*{mode!r}"):
        ao.online_adagrad(mode=mode)


def test_a_law_may_be_injected_beside_the_default_mode():
    tx = optax.inject_hyperparams(ao.online_sgd)(0.1, law=ao.Law())
    tx.update(GRADS, tx.init(GRADS), GRADS, value=1.0)


GRADS = {"w": jnp.array([3.0, 0.0]), "b": jnp.array(4.0)}


def test_a_promise_beyond_float32_is_worth_no_step():
    grads = {"w": jnp.full(2, 1e25, jnp.bfloat16)}
    steps, _ = worth.momentum_sgd(1.0).update(
        grads, worth.momentum_sgd(1.0).init(grads), value=jnp.float32(5.0)
    )
    assert not np.any(steps["w"])


def test_the_promise_of_a_complex_leaf_is_that_of_its_parts():
    grads, parts = jnp.array([3 + 4j]), jnp.array([3.0, 4.0])
    steps, wanted = (
        worth.momentum_sgd(1.0).update(g, worth.momentum_sgd(1.0).init(g), value=5.0)[0]
        for g in (grads, parts)
    )
    chex.assert_trees_all_close(jnp.stack([steps.real, steps.imag])[:, 0], wanted)


@pytest.mark.parametrize("axis", [0, 1])
def test_leaves_may_lie_on_an_explicit_mesh(axis):
    mesh = jax.make_mesh((2,), ("x",), (jax.sharding.AxisType.Explicit,))
    spec = jax.P("x") if axis == 0 else jax.P(None, "x")
    grads = jnp.arange(1.0, 9.0).reshape(2, 4)
    tx = worth.momentum_sgd(1.0)
    wanted, _ = tx.update(grads, tx.init(grads), value=5.0)
    with jax.set_mesh(mesh):
        split = jax.device_put(grads, jax.sharding.NamedSharding(mesh, spec))
        found, _ = tx.update(split, tx.init(split), value=5.0)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_strict_promotion_and_plain_numbers():
    tx = worth.momentum_sgd(1.0)
    with jax.numpy_dtype_promotion("strict"):
        for one in (jnp.bfloat16(4.0), 4.0):
            steps, _ = tx.update({"w": one}, tx.init({"w": one}), value=2.0)
            assert float(steps["w"]) == -1.0


@pytest.mark.parametrize(
    ("value", "share"),
    [(5.0, 0.4), (12.5, 1.0), (100.0, 1.0), (0.0, 1.0), (-1.0, 1.0), (jnp.nan, 1.0)],
)
def test_a_step_promises_twice_the_loss_at_most(value, share):
    tx = worth.momentum_sgd(1.0)
    steps, _ = tx.update(GRADS, tx.init(GRADS), value=jnp.float32(value))
    chex.assert_trees_all_close(steps, jax.tree.map(lambda g: -share * g, GRADS))


def test_without_a_loss_the_filter_is_as_it_was():
    for ours, theirs in (
        (worth.momentum_sgd(0.5, 0.9), optax.sgd(0.5, 0.9)),
        (worth.adagrad(0.5), optax.adagrad(0.5)),
    ):
        found, _ = ours.update(GRADS, ours.init(GRADS))
        wanted, _ = theirs.update(GRADS, theirs.init(GRADS))
        chex.assert_trees_all_close(found, wanted, rtol=1e-5)
