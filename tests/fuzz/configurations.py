"""Random trees and options by number, and the compiled step of each."""

import dataclasses
import functools
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adaptive_optax as ao
from tests.contract.driving import QUICK

BASE = 0.01
LOW, HIGH = 1e-4, 1.0


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["kernel", "bias"],
    meta_fields=["activation"],
)
@dataclasses.dataclass(frozen=True)
class Layer:
    """A module as users write one, with a function that is no array."""

    kernel: Any
    bias: Any
    activation: Callable[[Any], Any] = jnp.tanh


def _normal(rng: np.random.Generator, *shape: int, dtype: Any = np.float32) -> Any:
    return jnp.asarray(rng.normal(size=shape), dtype)


def _complex(rng: np.random.Generator, *shape: int) -> Any:
    return jax.lax.complex(_normal(rng, *shape), _normal(rng, *shape))


PIECES: dict[str, Callable[[np.random.Generator], Any]] = {
    "matrix": lambda r: _normal(r, 3, 5),
    "scalar": lambda r: _normal(r),
    "bfloat16": lambda r: _normal(r, 4, dtype=jnp.bfloat16),
    "float16": lambda r: _normal(r, 2, 2, dtype=jnp.float16),
    "complex": lambda r: _complex(r, 3),
    "integer": lambda r: jnp.arange(3),
    "flag": lambda r: jnp.array([True, False]),
    "empty": lambda r: jnp.zeros((0, 4)),
    "nothing": lambda r: None,
    "masked": lambda r: optax.MaskedNode(),
    "hollow": lambda r: {"a": (), "b": [], "c": {}},
    "tuple": lambda r: (_normal(r, 2), [_normal(r, 1)]),
    "layer": lambda r: Layer(_normal(r, 4, 2), _normal(r, 2)),
    "half a layer": lambda r: Layer(_normal(r, 2, 2), None),
    "large": lambda r: _normal(r, 1 << 15),
    "infinite": lambda r: jnp.asarray([0.0, -np.inf, np.inf], jnp.float32),
}


class Fed(NamedTuple):
    """What a loop hands over at a step."""

    grads: Any
    value: Any
    reward: Any


class Configuration:
    """One tree and one set of options, with a step that counts its traces."""

    def __init__(self, number: int) -> None:
        choose = random.Random(number)
        rng = np.random.default_rng(number)
        names = choose.sample(sorted(PIECES), choose.randint(0, 5))
        self.params = {name: PIECES[name](rng) for name in names}
        self.params["w"] = _normal(rng, 4)
        self.options = _options(choose)
        self.rewarded = choose.random() < 0.3
        inner = choose.choice([optax.adam, optax.sgd, optax.lion, ao.filters.adam])
        rate: Any = choose.choice([BASE, BASE, optax.linear_schedule(0.0, BASE, 20)])
        if choose.random() < 0.3:
            inner, rate = inner(BASE), BASE
        self.name = f"{names} {inner} {rate} {self.options}"
        tx = ao.adaptive_scheduler(inner, rate, **self.options)
        if choose.random() < 0.3:
            tx = optax.masked(tx, {key: key != names[:1] for key in self.params})
        if choose.random() < 0.3:
            tx = optax.chain(optax.scale(1.0), tx)
        self.tx = optax.with_extra_args_support(tx)
        self.traces: list[Any] = []
        self.step = jax.jit(self._step, compiler_options=QUICK)

    def start(self) -> tuple[Any, Any]:
        return self.params, self.tx.init(self.params)

    def _step(self, carry: tuple[Any, Any], fed: Fed) -> tuple[Any, Any]:
        self.traces.append(jax.tree.structure(fed))
        params, state = carry
        updates, state = self.tx.update(
            fed.grads, state, params, value=fed.value, reward=fed.reward
        )
        return optax.apply_updates(params, updates), state


@functools.cache
def configuration(number: int) -> Configuration:
    return Configuration(number)


def _options(choose: random.Random) -> dict[str, Any]:
    """Some options of `adaptive_scheduler`, each at its default now and then."""
    offers: dict[str, list[Any]] = {
        "mode": ["search", "safe", 3.5],
        "average": [False],
        "recovery": [
            False,
            ao.Recovery(dtype=jnp.bfloat16),
            ao.Recovery(inner=False),
        ],
        "sigma": [1e-3],
        "lr_bounds": [(LOW, HIGH)],
        "total_steps": [200],
        "slew": [0.05],
        "sketch": [1.0, 0.25],
        "rule": [
            ao.rules.plateau(patience=5),
            ao.rules.trend(),
            ao.blend(ao.rules.alignment(), ao.rules.literal(), credit=1.0),
        ],
        "dither_scale": ["isotropic", "update_rms"],
        "dither_distribution": ["rademacher"],
        "ema_decay": [0.5, 0.99],
        "freeze": [
            ao.Freeze(0.5, relative_to="initial", warmup=5, min_dwell=2),
            ao.Freeze(0.5, relative_to="largest", warmup=5, max_fraction=0.5),
        ],
    }
    taken = {name: choose.choice(offers[name]) for name in offers}
    return {name: x for name, x in taken.items() if choose.random() < 0.3}
