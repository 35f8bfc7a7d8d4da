"""Eager argument checks: quote the value, show the right call, let tracers through.

A hyperparameter may be a tracer when an experiment is built under `jit` or `vmap`. Its
value is not known then, so every check lets a tracer pass.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def is_traced(value: Any) -> bool:
    """Whether ``value`` is a JAX tracer, whose number is not known yet."""
    return isinstance(value, Tracer)


def static(name: str, value: Any, *, example: str) -> None:
    """Require a number that is no array, which may be traced at the next call.

    Raises:
      TypeError: If it is one: the program depends on the number.
    """
    if isinstance(value, jax.Array):
        raise TypeError(
            f"`{name}` must be known before anything is traced, got {value}; try "
            f"{example} outside of jit and vmap, or "
            f'optax.inject_hyperparams(..., static_args=("{name}",)).'
        )


def is_infinite(value: Any) -> bool:
    """Whether ``value`` is known to be positive infinity."""
    known = isinstance(value, float | np.number | np.ndarray | jax.Array)
    known = known and not is_traced(value) and np.ndim(value) == 0
    return known and float(value) == math.inf


def number(name: str, value: Any, *, example: str) -> None:
    """Require a finite real scalar.

    Raises:
      TypeError: If ``value`` is not a real scalar.
      ValueError: If it is not finite.
    """
    if is_traced(value):
        return
    is_scalar = isinstance(value, int | float | np.number | np.ndarray | jax.Array)
    if isinstance(value, bool) or not is_scalar or np.ndim(value) != 0:
        raise TypeError(f"`{name}` must be a number, got {value!r}; try {example}.")
    if not math.isfinite(float(value)):
        raise ValueError(f"`{name}` must be finite, got {value}; try {example}.")


def within(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    example: str,
    open_low: bool = False,
    open_high: bool = False,
    or_inf: bool = False,
) -> None:
    """Require a finite number in ``[low, high]``, or with an open end, or infinity.

    Raises:
      TypeError: If ``value`` is not a real scalar.
      ValueError: If it is not finite or lies outside.
    """
    if or_inf and is_infinite(value):
        return
    number(name, value, example=example)
    if is_traced(value) or is_traced(low) or is_traced(high):
        return
    # While another program is traced, even a known array's `<` is.
    size, low, high = float(value), float(low), float(high)
    below = size <= low if open_low else size < low
    above = size >= high if open_high else size > high
    if below or above:
        left = "(" if open_low or low == -math.inf else "["
        right = ")" if open_high or (high == math.inf and not or_inf) else "]"
        raise ValueError(
            f"`{name}` must lie in {left}{low:g}, {high:g}{right}, got {value}; "
            f"try {example}."
        )


def evidence(name: str, value: Any, *, example: str) -> None:
    """Require a number of at least 0, infinity included.

    Raises:
      TypeError: If ``value`` is not a real scalar.
      ValueError: If it is negative or NaN.
    """
    within(name, value, 0.0, example=example, or_inf=True)


def positive(name: str, value: Any, *, example: str, or_inf: bool = False) -> None:
    """Require a finite number above 0, or infinity (`within` says what it raises)."""
    within(name, value, 0.0, open_low=True, example=example, or_inf=or_inf)


def decay(name: str, value: Any, *, example: str) -> None:
    """Require a number between 0 and 1 that is no array (`static`, `within`)."""
    static(name, value, example=example)
    within(name, value, 0.0, 1.0, open_low=True, open_high=True, example=example)
    if not 1e-100 < value < 1 - 1e-12:  # its products and its horizon need digits
        raise ValueError(
            f"`{name}` must lie further from 0 and 1, got {value}; try {example}."
        )


def whole(name: str, value: Any, low: int = 0, *, example: str) -> None:
    """Require an integer of at least ``low``.

    Raises:
      TypeError: If ``value`` is not an integer.
      ValueError: If it is below ``low``.
    """
    if is_traced(value):
        return
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"`{name}` must be an integer, got {value!r}; try {example}.")
    if value < low:
        raise ValueError(
            f"`{name}` must be at least {low}, got {value}; try {example}."
        )


def bounds(
    name: str,
    value: Any,
    low: float,
    high: float,
    *,
    example: str,
    open_high: bool = False,
) -> None:
    """Require a pair ``(lower, upper)`` with ``low <= lower <= upper <= high``.

    Raises:
      TypeError: If ``value`` is not a pair of numbers.
      ValueError: If the pair is reversed or leaves its domain.
    """
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(
            f"`{name}` must be a pair (low, high), got {value!r}; try {example}."
        )
    for end in value:
        within(name, end, low, high, open_high=open_high, example=example)
    if not any(map(is_traced, value)) and float(value[0]) > float(value[1]):
        raise ValueError(
            f"`{name}` is reversed: {value[0]} > {value[1]}; try {example}."
        )


def one_of(
    name: str, value: Any, choices: tuple[str, ...], *, example: str | None = None
) -> None:
    """Require one of the known names.

    Raises:
      ValueError: If ``value`` is none of them; the message lists them.
    """
    if value not in choices:
        known = ", ".join(repr(choice) for choice in choices)
        hint = f"; try {example}" if example else ""
        raise ValueError(f"`{name}` must be one of {known}, got {value!r}{hint}.")


def flag(name: str, value: Any) -> None:
    """Require True or False.

    Raises:
      TypeError: If ``value`` is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be True or False, got {value!r}.")


def params_given(params: Any, caller: str) -> None:
    """Require parameters where a transformation cannot work without them.

    Raises:
      ValueError: If ``params`` is None.
    """
    if params is None:
        raise ValueError(
            f"`{caller}` needs the parameters, got params=None; "
            "call update(grads, state, params, ...)."
        )


def scalar_feedback(name: str, value: Any) -> None:
    """Require a scalar loss or reward; its shape is known even when it is traced.

    Raises:
      TypeError: If it is not numeric.
      ValueError: If it is not a scalar.
    """
    call = f"update(grads, state, params, {name}="
    if isinstance(value, tuple | list):
        raise ValueError(
            f"`{name}` must be a scalar, got a {type(value).__name__} of {len(value)}; "
            f"with has_aux=True the first of it is the loss, {call}{name}[0])."
        )
    shape = np.shape(value)
    if shape != ():
        raise ValueError(
            f"`{name}` must be a scalar, got shape {shape}; "
            f"try {call}jnp.mean({name}))."
        )
    dtype = getattr(value, "dtype", np.result_type(type(value)))
    if not (jnp.issubdtype(dtype, np.floating) or jnp.issubdtype(dtype, np.integer)):
        raise TypeError(
            f"`{name}` must be a real number, got {value!r}; try {call}loss)."
        )
