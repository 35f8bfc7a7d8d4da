"""The optimizer alone: its time with some leaves frozen over its own without masks."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

import adaptive_optax as ao
from benchmarks import timing

RATE = 1e-3
LEAVES, SHAPE = 50, (448, 448)  # 10 million parameters
FROZEN = {"0 %": 0, "50 %": 25, "90 %": 45}  # leaves
OPTIMIZERS = {
    "filters.adam": ao.filters.adam(RATE),
    "filters.adamw": ao.filters.adamw(RATE),
    "filters.momentum_sgd": ao.filters.momentum_sgd(RATE),
    "filters.adagrad": ao.filters.adagrad(RATE, 0.9),
    "optax.adamw": optax.adamw(RATE),
    "optax.sgd, momentum": optax.sgd(RATE, 0.9),
    "optax.lion": optax.lion(RATE),
    "optax.adafactor": optax.adafactor(RATE),
}


def measure(repeats: int) -> Iterator[dict[str, Any]]:
    """Time of a step of each optimizer, by the share of leaves that is frozen."""
    params = [jnp.full(SHAPE, 0.1) for _ in range(LEAVES)]
    grads = [jnp.full(SHAPE, 0.01 * (i + 1)) for i in range(LEAVES)]
    for name, inner in OPTIMIZERS.items():
        held = ao.hold_frozen(inner)

        def plain(params, state, grads, inner=inner):
            updates, state = inner.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        def ours(params, state, grads, frozen, held=held):
            updates, state = held.update(grads, state, params, frozen=frozen)
            return ao.apply_updates(params, updates, frozen), state

        def run(step: Any, *frozen: Any, inner: Any = inner) -> timing.Timed:
            carry = jax.tree.map(jnp.copy, (params, inner.init(params)))
            return timing.runner(step, carry, grads, *frozen, calls=1)

        runners = {
            share: run(ours, [jnp.asarray(i < n) for i in range(LEAVES)])
            for share, n in FROZEN.items()
        }
        ratios, _ = timing.paired(run(plain), runners, repeats)
        for share, ratio in ratios.items():
            yield {"optimizer": name, "frozen": share, "ratio": ratio}
