"""Freezing as a stage of the loop, and a stage that does nothing in its place."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax._reasons import Reason
from adaptive_optax.freeze import criterion, hold, transform


class Freezing(NamedTuple):
    """What the loop calls of freezing. If nothing freezes, the state is ()."""

    init: Callable[[Any], Any]  # params -> state
    entries: Callable[..., tuple[Any, Any]]  # (updates, state) -> stacked, ignored
    live: Callable[[Any, Any], Any]  # (grads, state) -> those of leaves that move
    # (norms, grads, state) -> mask, share of the parameters that is frozen, what has
    # frozen or thawed, state
    update: Callable[..., tuple[Any, Any, tuple[Reason, ...], Any]]
    filter: Callable[..., tuple[Any, Any]]  # the inner optimizer's update under a mask
    still: Callable[[Any, Any], Any]  # (steps, mask) -> steps, 0 where frozen
    only_live: Callable[..., Any]  # (mask, old, new) -> old where frozen, else new


def never() -> Freezing:
    """Every leaf moves."""

    def filter(adapter, mask, grads, state, params, gains, **extra_args):
        del mask
        return adapter.update(grads, state, params, gains, **extra_args)

    return Freezing(
        init=lambda params: (),
        entries=lambda updates, state: (None, None),
        live=lambda grads, state: grads,
        update=lambda norms, grads, state: (
            None,
            jnp.zeros((), jnp.float32),
            (),
            state,
        ),
        filter=filter,
        still=lambda steps, mask: steps,
        only_live=lambda mask, old, new: new,
    )


def freezes(config: criterion.Freeze) -> Freezing:
    """Leaves freeze by the norm of their gradients, see `criterion`."""

    def entries(updates, state):
        layout = config.layout(updates)
        return [layers is not None for layers in layout.layers], state.freeze_mask

    def update(norms, grads, state):
        layout = config.layout(grads)
        state, changes = criterion.decide(state, norms, config, layout)
        mask = transform.mask_tree(state, grads)
        return mask, transform.frozen_fraction(state, layout), changes, state

    def filter(adapter, mask, grads, state, params, gains, **extra_args):
        live = hold.zero_frozen(grads, mask)
        return hold.held_update(adapter, mask, live, state, params, gains, **extra_args)

    return Freezing(
        init=lambda params: criterion.init_freezing(params, config),
        entries=entries,
        live=lambda grads, state: hold.zero_frozen(
            grads, transform.mask_tree(state, grads)
        ),
        update=update,
        filter=filter,
        still=hold.zero_frozen,
        only_live=lambda mask, old, new: jax.tree.map(hold.select, mask, old, new),
    )
