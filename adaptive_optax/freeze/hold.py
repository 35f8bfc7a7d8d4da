r"""An optimizer whose frozen leaves rest, at a cost that falls with their share.

.. math::
    m' = \text{frozen} \,?\, m : \Phi(m, g), \qquad
    u = \text{frozen} \,?\, 0 : U(m'), \qquad
    \theta' = \text{frozen} \,?\, \theta : \theta + u

The order decides. XLA can hold m in place only if nothing after the select reads the
Φ(m, g) before it. Selecting the old state after the optimizer has run is the same
function, and copies every moment: 4 to 6 times the time of the optimizer. So the select
is put where a moment is made: the update is traced, and each new moment is replaced at
its source by the selected one, from which all that follows is computed. It works for
any Optax optimizer. What it saves is the arithmetic and the memory traffic of frozen
leaves; one whose update reads the old moment (Lion, Nesterov) still copies it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from adaptive_optax import _trees
from adaptive_optax._arguments import Caller, in_order, transformation
from adaptive_optax.freeze import labels as labelling
from adaptive_optax.freeze.backward.program import (
    UnsupportedEquation,
    evaluate,
    flatten,
    is_slot,
)


def hold_frozen(
    inner: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Let an optimizer take a mask: frozen leaves and their moments do not move a bit.

    Weight decay and all else that the optimizer adds is held as well. The rest of its
    state (step counts, injected hyperparameters) moves on. `freeze_by_grad_norm` and
    `adaptive_scheduler` do this by themselves.

    Args:
      inner: Any Optax optimizer. For a built-in one (`filters`, `optax.adamw`) the cost
        falls with the share of frozen parameters; see the module for which do not.

    Returns:
      A transformation whose ``update`` takes ``frozen=``, a pytree of bool[] like the
      parameters, or bool[L] for a leaf stacked over L layers; without it, it is
      ``inner``. Apply its updates with `apply_updates`, which holds the parameters.
      State that mixes the layers of a stacked leaf is held once all are frozen.

    Raises:
      TypeError: If ``inner`` is not a transformation, or a mask not boolean.
      ValueError: If the mask does not fit the gradients.

    Example:
      >>> import jax.numpy as jnp
      >>> tx = hold_frozen(optax.sgd(0.1))
      >>> params = {"a": jnp.ones(2), "b": jnp.ones(2)}
      >>> frozen = {"a": True, "b": False}
      >>> updates, _ = tx.update(params, tx.init(params), params, frozen=frozen)
      >>> print(apply_updates(params, updates, frozen))
      {'a': Array([1., 1.], dtype=float32), 'b': Array([0.9, 0.9], dtype=float32)}
    """
    if not isinstance(inner, optax.GradientTransformation):
        raise TypeError(
            f"`inner` must be a gradient transformation, got {inner!r}; try "
            "hold_frozen(optax.adam(1e-3))."
        )
    wrapped = optax.with_extra_args_support(inner)

    def update(updates, state, params=None, *, frozen=None, **extra_args):
        in_order(updates, state, params)
        if frozen is None:
            return wrapped.update(updates, state, params, **extra_args)
        updates, params = Caller("hold_frozen").trees(updates, state, params)
        structure = jax.tree.structure(updates)
        mask = structure.unflatten(labelling.check_mask(frozen, updates))
        steps, state = held_update(
            wrapped, mask, zero_frozen(updates, mask), state, params, **extra_args
        )
        return zero_frozen(steps, mask), state

    return transformation(wrapped.init, update)


def apply_updates(params: optax.Params, updates: optax.Updates, frozen: Any) -> Any:
    """`optax.apply_updates` that keeps frozen parameters in place, to the bit.

    Adding a zero would read and write them all, and turns -0.0 into 0.0.

    Args:
      params: The parameters.
      updates: A pytree like them.
      frozen: Their mask: a pytree of bool[], or bool[L] for stacked layers.

    Returns:
      The new parameters, in the dtypes of the old.

    Raises:
      TypeError: If a mask is not boolean.
      ValueError: If the mask does not fit ``params``.

    Example:
      >>> import jax.numpy as jnp
      >>> print(apply_updates(jnp.ones(2), jnp.ones(2), jnp.asarray(True)))
      [1. 1.]
    """
    mask = labelling.check_mask(frozen, params)
    moved = optax.apply_updates(params, updates)
    return jax.tree.map(
        select, jax.tree.structure(params).unflatten(mask), params, moved
    )


