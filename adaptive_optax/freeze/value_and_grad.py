r"""The gradient without the work that only frozen leaves need.

A leaf's gradient costs a matrix product, the cotangents that lead to it, and often a
recomputed forward pass. A mask applied afterwards saves none of it. In `backward` the
traced gradient is rewritten: what serves only frozen leaves runs under a `jax.lax.cond`
on the mask, which is data, so nothing is compiled again when it changes.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes

from adaptive_optax import _checks, _trees
from adaptive_optax.freeze import labels as labelling
from adaptive_optax.freeze import masks
from adaptive_optax.freeze.backward.flops import BackwardFlops
from adaptive_optax.freeze.backward.liveness import ALWAYS, EVERYBODY, Key
from adaptive_optax.freeze.backward.plan import Options, Plan, build, shares
from adaptive_optax.freeze.backward.program import UnsupportedEquation, flatten
from adaptive_optax.freeze.backward.run import run


class _Traced(NamedTuple):
    closed: Any  # from `jax.make_jaxpr`
    rebuild: Callable[[Sequence[Any]], Any]  # (value or (value, aux)) from the outputs
    n_values: int  # outputs before the gradients
    differentiable: list[bool]  # of every leaf


class FrozenValueAndGrad:
    """What `frozen_value_and_grad` returns."""

    def __init__(
        self,
        fun: Callable[..., Any],
        labels: Any,
        *,
        has_aux: bool,
        allow_int: bool,
        options: Options,
    ) -> None:
        """Keep the settings; see `frozen_value_and_grad`."""
        self._grad = jax.value_and_grad(fun, has_aux=has_aux, allow_int=allow_int)
        self._labels = labels
        self._options = options
        self._warned: set[str] = set()

    def __call__(self, params: Any, frozen: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Return ``(value, grads)``, or ``((value, aux), grads)``.

        Args:
          params: What to differentiate by.
          frozen: A pytree like ``params``: of bool[] scalars, or bool[L] for a leaf
            whose first axis runs over the L layers of a `jax.lax.scan`. True is frozen:
            the gradient is exactly zero.
          *args: Further arguments of the function.
          **kwargs: Likewise.

        Raises:
          TypeError: If a mask is not boolean.
          ValueError: If the mask or the labels do not fit ``params``.
        """
        leaves, structure = jax.tree.flatten(params)
        flags = labelling.check_mask(frozen, params)
        if flags and all(mask is True for mask in flags):
            self._warn("everything is frozen: no gradient is computed at all.")
        traced = self._trace(params, args, kwargs)
        try:
            plan, numbers = self._plan(traced, params)
            outputs = run(plan, leaves, masks.live(flags, numbers))
        except UnsupportedEquation as error:
            self._warn(
                f"the backward pass cannot be rewritten around {error}; the gradients "
                "of frozen leaves are computed and then masked, which saves no time."
            )
            value, grads = self._grad(params, *args, **kwargs)
            return value, jax.tree.map(masks.masked, grads, structure.unflatten(flags))
        found = iter(outputs[traced.n_values :])
        grads = []
        rows = zip(leaves, flags, traced.differentiable, strict=True)
        for leaf, mask, inexact in rows:
            if inexact:
                grads.append(masks.masked(next(found), mask))
            else:
                grads.append(np.zeros(jnp.shape(leaf), dtypes.float0))
        value = traced.rebuild(outputs[: traced.n_values])
        return value, structure.unflatten(grads)

    def flops(self, params: Any, /, *args: Any, **kwargs: Any) -> BackwardFlops:
        """Count what the gradient costs and which groups of leaves would save how much.

        Nothing is run. Matrix products and convolutions count two for a multiply-add,
        other operations one for an element; loops of unknown length are left out.

        Args:
          params: As for the call, without the mask.
          *args: Likewise.
          **kwargs: Likewise.

        Returns:
          The count. Work on a scan's layers counts once all of them are frozen.

        Raises:
          UnsupportedEquation: If the backward pass cannot be rewritten.
        """
        traced = self._trace(params, args, kwargs)
        names = list(dict.fromkeys(labelling.resolve(self._labels, params)))
        plan, _ = self._plan(traced, params)
        forward, backward, groups = 0.0, 0.0, {}
        for key, n, skippable in shares(plan):
            if ALWAYS in key:
                forward += n
                continue
            backward += n
            if skippable:
                named = frozenset(names[number] for number in key)
                groups[named] = groups.get(named, 0.0) + n
        return BackwardFlops(forward, backward, groups)

    def _trace(self, params: Any, args: Any, kwargs: Any) -> _Traced:
        # What is no array stays what it is, as under jax.value_and_grad: a string or a
        # Python bool among the arguments may choose a branch.
        shapes: dict[str, Any] = {}
        differentiable = [
            jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
            for leaf in jax.tree.leaves(params)
        ]

        def flat(params: Any) -> Any:
            value, grads = self._grad(params, *args, **kwargs)
            values, shapes["structure"] = jax.tree.flatten(value)
            shapes["values"] = [None if _trees.is_array(x) else x for x in values]
            grads = jax.tree.leaves(grads)
            kept = [g for g, keep in zip(grads, differentiable, strict=True) if keep]
            return [x for x in values if _trees.is_array(x)], kept

        closed = jax.make_jaxpr(flat)(params)

        def rebuild(outputs: Sequence[Any]) -> Any:
            arrays = iter(outputs)
            values = [next(arrays) if x is None else x for x in shapes["values"]]
            return shapes["structure"].unflatten(values)

        n_values = sum(x is None for x in shapes["values"])
        return _Traced(closed, rebuild, n_values, differentiable)

    def _plan(self, traced: _Traced, params: Any) -> tuple[Plan, list[int]]:
        """The plan, and the number of every leaf's label."""
        labels = labelling.resolve(self._labels, params)
        number_of = {label: i for i, label in enumerate(dict.fromkeys(labels))}
        numbers = [number_of[label] for label in labels]
        keys: list[Key] = [EVERYBODY] * traced.n_values
        by_row = [False] * traced.n_values
        for number, keep in zip(numbers, traced.differentiable, strict=True):
            if keep:
                keys.append(frozenset({number}))
                by_row.append(True)
        return build(flatten(traced.closed), keys, by_row, self._options), numbers

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(f"frozen_value_and_grad: {message}", stacklevel=3)


