"""What the loop is made of: one stage for each line of its law."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from adaptive_optax.act import injection
from adaptive_optax.act import stage as acting
from adaptive_optax.act.base_rate import BaseRate
from adaptive_optax.act.gains import Driven
from adaptive_optax.agreement import Agreement
from adaptive_optax.freeze.stage import Freezing
from adaptive_optax.supervise.stage import Supervision


class Stages(NamedTuple):
    """What the loop is made of. Static: nothing here changes from step to step."""

    base: BaseRate
    rate: Driven  # of the multiplier
    momentum: Driven
    sigma: Driven
    supervision: Supervision
    averaging: acting.Averaging
    freezing: Freezing
    shadow: acting.Shadow
    dither: acting.Noise
    inner: injection.Inner
    needs_params: bool
    kept: dict[str, bool]  # which fields of the state are more than ()
    fraction: float  # of the coordinates that the sketch keeps
    axes: tuple[str, ...] | None  # over which devices are averaged; None: not said
    agreement: Agreement

    def likes(self) -> Callable[[Any], dict[str, Any]]:
        """Parameters -> what fields of a state must be like, as abstract trees.

        Each is traced once, the inner optimizer's state once for all parameters of the
        same shapes. Without parameters that one is not known.
        """
        makers = {
            "lr_rule": self.rate.init,
            "momentum_rule": self.momentum.init,
            "sigma_rule": self.sigma.init,
            "shadow": self.shadow.init,
        }
        fixed = functools.cache(
            lambda: {field: jax.eval_shape(make) for field, make in makers.items()}
        )
        inner: dict[Any, Any] = {}

        def like(params: Any) -> dict[str, Any]:
            if params is None:
                return fixed()
            leaves, structure = jax.tree.flatten(params)
            shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
            key = structure, *shapes
            if key not in inner:
                params = structure.unflatten(shapes)
                inner[key] = jax.eval_shape(self.inner.init, params)
            return {**fixed(), "inner_state": inner[key]}

        return like


def kept(averaging: Any, recovery: Any, freezing: Any) -> dict[str, bool]:
    """Which fields of the state hold something, by whether their options are on."""
    return {
        "averaging": bool(averaging),
        "recovery": bool(recovery),
        "freezing": bool(freezing),
    }
