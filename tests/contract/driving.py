"""Feedback for the contract tests, and one jitted step a case for all of them."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.contract.registry import TRANSFORMATIONS, some_params

# Compiling is what these tests cost; those left out differ from one that is in by a
# part that is missing, or by nothing that matters to how a run is driven.
DRIVEN = [
    name
    for name in TRANSFORMATIONS
    if name
    not in (
        "built, bare",
        "no average",
        "no recovery",
        "safe",
        "momentum set",
        "adaptive_adam",
        "online_sgd",
        "filters.adam",
    )
]
QUICK = {"xla_backend_optimization_level": 0}  # compiles in three quarters of the time


class Feedback(NamedTuple):
    """What a training loop hands over at a step, or, stacked, at many."""

    grads: Any
    value: jax.Array
    reward: jax.Array


def feedback(seed: int, steps: int) -> Feedback:
    """A noisy loss that falls through 0, a reward, gradients with a signal in them."""
    rng = np.random.default_rng(seed)

    def gradient(leaf: jax.Array) -> jax.Array:
        noise = rng.normal(size=(steps, *leaf.shape))
        return jnp.asarray(np.asarray(leaf) + 0.5 * noise, jnp.float32)

    return Feedback(
        grads=jax.tree.map(gradient, some_params()),
        value=jnp.asarray(
            2.0 - 3.0 * np.arange(steps) / steps + 0.1 * rng.normal(size=steps),
            jnp.float32,
        ),
        reward=jnp.asarray(rng.normal(size=steps), jnp.float32),
    )


def at(stream: Any, t: int) -> Any:
    return jax.tree.map(lambda x: x[t], stream)


def copy(tree: Any) -> Any:
    """New buffers, so that the old ones may be donated."""
    return jax.tree.map(lambda x: jnp.array(x, copy=True), tree)


class Driver:
    """One case with its jitted, donating step, which counts its traces."""

    def __init__(self, tx: optax.GradientTransformationExtraArgs) -> None:
        self.tx = tx
        self.traces = 0

        def counted(params, state, fed):
            self.traces += 1
            return self.plain(params, state, fed)

        self.step = jax.jit(counted, donate_argnums=(0, 1), compiler_options=QUICK)

    def plain(self, params: Any, state: Any, fed: Feedback) -> tuple[Any, Any]:
        updates, state = self.tx.update(
            fed.grads, state, params, value=fed.value, reward=fed.reward
        )
        return optax.apply_updates(params, updates), state

    def start(self, params: Any = None) -> tuple[Any, Any]:
        params = some_params() if params is None else copy(params)
        return params, self.tx.init(params)

    def loop(self, stream: Feedback, carry: Any = None) -> tuple[Any, Any]:
        """Python's loop over a stream; gives up ``carry``."""
        params, state = self.start() if carry is None else carry
        for t in range(stream.value.shape[0]):
            params, state = self.step(params, state, at(stream, t))
        return params, state


@functools.cache
def driver(name: str) -> Driver:
    return Driver(TRANSFORMATIONS[name].make())
