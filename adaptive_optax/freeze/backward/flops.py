"""How much an equation costs, counted as XLA's cost model does: two per multiply-add.

Only ratios matter here: which groups are worth a conditional, and what share of the
backward pass a frozen set skips.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax.freeze.backward.program import opened

UNKNOWN = math.inf
"""A loop of unknown length is always worth a conditional."""


class BackwardFlops(NamedTuple):
    """What a gradient costs and what freezing saves: of `frozen_value_and_grad`."""

    forward: float  # runs whatever is frozen: the loss and the auxiliary output
    backward: float  # all the rest
    groups: dict[frozenset[Any], float]  # skipped once all these labels are frozen

    def saved(self, *frozen: Any) -> float:
        """Backward FLOPs that are not run while these labels are frozen."""
        return sum(n for key, n in self.groups.items() if key <= set(frozen))

    def saved_by_each(self) -> dict[Any, float]:
        """What freezing each label alone would save."""
        labels = frozenset[Any]().union(*self.groups)
        return {label: self.saved(label) for label in sorted(labels, key=str)}

    def share(self, frozen: Sequence[jax.Array | bool], labels: Sequence[Any]) -> Any:
        """Share of the backward FLOPs that a mask skips, a number or f32[].

        A leaf stacked over layers counts once all its layers are frozen.

        Args:
          frozen: Leaves of the mask.
          labels: The label of each.
        """
        live: dict[Any, Any] = {}
        for label, mask in zip(labels, frozen, strict=True):
            live[label] = live.get(label, False) | ~jnp.all(mask)
        skipped = [
            jnp.where(sum(live[label] for label in key) == 0, n, 0.0)
            for key, n in self.groups.items()
        ]
        return jnp.float32(sum(skipped) / max(self.backward, 1.0))


def of_equation(eqn: Any) -> float:
    """FLOPs of one equation, those inside it included."""
    if eqn is None:
        return 0.0
    name, params = eqn.primitive.name, eqn.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = eqn.invars[0].aval.shape
        return 2.0 * _size(eqn.outvars[0]) * math.prod(shape[i] for i in contracted)
    if name == "conv_general_dilated":
        numbers = params["dimension_numbers"]
        kernel = eqn.invars[1].aval.shape
        taps = math.prod(kernel) / max(kernel[numbers.rhs_spec[0]], 1)
        return 2.0 * _size(eqn.outvars[0]) * taps
    if name == "scan":
        return params["length"] * of_jaxpr(params["jaxpr"])
    if name == "while":
        return UNKNOWN
    inside = [of_jaxpr(jaxpr) for jaxpr in _jaxprs(params)]
    if inside:  # the branches of a cond, or a call
        return max(inside)
    return float(max(map(_size, (*eqn.outvars, *eqn.invars)), default=0))


def of_jaxpr(jaxpr: Any) -> float:
    """FLOPs of all equations of an open or closed jaxpr."""
    return sum(of_equation(eqn) for eqn in opened(jaxpr)[0].eqns)


def _jaxprs(params: dict[str, Any]) -> list[Any]:
    values = [
        one
        for value in params.values()
        for one in (value if isinstance(value, tuple | list) else (value,))
    ]
    return [value for value in values if hasattr(value, "eqns")]


def _size(atom: Any) -> int:
    return math.prod(getattr(atom.aval, "shape", ()))
