"""Training that skips is training that masks, to the bit, for every construct."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from tests.freeze.frozen_models import models, random_mask
from tests.freeze.losses import inputs
from tests.freeze.masking import EVERY, assert_close, masking, without_keys
from tests.helpers import few

MODELS = models()
# Fused into one loop a multiplication and an addition are rounded once, else twice, and
# what is fused differs between any two programs. Unfused, only the rewrite is left.
UNFUSED = {"xla_disable_hlo_passes": "fusion"}
if "xla_cpu_use_fusion_emitters" in os.environ.get("XLA_FLAGS", ""):
    # The tests do without; without either, transposes come out wrong.
    UNFUSED["xla_cpu_use_fusion_emitters"] = True
# XLA sums the batched products of attention in another order inside a conditional, on
# the CPU: 6e-6 of a parameter after a hundred steps.
ROUNDED = {"attention and gather"}


# Two programs of half a minute each: the layers of a scan, and a stateful model.
STANDING = ("scan + remat", "nnx, BatchNorm and Dropout")


@pytest.mark.parametrize("name", few(MODELS, STANDING))
def test_a_hundred_steps_are_those_of_masking_to_the_bit(name):
    model, x, steps = MODELS[name](), inputs(), 100
    rng = np.random.default_rng(1)
    # A mask stands for five steps; leaves and layers freeze and revive all the time.
    masks = [random_mask(model, rng) for _ in range(steps // 5)]
    masks = jax.tree.map(lambda *m: jnp.repeat(jnp.stack(m), 5, axis=0), *masks)
    tx = ao.hold_frozen(optax.adam(1e-2))

    def run(vg):
        def step(carry, now):
            params, state = carry
            value, grads = vg(params, now[0], now[1])
            updates, state = tx.update(grads, state, params, frozen=now[0])
            params = ao.apply_updates(params, updates, now[0])
            return (params, state), (value, grads)

        noise = jax.random.normal(jax.random.key(2), (steps, *x.shape))
        carry = model.params, tx.init(model.params)
        run = jax.jit(
            lambda c: jax.lax.scan(step, c, (masks, x + noise)),
            compiler_options=UNFUSED,
        )
        return run(carry)

    vg = ao.frozen_value_and_grad(
        model.loss, has_aux=model.has_aux, recompute=False, **EVERY
    )
    ours, theirs = run(vg), run(masking(model.loss, model.has_aux))
    if name in ROUNDED:
        assert_close(ours, theirs, rtol=1e-4)
    else:
        ours, theirs = without_keys(ours), without_keys(theirs)
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
