"""What may be skipped, and that skipping it changes no parameter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adaptive_optax.freeze import transform as freezing
from adaptive_optax.freeze.transform import freeze_by_grad_norm, frozen_mask
from tests.freeze.driving import PARAMS, QUICK, gradient, run


def test_skipping_the_gradients_of_frozen_leaves_changes_nothing():
    # The norm of the whole gradient couples the leaves.
    inner = optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(0.1))
    tx = freeze_by_grad_norm(1e-3, inner, **QUICK)

    def follow(skipping):
        @jax.jit
        def step(params, state, t):
            grads = gradient(params, t, quiet=jnp.where(t < 3, 1e-6, 1e-4))
            law = state.freeze_state
            mask = freezing.mask_tree(law, params)
            if skipping:
                grads = jax.tree.map(
                    lambda g, f: jnp.where(f & ~law.freeze_probing, 1e6, g), grads, mask
                )
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        params, state = PARAMS, tx.init(PARAMS)
        for t in range(12):
            params, state = step(params, state, t)
        assert bool(state.freeze_state.freeze_mask[1])
        return params, state

    close = functools.partial(np.testing.assert_allclose, rtol=1e-5)
    jax.tree.map(close, follow(True), follow(False))


def test_skip_mask_is_off_in_probes():
    tx = freeze_by_grad_norm(1e-3, optax.adam(0.1), **QUICK)
    history = run(tx)
    for t, (params, state) in enumerate(history):
        frozen = frozen_mask(state, params)
        skip = freezing.skip_mask(state, params)
        probe = (t + 1) % QUICK["probe_every"] == 0
        assert bool(skip["quiet"]) == (bool(frozen["quiet"]) and not probe)
    assert bool(frozen["quiet"])


@pytest.mark.parametrize("inner", ["filters.adamw", "optax.sgd"])
def test_skipped_or_only_masked_the_parameters_are_the_same_to_the_bit(inner):
    # Live freezing by the law, with revivals: the loss is quiet and loud by turns.
    import adaptive_optax as ao

    factory = {"filters.adamw": ao.filters.adamw, "optax.sgd": optax.sgd}[inner]
    weights = [jax.random.normal(jax.random.key(i), (8, 8)) / 3 for i in range(3)]
    start = {"embed": weights[0], "body": weights[1], "head": weights[2]}
    tx = ao.adaptive_scheduler(
        factory,
        learning_rate=3e-2,
        freeze=ao.Freeze(
            0.5,
            relative_to="initial",
            warmup=10,
            min_dwell=5,
            probe_every=5,
            probe_steps=2,
            ema_decay=0.5,
            hysteresis=1.2,
            never="head",
        ),
        recovery=False,
    )

    def loss(params, x, loudness):
        hidden = jnp.tanh(x @ params["embed"])
        hidden = jnp.tanh(hidden @ params["body"])
        error = jnp.square(hidden @ params["head"] - jnp.sin(x))
        return loudness * jnp.mean(error)

    vg = ao.frozen_value_and_grad(loss, min_flops=0.0, recompute=False)

    def train(skipping):
        def step(carry, now):
            params, state = carry
            skip = ao.skip_mask(state, params)
            if skipping:
                value, grads = vg(params, skip, *now)
            else:
                value, grads = jax.value_and_grad(loss)(params, *now)
            updates, state = tx.update(grads, state, params, value=value)
            params = ao.apply_updates(params, updates, ao.frozen_mask(state, params))
            return (params, state), (value, state.freezing.freeze_mask)

        x = jax.random.normal(jax.random.key(5), (200, 16, 8))
        loudness = jnp.repeat(jnp.asarray([1.0, 0.02, 5.0, 0.02]), 50)
        carry = start, tx.init(start)
        return jax.jit(lambda c: jax.lax.scan(step, c, (x, loudness)))(carry)

    ours, theirs = train(True), train(False)
    # The loss itself is another matter: XLA may round its last bit another way.
    (params, state), (_, masks) = ours
    (expected, other), (_, others) = theirs
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    np.testing.assert_array_equal(masks, others)
    jax.tree.map(np.testing.assert_array_equal, state.inner_state, other.inner_state)
    change = np.diff(np.asarray(ours[1][1]).astype(int), axis=0)
    assert (change > 0).sum() >= 3 and (change < 0).sum() >= 1
