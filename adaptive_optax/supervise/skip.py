"""How many batches may be skipped: a share of the run, and some at any age.

Each batch far outside fills a bucket by one, each other loss drains it by a twentieth.
It holds 10 batches and a twentieth of the run's age, 100 at most. Where it is full, the
batch is accepted: these are the new data. Then their loss is the level, and no gain
moves for 31 losses, or a fifth of the run's age.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax.law import Law, Skip
from adaptive_optax.supervise.evidence import Evidence, a_while, one_less


class SkipState(NamedTuple):
    """State of the bucket."""

    bucket: jax.Array  # f32[]
    skipped: jax.Array  # i32[] batches far outside that were not learnt from
    unsettled: jax.Array  # f32[] losses for which every gain holds: the data are new


def init_skip() -> SkipState:
    """The empty bucket."""
    return SkipState(
        bucket=jnp.zeros((), jnp.float32),
        skipped=jnp.zeros((), jnp.int32),
        unsettled=jnp.zeros((), jnp.float32),
    )


def room(state: SkipState, count: jax.Array, law: Law) -> jax.Array:
    """Whether another batch may be skipped, bool[]."""
    c = law.skip or Skip()
    age = count.astype(jnp.float32)
    return state.bucket + 1 <= jnp.minimum(c.least + c.share * age, c.most)


def update(e: Evidence, state: SkipState, law: Law, far: jax.Array) -> SkipState:
    """Fill or drain the bucket by one step."""
    c, old = law.skip or Skip(), state
    drained = jnp.where(e.seen, jnp.maximum(old.bucket - c.share, 0.0), old.bucket)
    wait = jnp.where(e.seen, one_less(old.unsettled), old.unsettled)
    return SkipState(
        bucket=jnp.where(far, old.bucket + 1, drained),
        skipped=old.skipped + far,
        unsettled=jnp.where(e.accepted, a_while(e, law), wait),
    )
