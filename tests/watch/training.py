"""A short training run under the scheduler, for tests of what is seen of it."""

import jax
import jax.numpy as jnp
import optax

import adaptive_optax as ao

PARAMS = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(3)}
BARE = {"average": False, "recovery": False}
SCHEDULER_KEYS = {
    "learning_rate",
    "lr_scale",
    "momentum",
    "sigma",
    "frozen_fraction",
    "loss",
    "loss_fast",
    "loss_trend",
    "loss_variance_ratio",
    "success",
    "reward",
    "reward_trend",
    "grad_norm",
    "grad_norm_z",
    "alignment",
    "alignment_mean",
    "alignment_sem",
    "dog_step_size",
    "steps",
    "fed",
    "nonfinite_values",
    "nonfinite_rewards",
    "nonfinite_gradients",
    "nonfinite_steps",
    "lost_parameters",
    "restores",
    "strikes",
    "audit_left",
    "audit_failures",
    "skipped",
    "average_count",
    "event_count",
    "event_observed",
}


def scheduler(**options):
    return ao.adaptive_scheduler(
        optax.adam, **{"learning_rate": 0.1, "momentum": 0.8, **options}
    )


def loss_fn(params):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))


def train(tx, steps=3, params=PARAMS, **feedback):
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, state = tx.update(grads, state, params, **{"value": loss, **feedback})
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params, state
