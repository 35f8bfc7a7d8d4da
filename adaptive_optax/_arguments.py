"""What `init` and `update` are called with: numbers become arrays, and trees must fit.

Optax takes Python numbers as parameters, and None as the gradient of what is not
trained. So does every transformation here.
"""

import contextlib
import contextvars
import functools
import inspect
import operator
import warnings
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adaptive_optax import _checks, _containers, _trees

MISSING: Any = inspect.Parameter.empty
"""Stands for a feedback that is not named at all; None says that there is none."""

_CALLER = contextvars.ContextVar("caller", default="adaptive_scheduler")


def caller() -> str:
    """The function that the user has called to build a loop."""
    return _CALLER.get()


@contextlib.contextmanager
def called(name: str) -> Iterator[None]:
    """Build a loop under the name of another function, for its messages."""
    token = _CALLER.set(name)
    try:
        yield
    finally:
        _CALLER.reset(token)


class NoFeedbackWarning(UserWarning):
    """A run is trained without a loss, so no gain will ever move."""


def arrays(tree: Any) -> Any:
    """The tree with arrays in place of its Python and NumPy numbers."""

    def one(leaf: Any) -> Any:
        is_number = isinstance(leaf, bool | int | float | complex | np.generic)
        return _trees.strong(jnp.asarray(leaf)) if is_number else leaf

    return jax.tree.map(one, tree)