def frozen_value_and_grad(
    fun: Callable[..., Any],
    labels: Any = None,
    *,
    has_aux: bool = False,
    allow_int: bool = False,
    min_flops: float = 2e6,
    recompute: bool = True,
) -> FrozenValueAndGrad:
    r"""`jax.value_and_grad` that takes a mask and skips what only frozen leaves need.

    .. math::
        (\ell, g) \quad\text{with}\quad
        g_i = \begin{cases} 0 & \text{frozen}_i \\
        \partial \ell / \partial \theta_i & \text{else} \end{cases}

    Of the backward pass of a frozen leaf this skips its weight gradient, the chain of
    activation gradients below the lowest live leaf, forward passes that `jax.remat`
    would run again, and, with parameters sharded over devices, the collectives of all
    these. Which model it is does not matter: a pytree of parameters goes in, be it of
    linen, of `flax.nnx.split`, or a dictionary. The layers of a `jax.lax.scan` freeze
    one by one.

    Call it inside `jax.jit`. There the mask is data: one compiled step serves every
    mask. A mask that is known while tracing (Python or NumPy bools, as in `StagedStep`)
    removes the work instead of branching around it.

    Args:
      fun: Scalar loss of ``(params, *args, **kwargs)``; differentiated by ``params``.
      labels: Which leaves share their conditionals, as a pytree like ``params`` or a
        function of a leaf's path; the work of a label is skipped when all its leaves
        are frozen. `block_labels` is the usual one. By default each leaf is its own.
      has_aux: Whether ``fun`` returns ``(loss, aux)``.
      allow_int: Whether leaves may be integers, with gradients of dtype float0.
      min_flops: Work below this many FLOPs is not worth a conditional, >= 0.
      recompute: Repeat cheap elementwise operations inside a branch rather than keep
        their results for it. Without, live gradients come of the operations of masking
        on the same operands: equal to the bit, but for what XLA fuses.

    Returns:
      ``vg(params, frozen, *args, **kwargs) -> (value, grads)``, where ``frozen`` is a
      pytree like ``params``: see `FrozenValueAndGrad`. ``vg.flops(params, *args)``
      tells what each group would save.

      An equation that cannot be rewritten (one with ordered effects, or of a primitive
      that cannot be evaluated anew) is named in one warning, and the gradients are
      masked. Under `jax.vmap` with a mask per example results are right and nothing is
      saved. To freeze everything is allowed; if it is known while tracing, as it is in
      `StagedStep`, one warning says so.

    Raises:
      TypeError: If ``fun`` is not callable or an argument not a number.
      ValueError: If ``min_flops`` < 0.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> params = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
      >>> loss = lambda p, x: jnp.sum((x @ p["w"] + p["b"]) ** 2)
      >>> vg = frozen_value_and_grad(loss)
      >>> value, grads = vg(params, {"w": True, "b": False}, jnp.ones(2))
      >>> print(value, grads["w"].sum(), grads["b"])
      18.0 0.0 [6. 6.]

    References:
      Brock, Lim, Ritchie, Weston, FreezeOut, 2017, stop the backward pass at a prefix;
      here any set of leaves, decided at run time.
    """
    if not callable(fun):
        raise TypeError(
            f"`fun` must be a function of the parameters, got {fun!r}; try "
            "frozen_value_and_grad(loss_fn)(params, frozen, batch)."
        )
    _checks.within("min_flops", min_flops, 0.0, example="min_flops=2e6")
    return FrozenValueAndGrad(
        fun,
        labels,
        has_aux=has_aux,
        allow_int=allow_int,
        options=Options(float(min_flops), recompute),
    )