def zero_frozen(updates: optax.Updates, mask: Any) -> optax.Updates:
    """``updates``, exactly zero where ``mask`` is True, NaNs included."""
    return jax.tree.map(lambda u, f: select(f, jnp.zeros_like(u), u), updates, mask)


def held_update(
    inner: Any, mask: Any, grads: Any, state: Any, params: Any, *args: Any, **extra: Any
) -> tuple[Any, Any]:
    """One update of ``inner`` that keeps the moments of frozen leaves.

    Args:
      inner: Anything with ``init`` and ``update(grads, state, params, *args)``.
      mask: Frozen leaves, a pytree like ``grads``.
      grads: The gradients.
      state: The optimizer's state.
      params: The parameters, or None.
      *args: Passed on.
      **extra: Passed on.

    Returns:
      The updates, not masked, and the state.
    """

    def update() -> tuple[Any, Any]:
        return inner.update(grads, state, params, *args, **extra)

    closed, shape = jax.make_jaxpr(update, return_shape=True)()
    (steps, new), old = shape, jax.tree.leaves(state)
    owners = jax.tree.leaves(_owners(inner, new, mask))
    n_steps = len(jax.tree.leaves(steps))
    try:
        outputs = _evaluate_held(closed, n_steps, old, owners)
    except UnsupportedEquation:  # the same function, but for the copies
        steps, new = update()
        held = map(_hold, owners, old, jax.tree.leaves(new))
        return steps, jax.tree.structure(new).unflatten(list(held))
    return jax.tree.structure(shape).unflatten(outputs)


def _evaluate_held(
    closed: Any, n_steps: int, old: list[Any], owners: list[Any]
) -> list[Any]:
    """Evaluate an update, every moment replaced by the held one where it is made."""
    program = flatten(closed)
    moments = program.outputs[n_steps:]
    held = {
        slot: (owner, before)
        for slot, owner, before in zip(moments, owners, old, strict=True)
        if is_slot(slot) and owner is not False and moments.count(slot) == 1
    }
    env = dict(program.consts)
    done = set()
    for op in program.ops:
        operands = [env[x] if is_slot(x) else x.val for x in op.ins]
        env.update(zip(op.outs, evaluate(op, operands), strict=True))
        for slot in held.keys() & set(op.outs):
            env[slot] = _hold(*held[slot], env[slot])
            done.add(slot)
    outputs = [env[x] if is_slot(x) else jnp.asarray(x.val) for x in program.outputs]
    for i, (slot, owner, before) in enumerate(zip(moments, owners, old, strict=True)):
        if not is_slot(slot) or slot not in done:
            outputs[n_steps + i] = _hold(owner, before, outputs[n_steps + i])
    return outputs


def _owners(inner: Any, state: Any, mask: Any) -> Any:
    """For every part of a state the mask of the leaf that it belongs to, or False."""
    flag_at = dict(jax.tree_util.tree_flatten_with_path(mask)[0])

    def flags(part: Any) -> Any:
        # By path: a part may have holes (`optax.masked`) or many arrays a leaf (SM3).
        leaves, structure = jax.tree_util.tree_flatten_with_path(part)
        prefixes = [[path[:n] for n in range(len(path) + 1)] for path, _ in leaves]
        owner = [next(p for p in some if p in flag_at) for some in prefixes]
        return structure.unflatten([flag_at[path] for path in owner])

    try:
        return optax.tree.map_params(
            inner,
            flags,
            state,
            transform_non_params=lambda _: False,
            is_leaf=lambda _: True,
        )
    except Exception:
        # It asks ``init`` for the state of a tree without leaves. Of an optimizer that
        # looks at its leaves (L-BFGS) the parts shaped like the parameters are found.
        structure = jax.tree.structure(mask)

        def alike(node: Any) -> bool:
            return jax.tree.structure(node) == structure

        return jax.tree.map(
            lambda node: flags(node) if alike(node) else False, state, is_leaf=alike
        )


def _hold(mask: Any, old: Any, new: Any) -> Any:
    if mask is False:
        return new
    if jnp.ndim(mask) and jnp.shape(new)[:1] != jnp.shape(mask):
        mask = jnp.all(mask)
    return select(mask, old, new)


def select(mask: Any, frozen: Any, live: Any) -> Any:
    """The one where the mask is True, the other elsewhere; for a layer, row by row."""
    if isinstance(mask, bool):  # known while tracing
        return frozen if mask else live
    return jnp.where(_trees.over(mask, live), frozen, live)
