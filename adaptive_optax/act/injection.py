"""How the gains reach the inner optimizer: three adapters with one interface.

| inner | the learning rate | the momentum |
|---|---|---|
| a factory, `optax.adamw` | an argument of the call at every step [1] | likewise |
| built by `optax.inject_hyperparams` | written into its state | likewise |
| built, anything else | its updates are scaled by alpha / alpha_0 | cannot be reached |

[1] `optax.inject_hyperparams` takes its numbers from its state, not from the call. A
factory made by it, or with it inside, has them written there.

The gains are float32, and would promote bfloat16 updates and moments. So both are cast
back: the arithmetic has more precision, and the types stay.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adaptive_optax import _checks, _trees
from adaptive_optax._arguments import heard
from adaptive_optax.act import hyperparams

RATE_NAMES = ("learning_rate", "max_learning_rate")
MOMENTUM_NAMES = ("momentum", "b1", "beta1", "betas")
USUAL_MOMENTUM = 0.9


class Gains(NamedTuple):
    """What the controller sets before a step. All f32[]."""

    learning_rate: jax.Array
    scale: jax.Array  # learning_rate over the base rate; exactly 1 while held
    momentum: jax.Array
    forget: Any = np.False_  # bool[] the momentum's buffer is emptied first


class InnerUpdate(Protocol):
    """One step of the inner optimizer under the given gains."""

    def __call__(
        self, grads: Any, state: Any, params: Any, gains: Gains, /, **extra: Any
    ) -> tuple[Any, Any]:
        """Return the updates and the new state."""
        ...


class Inner(NamedTuple):
    """An inner optimizer whose gains can be set at every step."""

    init: Callable[[Any], Any]
    update: InnerUpdate
    momentum: Any  # its own momentum, None if unknown
    memory: float  # the same for the votes' lag, .9 if unknown
    make: Callable[[Gains], optax.GradientTransformationExtraArgs] | None  # a factory's


def adapt(
    inner: Any,
    base: Gains,
    *,
    momentum_wanted: bool,
    learning_rate_arg: str | None = None,
    momentum_arg: str | None = None,
    example: str = "adaptive_scheduler",
) -> Inner:
    """Choose the adapter for a factory or a built transformation.

    Args:
      inner: A factory, or an `optax.GradientTransformation`.
      base: The gains before the first step.
      momentum_wanted: Whether the momentum is to be set at every step.
      learning_rate_arg: Name of the factory's rate argument if it has an unusual one.
      momentum_arg: Name of the factory's momentum argument; found by itself among
        `momentum`, `b1`, `beta1` and the first of `betas`.
      example: Caller's name, for messages.

    Raises:
      TypeError: If ``inner`` is neither, or a factory that makes no transformation.
      ValueError: If a gain cannot be reached.
    """
    args = {"learning_rate_arg": learning_rate_arg, "momentum_arg": momentum_arg}
    if is_built(inner):
        for name, arg in args.items():
            if arg is not None:
                raise ValueError(
                    f"`{name}`={arg!r} names an argument of a factory, got a built "
                    f"optimizer; try {example}(optax.sgd, learning_rate=0.1, "
                    "momentum=0.9)."
                )
        return _built(inner, momentum_wanted, example)
    if not callable(inner):
        raise TypeError(
            f"the inner optimizer must be a factory or a GradientTransformation, got "
            f"{inner!r}; try {example}(optax.adamw, learning_rate=3e-4)."
        )
    return _factory(inner, base, momentum_wanted, example, **args)


def is_built(inner: Any) -> bool:
    """Whether it is a transformation (or an `optax.MultiSteps`), and no factory."""
    return hasattr(inner, "init") and hasattr(inner, "update")


def _factory(
    factory: Callable[..., Any],
    base: Gains,
    momentum_wanted: bool,
    example: str,
    learning_rate_arg: str | None,
    momentum_arg: str | None,
) -> Inner:
    name = getattr(factory, "__name__", None) or getattr(
        getattr(factory, "func", None), "__name__", repr(factory)
    )
    parameters = inspect.signature(factory).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    rate = next((n for n in RATE_NAMES if n in parameters), None)
    usual = next((n for n in MOMENTUM_NAMES if n in parameters), None)
    for what, arg, hint in (
        ("learning_rate_arg", learning_rate_arg, rate or RATE_NAMES[0]),
        ("momentum_arg", momentum_arg, usual or "b1"),
    ):
        if arg is not None and arg not in parameters and not anything:
            raise ValueError(
                f"{name} has no argument {arg!r} (it takes "
                f"{', '.join(parameters)}); try {what}={hint!r}."
            )
    rate = learning_rate_arg or rate
    if rate is None and anything:
        rate = RATE_NAMES[0]
    elif rate is None:
        raise ValueError(
            f"{name} has no argument `learning_rate` (it takes "
            f"{', '.join(parameters) or 'none'}); name the one that is its rate, "
            f"{example}({name}, learning_rate=0.1, learning_rate_arg=...), or pass the "
            f"built optimizer: {example}({name}(...))."
        )
    arg = momentum_arg or usual
    if arg is None and momentum_wanted:
        raise ValueError(
            f"{name} has no momentum argument that could be set (looked for "
            f"{', '.join(MOMENTUM_NAMES)} among {', '.join(parameters)}); name it with "
            "momentum_arg=..., or leave momentum and momentum_rule out."
        )
    default: Any = parameters[str(arg)].default if arg in parameters else None
    rate_arg = str(rate)

    def make(gains: Gains) -> optax.GradientTransformationExtraArgs:
        kwargs: dict[str, Any] = {rate_arg: gains.learning_rate}
        if momentum_wanted and arg is not None:
            now = gains.momentum
            is_pair = isinstance(default, tuple | list)
            kwargs[arg] = (now, *default[1:]) if is_pair else now
        made = factory(**kwargs)
        if not (hasattr(made, "init") and hasattr(made, "update")):
            raise TypeError(
                f"{name} must make a GradientTransformation, got {made!r}; try "
                f"{example}(optax.adamw, learning_rate=3e-4)."
            )
        return optax.with_extra_args_support(made)

    make(base)  # a missing argument is reported now, not in a trace

    def init(params):
        return jax.tree.map(_trees.own, make(base).init(params))

    def update(grads, state, params, gains, /, **extra):
        tx = make(gains)
        like = grads if params is None else params
        state = hyperparams.anew(state, make, gains, like)
        updates, new_state = tx.update(grads, state, params, **heard(tx.update, extra))
        return _cast_like(updates, grads), _cast_like(new_state, state)

    own = _leading(default)
    memory = _memory(own) if arg in parameters else USUAL_MOMENTUM
    return Inner(init, update, own, memory, make)


def _built(inner: Any, momentum_wanted: bool, example: str) -> Inner:
    if isinstance(inner, optax.MultiSteps):
        inner = inner.gradient_transformation()
    inner = optax.with_extra_args_support(inner)
    checked: list[bool] = []  # once, for it traces the optimizer

    def init(params):
        state = inner.init(params)
        if momentum_wanted and not hyperparams.settable(state, MOMENTUM_NAMES):
            raise ValueError(
                "the momentum of a built optimizer cannot be set from outside; pass "
                f"its factory, {example}(optax.sgd, learning_rate=0.1, momentum=0.9), "
                "or build it with optax.inject_hyperparams."
            )
        return jax.tree.map(_trees.own, state)

    def update(grads, state, params, gains, /, **extra):
        rates = hyperparams.settable(state, RATE_NAMES)
        momenta = hyperparams.settable(state, MOMENTUM_NAMES) if momentum_wanted else {}
        own = {**rates, **momenta}
        now = {name: gains.scale * rate for name, rate in rates.items()}
        now |= dict.fromkeys(momenta, gains.momentum)
        known = heard(inner.update, extra)
        if rates and not checked:
            hyperparams.check_read(inner, rates, grads, state, params, known)
            checked.append(True)
        told = hyperparams.replaced(state, now)
        updates, new_state = inner.update(grads, told, params, **known)
        new_state = hyperparams.replaced(new_state, own)  # what the user set stays set
        if not rates:
            updates = jax.tree.map(lambda u: _scaled(u, gains.scale), updates)
        return _cast_like(updates, grads), _cast_like(new_state, state)

    return Inner(init, update, None, USUAL_MOMENTUM, None)


def _scaled(update: jax.Array, scale: jax.Array) -> jax.Array:
    if not jnp.issubdtype(update.dtype, jnp.inexact):
        return update
    wide = jnp.promote_types(jnp.finfo(update.dtype).dtype, jnp.float32)
    return (scale.astype(wide) * update).astype(update.dtype)


def _leading(default: Any) -> Any:
    """The momentum in an argument's default; None where it is no number."""
    if isinstance(default, tuple | list) and default:
        default = default[0]
    if default is None:
        return 0.0  # Optax's way of saying "no momentum"
    is_number = isinstance(default, int | float | np.number | jax.Array)
    return default if is_number and not isinstance(default, bool) else None


def _memory(momentum: Any) -> Any:
    """A momentum that lies in [0, 1), and the usual one in place of any other."""
    if momentum is None or jnp.ndim(momentum) or _checks.is_traced(momentum):
        return USUAL_MOMENTUM
    return float(momentum) if 0 <= momentum < 1 else USUAL_MOMENTUM


def _cast_like(new: Any, old: Any) -> Any:
    def one(x, like):
        return x if x.dtype == like.dtype else x.astype(like.dtype)

    return jax.tree.map(one, jax.tree.map(_trees.strong, new), old)
