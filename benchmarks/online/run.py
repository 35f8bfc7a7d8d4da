"""Many learners on the streams of a kind, in one program."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.online import streams
from benchmarks.online.streams import Moves

PARTS = 50

Make = Callable[[jax.Array], optax.GradientTransformation]


def progressive(
    kind: str,
    moves: Sequence[Moves],
    make: Make,
    rates: np.ndarray,
    seeds: Sequence[int],
    *,
    size: int,
    steps: int | None = None,
    read: Callable[[Any], jax.Array] = lambda state: jnp.zeros(()),
) -> tuple[np.ndarray, np.ndarray]:
    """f64[streams, rates, seeds, parts]: the loss of batches not yet learnt from.

    Each is the mean over a part of the stream, in order; there are `PARTS`. With it
    comes what ``read`` says of the optimizer's state at the end of each part.

    Args:
      kind: Of `streams.KINDS`.
      moves: The streams.
      make: rate -> optimizer.
      rates: f32[streams, rates].
      seeds: Of the data and the first parameters.
      size: Examples in a batch.
      steps: Length of the stream, by default the kind's own.
      read: Of the state, f32[].
    """
    of = streams.KINDS[kind]()
    length = (steps or of.steps) // PARTS

    def learn(rate, params, state, batch):
        tx = optax.with_extra_args_support(make(rate))
        loss, grads = jax.value_and_grad(of.loss)(params, batch)
        updates, state = tx.update(grads, state, params, value=loss)
        return loss, optax.apply_updates(params, updates), state

    def one(stream: Moves, rates: jax.Array, seed: jax.Array):
        first, key = jax.random.split(jax.random.key(seed))
        params = of.params(first)
        state = jax.vmap(lambda rate: make(rate).init(params))(rates)
        params = jax.tree.map(lambda x: jnp.stack([x] * len(rates)), params)

        def step(carry, t):
            world, params, state, total = carry
            batch, world = of.draw(jax.random.fold_in(key, t), t, world, stream, size)
            loss, params, state = jax.vmap(learn, (0, 0, 0, None))(
                rates, params, state, batch
            )
            return (world, params, state, total + loss), None

        def part(carry, start):
            carry = (*carry, jnp.zeros(len(rates)))
            *carry, total = jax.lax.scan(step, carry, start + jnp.arange(length))[0]
            told = jax.vmap(lambda state, rate: read(state))(carry[2], rates)
            return tuple(carry), (total / length, told)

        carry = of.world(first), params, state
        return jax.lax.scan(part, carry, jnp.arange(PARTS) * length)[1]

    # Streams are inside, so that the numbers that they share are drawn once.
    every = jax.vmap(jax.vmap(one, (0, 0, None)), (None, None, 0))
    stacked = jax.tree.map(lambda *x: jnp.asarray(x, jnp.float32), *moves)
    found = jax.jit(every)(stacked, jnp.asarray(rates), jnp.asarray(list(seeds)))
    loss, told = (np.transpose(x, (1, 3, 0, 2)).astype(float) for x in found)
    return np.where(np.isfinite(loss), loss, np.inf), told


@functools.cache
def grid() -> np.ndarray:
    """The rates that a constant one is tuned over, twofold apart."""
    return 2.0 ** np.arange(-14.0, 5.0)
