"""How much an equation costs, counted as XLA's cost model does: two per multiply-add.

Only ratios matter here: which groups are worth a conditional, and what share of the
backward pass a frozen set skips.
"""

import math
from typing import Any

from jax.extend import core as jex

UNKNOWN = math.inf
"""A loop of unknown length is always worth a conditional."""


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
    return sum(of_equation(eqn) for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns)


def _jaxprs(params: dict[str, Any]) -> list[Any]:
    values = [
        one
        for value in params.values()
        for one in (value if isinstance(value, tuple | list) else (value,))
    ]
    return [v for v in values if isinstance(v, jex.Jaxpr | jex.ClosedJaxpr)]


def _size(atom: Any) -> int:
    return math.prod(getattr(atom.aval, "shape", ()))
