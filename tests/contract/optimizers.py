"""Optax's optimizers and ours, to be wrapped: each is added here once."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import optax

import adaptive_optax as ao


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
