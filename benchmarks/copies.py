"""What a smaller copy costs: the loss after a restore, by what the copy holds.

A small network learns from a noisy teacher under Adam. Three times its parameters are
blown up, so that the loop goes back to its copy. The same runs without a fault stand
beside it.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

import adaptive_optax as ao

STEPS, FAULTS, SEEDS, WIDTH = 1500, (400, 800, 1200), 8, 32
AFTER = 100  # steps after a fault over which the loss is averaged: the way back too
COPIES = {
    "all of it": ao.Recovery(),
    "bfloat16": ao.Recovery(dtype=jnp.bfloat16),
    "no inner state": ao.Recovery(inner=False),
    "bfloat16, no inner state": ao.Recovery(dtype=jnp.bfloat16, inner=False),
}


def network(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Two layers."""
    return jnp.tanh(x @ params["in"] + params["bias"]) @ params["out"]


def initial(key: jax.Array, scale: float) -> dict[str, jax.Array]:
    """Random parameters."""
    a, b = jax.random.split(key)
    return {
        "in": scale * jax.random.normal(a, (8, WIDTH)) / 8**0.5,
        "bias": jnp.zeros(WIDTH),
        "out": scale * jax.random.normal(b, (WIDTH, 1)) / WIDTH**0.5,
    }


@functools.partial(jax.jit, static_argnums=(0, 1))
def run(recovery: ao.Recovery, faulty: bool, seed: jax.Array) -> Any:
    """Excess test loss at every step, and how often the parameters went back."""
    key = jax.random.key(seed)
    teacher, start = initial(key, 2.0), initial(jax.random.fold_in(key, 1), 1.0)
    held_out = jax.random.normal(jax.random.fold_in(key, 2), (512, 8))
    tx = ao.adaptive_adam(3e-3, recovery=recovery)
    faults = jnp.asarray(FAULTS if faulty else (-1,))

    def step(carry: Any, t: jax.Array) -> Any:
        params, state = carry
        blown = jnp.any(t == faults)
        params = jax.tree.map(lambda p: jnp.where(blown, 20 * p + 1, p), params)
        x_key, noise_key = jax.random.split(jax.random.fold_in(key, 3 + t))
        x = jax.random.normal(x_key, (32, 8))
        y = network(teacher, x) + 0.3 * jax.random.normal(noise_key, (32, 1))
        loss, grads = jax.value_and_grad(lambda p: jnp.mean((network(p, x) - y) ** 2))(
            params
        )
        updates, state = tx.update(grads, state, params, value=loss)
        params = optax.apply_updates(params, updates)
        off = network(params, held_out) - network(teacher, held_out)
        return (params, state), jnp.mean(off**2)

    carry, excess = jax.lax.scan(step, (start, tx.init(start)), jnp.arange(STEPS))
    return excess, ao.snapshot(carry[1])["restores"]


def copies() -> None:
    """Print the table of what a smaller copy costs."""
    print("| the copy holds | restores | 20 to 100 steps after | at the end |")
    print("|---|---|---|---|")
    seeds = jnp.arange(SEEDS)
    for name, recovery in {"no fault": ao.Recovery(), **COPIES}.items():
        faulty = name != "no fault"
        excess, restores = jax.vmap(lambda s, r=recovery, f=faulty: run(r, f, s))(seeds)
        spans = [excess[:, t + 20 : t + AFTER] for t in FAULTS]
        after = float(jnp.exp(jnp.mean(jnp.log(jnp.stack(spans)))))
        end = float(jnp.exp(jnp.mean(jnp.log(excess[:, -50:]))))
        mean = float(jnp.mean(restores))
        print(f"| {name} | {mean:.1f} | {after:.4f} | {end:.4f} |", flush=True)
