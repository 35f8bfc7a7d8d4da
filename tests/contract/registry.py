"""Everything that has to keep the contract: rules, transformations, optimizers.

A new rule, transformation or option is added here once; every contract test takes it
from here. What is built is built anew at each call, so that no test can spoil another.
"""

import functools
import warnings
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


class Optimizer(NamedTuple):
    """An optimizer to wrap, by its factory and by what it builds."""

    factory: Callable[..., optax.GradientTransformation]
    rate: float | None  # None: it has none, and can only be wrapped once it is built
    real_only: bool = False
    needs_value: bool = False
    draws: bool = False  # its state holds a random key

    def build(self, learning_rate: Any = None) -> optax.GradientTransformation:
        if self.rate is None:
            return self.factory()
        rate = self.rate if learning_rate is None else learning_rate
        name = "max_learning_rate" if self.needs_value else "learning_rate"
        return self.factory(**{name: rate})


def optimizer(name: str, rate: float | None, **kwargs: Any) -> Optimizer | None:
    """One of Optax's by its name, or None where this Optax is too old to have it."""
    factory = getattr(optax, name, None) or getattr(optax.contrib, name, None)
    if factory is None:
        return None
    return Optimizer(
        functools.partial(factory, **kwargs) if kwargs else factory,
        rate,
        real_only=name in REAL_ONLY,
        needs_value=name == "polyak_sgd",
        draws=name == "noisy_sgd",
    )


def optimistic_adam(learning_rate: Any) -> optax.GradientTransformation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return optax.optimistic_adam(learning_rate)


# As Optax's own tests have it; of its contributed ones nothing complex is promised.
CONTRIBUTED = (
    "ademamix",
    "adopt",
    "dog",
    "muon",
    "prodigy",
    "schedule_free_sgd",
)
REAL_ONLY = (
    "adadelta",
    "adan",
    "fromage",
    "lbfgs",
    "lion",
    "noisy_sgd",
    "optimistic_gradient_descent",
    "polyak_sgd",
    "rprop",
    "sign_sgd",
    "signum",
    "sm3",
    *CONTRIBUTED,
)

_OPTIMIZERS = {
    "adabelief": optimizer("adabelief", 1e-2),
    "adadelta": optimizer("adadelta", 0.1),
    "adadelta without rate": optimizer("adadelta", None),
    "adafactor": optimizer("adafactor", 5e-3),
    "adafactor without rate": optimizer("adafactor", None),
    "adafactor, all factored": optimizer("adafactor", 5e-3, min_dim_size_to_factor=1),
    "adagrad": optimizer("adagrad", 1.0),
    "adam": optimizer("adam", 0.1),
    "adamax": optimizer("adamax", 0.1),
    "adamaxw": optimizer("adamaxw", 0.1),
    "adamw": optimizer("adamw", 0.1),
    "adan": optimizer("adan", 0.1),
    "amsgrad": optimizer("amsgrad", 0.1),
    "fromage": optimizer("fromage", 5e-3),
    "lamb": optimizer("lamb", 1e-3),
    "lars": optimizer("lars", 1.0),
    "lbfgs": optimizer("lbfgs", 0.1, linesearch=None),
    "lion": optimizer("lion", 1e-2, weight_decay=1e-4),
    "nadam": optimizer("nadam", 1e-2),
    "nadamw": optimizer("nadamw", 1e-2),
    "noisy_sgd": optimizer("noisy_sgd", 1e-3, eta=1e-4, key=0),
    "novograd": optimizer("novograd", 1e-3),
    "optimistic_adam": Optimizer(optimistic_adam, 2e-3, real_only=True),
    "optimistic_adam_v2": optimizer("optimistic_adam_v2", 2e-3),
    "optimistic_gradient_descent": optimizer(
        "optimistic_gradient_descent", 2e-3, alpha=0.7, beta=0.1
    ),
    "polyak_sgd": optimizer("polyak_sgd", 1.0),
    "radam": optimizer("radam", 5e-3),
    "rmsprop": optimizer("rmsprop", 5e-3),
    "rmsprop with momentum": optimizer("rmsprop", 5e-3, momentum=0.9),
    "rprop": optimizer("rprop", 0.1),
    "sgd": optimizer("sgd", 0.1),
    "sgd with momentum": optimizer("sgd", 1e-3, momentum=0.9),
    "sign_sgd": optimizer("sign_sgd", 0.1),
    "signum": optimizer("signum", 1e-2),
    "sm3": optimizer("sm3", 1.0),
    "yogi": optimizer("yogi", 0.1),
    "contrib ademamix": optimizer("ademamix", 1e-3),
    "contrib adopt": optimizer("adopt", 1e-2),
    "contrib dog": optimizer("dog", 1.0),
    "contrib muon": optimizer("muon", 1e-2),
    "contrib prodigy": optimizer("prodigy", 0.1),
    "contrib schedule_free_sgd": optimizer("schedule_free_sgd", 1e-2, warmup_steps=9),
    "filters.momentum_sgd": Optimizer(ao.filters.momentum_sgd, 1e-2),
    "filters.adam": Optimizer(ao.filters.adam, 1e-2),
    "filters.adamw": Optimizer(ao.filters.adamw, 1e-2),
    "filters.adagrad": Optimizer(ao.filters.adagrad, 1e-2),
}
OPTIMIZERS = {name: one for name, one in _OPTIMIZERS.items() if one is not None}
ENTRIES = ("factory", "built")


def wrap(
    one: Optimizer, entry: str, **options: Any
) -> optax.GradientTransformationExtraArgs:
    """Any optimizer under the scheduler, through either entry point."""
    if entry == "built":
        return ao.adaptive_scheduler(one.build(), one.rate, **options)
    return ao.adaptive_scheduler(one.factory, one.rate, **options)


def entries() -> list[tuple[str, str]]:
    """Every optimizer with every entry point that it has."""
    return [
        (name, entry)
        for name, one in OPTIMIZERS.items()
        for entry in ENTRIES
        if entry == "built" or one.rate is not None
    ]


def some_params(dtype: Any = jnp.float32, other: Any = None) -> dict[str, Any]:
    """Small; a matrix for those that factor one, ``other`` the vector's dtype."""
    return {
        "b": jnp.linspace(0.5, 1.5, 4).astype(dtype if other is None else other),
        "w": jnp.linspace(-1.0, 1.0, 12).reshape(3, 4).astype(dtype),
    }
