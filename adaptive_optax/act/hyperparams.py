"""Gains in the state that `optax.inject_hyperparams` keeps, where it reads them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import optax

from adaptive_optax import _trees
from adaptive_optax.freeze.backward.program import opened

KIND = optax.InjectStatefulHyperparamsState


def anew(state: Any, make: Callable[[Any], Any], gains: Any, params: Any) -> Any:
    """The state, with every injected number that depends on the gains as they are now.

    Args:
      state: Of the optimizer that ``make`` makes.
      make: gains -> optimizer.
      gains: Of this step.
      params: To initialise the optimizer with; nothing else of that is used.
    """
    if not _trees.find_states(state, KIND):
        return state

    def written(gains: Any) -> list[dict[str, jax.Array]]:
        return [one.hyperparams for one in _all(make(gains).init(params))]

    closed, shape = jax.make_jaxpr(written, return_shape=True)(gains)
    moves = jax.tree.structure(shape).unflatten(_dependent(closed))
    todo = iter(zip(written(gains), moves, strict=True))

    def visit(node: Any) -> Any:
        if not isinstance(node, KIND):
            return node
        now, moved = next(todo)
        free = [n for n in now if moved[n] and n not in node.hyperparams_states]
        node = replaced(node, {n: jnp.asarray(now[n]) for n in free})
        return node._replace(inner_state=walk(node.inner_state))

    def walk(tree: Any) -> Any:
        return jax.tree.map(visit, tree, is_leaf=lambda node: isinstance(node, KIND))

    return walk(state)


def _all(state: Any) -> list[Any]:
    """Every injected state, those inside of others after them."""
    found = _trees.find_states(state, KIND)
    return [node for one in found for node in (one, *_all(one.inner_state))]


def _dependent(closed: Any) -> list[bool]:
    """Which outputs of a program its inputs may reach."""
    jaxpr, _ = opened(closed)
    reached = set(jaxpr.invars)
    for eqn in jaxpr.eqns:
        if any(isinstance(x, jex.Var) and x in reached for x in eqn.invars):
            reached.update(eqn.outvars)
    return [isinstance(x, jex.Var) and x in reached for x in jaxpr.outvars]


def check_read(
    inner: Any,
    rates: dict[str, jax.Array],
    grads: Any,
    state: Any,
    params: Any,
    extra: dict[str, Any],
) -> None:
    """Require that an optimizer reads its injected rate, which is in ``rates``.

    Raises:
      ValueError: If no update depends on it: the controller would move nothing.
    """

    def updates(rates: dict[str, jax.Array]) -> Any:
        return inner.update(grads, replaced(state, rates), params, **extra)[0]

    moves = _dependent(jax.make_jaxpr(updates)(rates))
    if moves and not any(moves):
        name = next(iter(rates))
        raise ValueError(
            f"no update depends on the injected `{name}`={rates[name]}: the optimizer "
            f"inside has a rate of its own; pass it on, optax.inject_hyperparams("
            f"lambda {name}: optax.adam({name}))({name}=1e-3)."
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
