"""Gains in the state that `optax.inject_hyperparams` keeps, where it reads them."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from adaptive_optax import _trees

KIND = optax.InjectStatefulHyperparamsState


def anew(state: Any, tx: Any, params: Any, names: tuple[str, ...]) -> Any:
    """The state, with the injected gains of these names as ``tx`` is made with."""
    if not _trees.find_states(state, KIND):
        return state

    def one(old: Any, new: Any) -> Any:
        if not isinstance(old, KIND):
            return old
        free = [n for n in old.hyperparams if n not in old.hyperparams_states]
        now = {n: jnp.asarray(new.hyperparams[n]) for n in free if n in names}
        return replaced(old, now)

    return jax.tree.map(
        one, state, tx.init(params), is_leaf=lambda node: isinstance(node, KIND)
    )


def settable(state: Any, names: tuple[str, ...]) -> dict[str, jax.Array]:
    """The first injected hyperparameter of these names that no schedule overwrites."""
    if not isinstance(state, KIND):
        return {}
    found = [n for n in names if n in state.hyperparams]
    free = [n for n in found if n not in state.hyperparams_states]
    return {name: jnp.asarray(state.hyperparams[name]) for name in free[:1]}


def replaced(state: Any, values: dict[str, jax.Array]) -> Any:
    """The injected state with these values, in the dtypes it holds them in."""
    if not values:
        return state
    cast = {
        name: value.astype(jnp.asarray(state.hyperparams[name]).dtype)
        for name, value in values.items()
    }
    return state._replace(hyperparams={**state.hyperparams, **cast})