def transformation(
    init: Any, update: Any, *, stages: Any = None
) -> optax.GradientTransformationExtraArgs:
    """An Optax transformation of the two functions.

    ``init`` gets arrays. Both run under JAX's standard promotion of dtypes: under the
    strict one, where a caller has asked for it, their float32 scalars would not go
    with other floats. What it is made of is kept as an attribute of ``update``: a
    transformation is a pair of functions, and has no other place for it.
    """

    def standard(function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with jax.numpy_dtype_promotion("standard"):
                return function(*args, **kwargs)

        return call

    update = standard(update)
    update.stages = stages
    return optax.GradientTransformationExtraArgs(
        standard(lambda params: init(arrays(params))), update
    )


def heard(update: Any, extra: dict[str, Any]) -> dict[str, Any]:
    """The extra arguments that an optimizer's ``update`` has a place for.

    Some of Optax (`optax.contrib.sam`) say that they take any, and take none.
    """
    parameters = inspect.signature(update).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return extra
    return {name: x for name, x in extra.items() if name in parameters}


class Caller(NamedTuple):
    """A transformation, as its messages name it."""

    name: str
    state: type | None = None  # what its state must be
    like: str | None = None  # path in the state to a tree like init's parameters

    def trees(
        self, updates: Any, state: Any, params: Any, *, needed: bool = False
    ) -> tuple[Any, Any]:
        """The gradients and the parameters that they belong to, as arrays.

        Parameters without a gradient (None) are left out, as in Optax.

        Args:
          updates: The gradients.
          state: The state.
          params: The parameters, or None.
          needed: Whether the parameters must be given.

        Raises:
          TypeError: If the state is of another kind.
          ValueError: If the trees do not fit, or parameters are missing.
        """
        self.check_state(state, params)
        if needed:
            _checks.params_given(params, self.name)
        updates = arrays(updates)
        params = None if params is None else _trained(self.name, updates, params)
        if self.like is not None:
            above, _, _ = self.like.rpartition(".")
            _containers.check_parts(state, [above] if above else [])
            before = operator.attrgetter(self.like)(state)
            if jax.tree.structure(updates) != jax.tree.structure(before):
                raise ValueError(
                    "the gradients do not fit the parameters that "
                    f"{self.name} was initialised with: their tree "
                    f"{_trees.difference(updates, before)}; call tx.init(params) with "
                    "the parameters that are trained (in Equinox eqx.filter(model, "
                    "eqx.is_inexact_array))."
                )
        return updates, arrays(params)

    def check_state(self, state: Any, params: Any) -> None:
        """Require the state that ``init`` made, and not the parameters in its place.

        Raises:
          TypeError: If it is something else.
        """
        if self.state is None or isinstance(state, self.state):
            return
        if isinstance(params, self.state):
            raise TypeError(
                "`state` and `params` are swapped: got the state as the third "
                "argument; call update(grads, state, params, ...)."
            )
        raise TypeError(
            f"`state` must be the {self.state.__name__} that {self.name} made, got "
            f"{type(state).__name__}; call update(grads, state, params, ...) with the "
            "state of tx.init(params), and restore a checkpoint into its structure."
        )

    def feedback(self) -> Callable[..., tuple[Any, Any]]:
        """How one transformation reads ``value``, ``loss`` and ``reward``.

        What it returns takes the three, `MISSING` where one was not named, and the
        other extra arguments. It gives the loss under either of its names and the
        reward, None if there is none; raises TypeError if one is no real number, and
        ValueError if both names are used or one is no scalar. If the first call names
        no feedback it warns, once.
        """
        asked = False

        def read(value: Any, loss: Any, reward: Any, others: dict[str, Any]):
            nonlocal asked
            fed = {"value": value, "loss": loss, "reward": reward}
            if not asked:
                _warn(self.name, fed, others)
            asked = True
            value, loss, reward = (None if x is MISSING else x for x in fed.values())
            if value is not None and loss is not None:
                raise ValueError(
                    "`value` and `loss` are two names of one feedback, got both; call "
                    "update(grads, state, params, value=loss)."
                )
            value = loss if value is None else value
            for name, given in (("value", value), ("reward", reward)):
                if given is not None:
                    _checks.scalar_feedback(name, given)
            return value, reward

        return read


def in_order(updates: Any, state: Any, params: Any) -> None:
    """Require that no state stands in the place of gradients or parameters.

    For an optimizer whose state has no type of its own: there, gradients and parameters
    are alike, and the state is not.

    Raises:
      TypeError: If two of the three are swapped.
    """
    trees = [jax.tree.structure(tree) for tree in (updates, state, params)]
    if params is None or trees[0] == trees[2] or trees[1] not in (trees[0], trees[2]):
        return
    name, place = ("params", "third") if trees[1] == trees[0] else ("grads", "first")
    raise TypeError(
        f"`state` and `{name}` are swapped: got the state as the {place} argument; "
        "call update(grads, state, params, ...)."
    )


def _trained(caller: str, updates: Any, params: Any) -> Any:
    """The parameters, None where there is no gradient."""
    try:
        trained = jax.tree.map(
            lambda u, p: None if u is None else p,
            updates,
            params,
            is_leaf=lambda node: node is None,
        )
    except ValueError as error:
        raise ValueError(
            "the gradients do not fit the parameters: their tree "
            f"{_trees.difference(updates, params)}; call {caller}'s update(grads, "
            "state, params, ...) with gradients taken at these parameters."
        ) from error
    paths = _trees.leaf_paths(updates)
    leaves = jax.tree.leaves(updates), jax.tree.leaves(trained)
    for path, u, p in zip(paths, *leaves, strict=False):
        if np.shape(u) != np.shape(p):
            raise ValueError(
                f"the gradient at {path!r} has shape {np.shape(u)}, its parameter "
                f"{np.shape(p)}; call {caller}'s update(grads, state, params, ...) "
                "with gradients taken at these parameters."
            )
    return trained


def _warn(caller: str, known: dict[str, Any], others: dict[str, Any]) -> None:
    near = {name: get_close_matches(name.lower(), known, 1, 0.8) for name in others}
    meant = [f"`{name}` for `{like[0]}`" for name, like in near.items() if like]
    if not meant and any(x is not MISSING for x in known.values()):
        return
    got = f" ({', '.join(meant)}?)" if meant else ""
    warnings.warn(
        f"{caller} was given no loss or reward{got} and moves no gain without: call "
        "tx.update(grads, state, params, value=loss), in Flax linen "
        "adaptive_optax.train_state.TrainState, in nnx optimizer.update(model, grads, "
        "value=loss). A step without a loss says value=None.",
        NoFeedbackWarning,
        stacklevel=5,  # past `feedback`, `update` and what `transformation` wraps
    )
