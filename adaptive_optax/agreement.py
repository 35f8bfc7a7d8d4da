"""Do the replicas of a mapped axis still agree? A check at every so many steps.

Each device adds up the bits of its parameters and of all that the controller remembers
as scalars (gains, rules, sensor, supervisor), each word times an odd number that
depends on its place, modulo 2^32. The largest and the smallest of these sums over the
axis are equal where the replicas are. If they are not, the step is counted, and the
scalars become those of the axis' first device: from then on all take the same
decisions. Parameters and the inner optimizer's state are left as they are. While they
differ every check counts; the cure is a restart from a checkpoint.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _axes, _trees
from adaptive_optax._reasons import NOTHING, EventKind, Reason, because
from adaptive_optax.state import AdaptiveSchedulerState


class AgreementState(NamedTuple):
    """State of the check."""

    replica_mismatches: jax.Array  # i32[] checks at which replicas differed


class Agreement(NamedTuple):
    """The check as a stage of the loop; without one, its state is ()."""

    init: Callable[[], Any]
    update: Callable[[Any, Any], Any]  # (state, params) -> state
    differ: Callable[[Any, Any], Reason]  # (before, after) -> did they differ


def uncompared() -> Agreement:
    """Nothing is compared."""
    return Agreement(
        init=lambda: (),
        update=lambda state, params: state,
        differ=lambda before, after: NOTHING,
    )


def compared(names: Any, every: int) -> Agreement:
    """Compare the devices of the axes ``names`` at every ``every``-th step."""

    def update(state: AdaptiveSchedulerState, params: Any) -> AdaptiveSchedulerState:
        own = [name for name in names if _axes.typed(name)]
        scalars = _scalars(state)

        def compare() -> tuple[Any, jax.Array]:
            sums = jnp.stack([_checksum(scalars), _checksum(params)])
            ends = jax.lax.pmax(_differing(jnp.stack([sums, ~sums]), own), names)
            differ = jnp.any(ends[0] != ~ends[1])
            agreed = jax.lax.cond(differ, lambda: _first(scalars, names, own), same)
            return agreed, differ

        def same() -> Any:
            return scalars

        # The count is that of `update`s, so all devices come here together.
        due = state.sensor.signal_count % every == 0
        no = jnp.zeros((), bool)
        scalars_now, differ = jax.lax.cond(due, compare, lambda: (scalars, no))
        count = state.agreement.replica_mismatches
        return _with_scalars(state, scalars_now)._replace(
            agreement=AgreementState(jnp.where(differ, _trees.next_count(count), count))
        )

    return Agreement(
        init=lambda: AgreementState(jnp.zeros((), jnp.int32)),
        update=update,
        differ=lambda before, after: because(
            after.replica_mismatches > before.replica_mismatches,
            EventKind.REPLICAS_DIFFER,
            after.replica_mismatches,
            before.replica_mismatches,
        ),
    )


def _scalars(state: AdaptiveSchedulerState) -> dict[str, Any]:
    """What the controller remembers, without what is as large as the parameters."""
    fields = state._asdict()
    for name in ("inner_state", "agreement", "sensor", "recovery", "averaging"):
        del fields[name]
    fields["sensor"] = state.sensor._replace(motion=state.sensor.motion.odometer)
    if state.recovery:
        fields["remembered"] = state.recovery.remembered
    if state.averaging:
        fields["averaging"] = state.averaging._replace(average=())
        fields["window"] = state.window._replace(window_level=())
    return fields


def _with_scalars(state: Any, fields: dict[str, Any]) -> AdaptiveSchedulerState:
    """The state with these in it."""
    fields = dict(fields)
    sensor = fields.pop("sensor")
    motion = state.sensor.motion._replace(odometer=sensor.motion)
    fields["sensor"] = sensor._replace(motion=motion)
    if state.recovery:
        remembered = fields.pop("remembered")
        fields["recovery"] = state.recovery._replace(remembered=remembered)
    if state.averaging:
        average, level = state.averaging.average, state.window.window_level
        fields["averaging"] = fields["averaging"]._replace(average=average)
        fields["window"] = fields["window"]._replace(window_level=level)
    return state._replace(**fields)


def _checksum(tree: Any) -> jax.Array:
    """A sum over all bits, u32[]; whoever changes one entry changes it."""
    total = jnp.zeros((), jnp.uint32)
    for index, leaf in enumerate(jax.tree.leaves(tree)):
        words = _words(leaf)
        place = jnp.arange(words.size, dtype=jnp.uint32)
        odd = 2 * (place + jnp.uint32(index * 7919)) + 1
        total += jnp.sum(words * odd, dtype=jnp.uint32)
    return total


def _words(leaf: jax.Array) -> jax.Array:
    """The bits of an array as unsigned integers, in a row."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if jnp.iscomplexobj(leaf):
        leaf = jnp.stack([leaf.real, leaf.imag])
    if leaf.dtype == bool:
        return leaf.reshape(-1).astype(jnp.uint32)
    size = min(leaf.dtype.itemsize, 4)
    kind = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[size]
    return jax.lax.bitcast_convert_type(leaf, kind).reshape(-1).astype(jnp.uint32)


def _first(tree: Any, names: Any, own: list[str]) -> Any:
    """The first device's values, everywhere."""
    is_first = jax.lax.axis_index(names) == 0

    def one(x: jax.Array) -> jax.Array:
        mine = _differing(x.astype(jnp.int32) if x.dtype == bool else x, own)
        sent = jax.lax.psum(jnp.where(is_first, mine, jnp.zeros_like(mine)), names)
        return sent.astype(x.dtype)

    return jax.tree.map(one, tree)


def _differing(x: jax.Array, own: list[str]) -> jax.Array:
    return _axes.vary(x, frozenset(own))
