"""What has to keep the contract: rules and transformations (and see `optimizers`).

A new rule, transformation or option is added here once; every contract test takes it
from here. What is built is built anew at each call, so that no test can spoil another.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

import adaptive_optax as ao
from adaptive_optax._types import Rule
from adaptive_optax.law import Law
from adaptive_optax.rules.search import prior

RULES: dict[str, Callable[[], Rule]] = {
    **{name: getattr(ao.rules, name) for name in ao.rules.__all__},
    "literal momentum": functools.partial(ao.rules.literal, "momentum"),
    "literal sigma": functools.partial(ao.rules.literal, "sigma"),
    "search then trend": lambda: ao.rules.search(ao.rules.trend(), law=Law(trust=3.0)),
    "blend": lambda: ao.blend(ao.rules.trend(), ao.rules.variance(), weights=(2, 1)),
    "blend with credit": lambda: ao.blend(
        {"loss": ao.rules.trend(), "spikes": ao.rules.grad_norm()}, credit=10.0
    ),
    "prior": functools.partial(prior, Law(trust=3.0)),
}


class Case(NamedTuple):
    """A transformation under test."""

    make: Callable[[], optax.GradientTransformationExtraArgs]
    abstract: bool = True  # `init` takes shapes only


def scheduler(inner: Any, *args: Any, **options: Any) -> Case:
    return Case(lambda: ao.adaptive_scheduler(inner, *args, **options))


LITERAL = {
    "rule": ao.rules.literal(),
    "momentum_rule": ao.rules.literal("momentum"),
    "sigma_rule": ao.rules.literal("sigma"),
    "momentum_coordinate": "linear",
    "sigma": 1e-3,
}
EVERYTHING = {
    "momentum": 0.9,
    "rule": ao.blend(ao.rules.trend(), ao.rules.plateau(), credit=10.0),
    "momentum_rule": ao.rules.variance(),
    "sigma": 1e-3,
    "freeze_threshold": 1e-4,
    "total_steps": 1000,
    "slew": 0.5,
}
BARE = {"average": False, "recovery": False}

SCHEDULERS = {
    "factory": scheduler(optax.adamw, 1e-2),
    "built": scheduler(optax.sgd(1e-2, momentum=0.9)),
    "factory, bare": scheduler(optax.adam, 1e-2, **BARE),
    "built, bare": scheduler(optax.adam(1e-2), **BARE),
    "built, injected": Case(  # Optax asks real parameters for their dtype
        lambda: ao.adaptive_scheduler(
            optax.inject_hyperparams(optax.adam)(learning_rate=1e-2), 1e-2
        ),
        abstract=False,
    ),
    "no average": scheduler(optax.sgd, 1e-2, average=False),
    "no recovery": scheduler(optax.sgd, 1e-2, recovery=False),
    "search": scheduler(optax.sgd, 1e-2, mode="search"),
    "safe": scheduler(optax.sgd, 1e-2, mode="safe"),
    "copy in half": scheduler(
        optax.adam, 1e-2, mode=4.5, recovery=ao.Recovery(dtype=jnp.bfloat16)
    ),
    "schedule": scheduler(optax.adam, optax.cosine_decay_schedule(1e-2, 100), **BARE),
    "total_steps": scheduler(optax.adam, 1e-2, total_steps=40, **BARE),
    "freezing": scheduler(optax.adamw, 1e-2, freeze_threshold=0.1),
    "dither": scheduler(optax.adam, 1e-2, sigma=1e-3, **BARE),
    "momentum set": scheduler(optax.sgd, 1e-2, momentum=0.5, **BARE),
    "momentum rule": scheduler(
        optax.adam, 1e-2, momentum=0.9, momentum_rule=ao.rules.trend()
    ),
    "auto": scheduler(optax.adam, 1e-2, momentum_rule="auto", sigma_rule="auto"),
    "reward rule": scheduler(optax.sgd, 1e-2, rule=ao.rules.reward(), **BARE),
    "literal": scheduler(optax.sgd, 1e-2, momentum=0.9, **LITERAL),
    "everything": scheduler(optax.adamw, 1e-2, **EVERYTHING),
    "restore_on_divergence": Case(lambda: ao.restore_on_divergence(optax.adam(1e-2))),
    "adaptive_sgd": Case(lambda: ao.adaptive_sgd(1e-2)),
    "adaptive_adam": Case(lambda: ao.adaptive_adam(1e-2)),
    "adaptive_adamw": Case(lambda: ao.adaptive_adamw(1e-2)),
    "online_sgd": Case(lambda: ao.online_sgd(1e-2)),
    "online_adagrad": Case(lambda: ao.online_adagrad(1e-2)),
}

PARTS = {
    "add_dither": Case(lambda: ao.add_dither(1e-3)),
    "average_params": Case(lambda: ao.average_params(every=2)),
    "freeze_by_grad_norm": Case(
        lambda: ao.freeze_by_grad_norm(0.1, warmup=5, min_dwell=2)
    ),
    "freeze_by_grad_norm around adamw": Case(
        lambda: ao.freeze_by_grad_norm(0.1, optax.adamw(1e-2), warmup=5, min_dwell=2)
    ),
    "freeze_by_grad_norm by layers": Case(
        lambda: ao.freeze_by_grad_norm(
            0.1, optax.sgd(1e-2, 0.9), warmup=5, min_dwell=2, stacked="w", never="b"
        )
    ),
    "hold_frozen": Case(lambda: ao.hold_frozen(optax.adam(1e-2))),
    "scale_by_rule": Case(lambda: ao.scale_by_rule(ao.rules.trend())),
    "scale_by_rule of a blend": Case(
        lambda: ao.scale_by_rule(RULES["blend with credit"](), slew=0.1)
    ),
    "filters.momentum_sgd": Case(lambda: ao.filters.momentum_sgd(1e-2)),
    "filters.adam": Case(lambda: ao.filters.adam(1e-2)),
    "filters.adamw": Case(lambda: ao.filters.adamw(1e-2)),
    "filters.adagrad": Case(lambda: ao.filters.adagrad(1e-2, momentum=0.9)),
}
TRANSFORMATIONS = SCHEDULERS | PARTS
# By default these stand for all where each costs a program of its own: what the other
# schedulers add is in "everything" or a number, what they leave out matters little.
STANDING = (
    "factory",
    "built, injected",
    "copy in half",
    "literal",
    "everything",
    "online_adagrad",
    *PARTS,
)
# Those that do not name leaves, for tests with parameters of their own.
OF_ANY_TREE = [name for name in TRANSFORMATIONS if "by layers" not in name]


def some_params(dtype: Any = jnp.float32, other: Any = None) -> dict[str, Any]:
    """Small; a matrix for those that factor one, ``other`` the vector's dtype."""
    return {
        "b": jnp.linspace(0.5, 1.5, 4).astype(dtype if other is None else other),
        "w": jnp.linspace(-1.0, 1.0, 12).reshape(3, 4).astype(dtype),
    }
