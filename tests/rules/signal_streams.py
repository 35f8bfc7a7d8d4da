"""Signals without a training loop: one quiet step, or a long and nasty stream."""

import functools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from adaptive_optax._types import Cosine, Rule, Series, Signals, Standing

PARTS = {
    "loss": Series,
    "reward": Series,
    "alignment": Cosine,
    "heading": Cosine,
    "step_correlation": Cosine,
    "standing": Standing,
}
FIELDS = (
    *(name for name in Signals._fields if name not in (*PARTS, "objective")),
    *(f"{part}__{name}" for part, kind in PARTS.items() for name in kind._fields),
)
"""A part's entry as a keyword, ``loss__trend``. The objective is always the loss."""

FLAGS = ("arrived", "has_gradient", "warming", "restored")
COUNTS = ("count", "failures")
QUIET = dict.fromkeys(FIELDS, 0.0) | {
    "loss__arrived": True,
    "has_gradient": True,
    "alignment__arrived": True,
    "loss__value": 1.0,
    "loss__fast": 1.0,
    "loss__slow": 1.0,
    "loss__noise": 0.1,
    "loss__variance_ratio": 1.0,
    "loss__success": 0.5,
    "loss__count": 50,
    "loss__long_trend": 3.0,
    "grad_norm": 1.0,
    "alignment__sem": 0.1,
    "alignment__slow_sem": 0.1,
    "alignment__count": 50,
    "heading__slow_sem": 0.1,
}


def dtype_of(field: str) -> Any:
    name = field.split("__")[-1]
    return np.bool_ if name in FLAGS else np.int32 if name in COUNTS else np.float32


def nested(fields: dict[str, Any]) -> Signals:
    """Signals from all of `FIELDS`."""
    unknown = set(fields) ^ set(FIELDS)
    assert not unknown, unknown
    arrays = {name: jnp.asarray(x, dtype_of(name)) for name, x in fields.items()}
    parts = {
        part: kind(**{name: arrays.pop(f"{part}__{name}") for name in kind._fields})
        for part, kind in PARTS.items()
    }
    return Signals(**arrays, **parts, objective=parts["loss"])


def flat(signals: Signals) -> dict[str, jax.Array]:
    """All of `FIELDS` from signals."""
    return {
        name: functools.reduce(getattr, name.split("__"), signals) for name in FIELDS
    }


def replaced(signals: Signals, **fields: Any) -> Signals:
    """The same signals but for the fields given."""
    return nested(flat(signals) | fields)


def one_step(**fields: Any) -> Signals:
    """A step in which nothing happens, but for the fields given."""
    return nested(QUIET | fields)


def steps(length: int, **fields: Any) -> Signals:
    """``length`` such steps stacked on axis 0; a field may be a sequence over them."""
    given = QUIET | {"count": np.arange(length)} | fields
    return nested(
        {name: np.broadcast_to(np.asarray(x), (length,)) for name, x in given.items()}
    )


def random_stream(
    seed: int,
    length: int = 500,
    *,
    missing: float = 0.15,
    spikes: float = 0.02,
    restores: float = 0.01,
) -> Signals:
    """A stream of every kind of step, stacked on axis 0.

    Autocorrelated z-scores, a loss that falls through zero with spikes, stretches that
    went through bfloat16, and measurements that did not arrive: their last good values
    stay, their flags are down.
    """
    rng = np.random.default_rng(seed)

    def wander(scale: float = 1.0, memory: float = 0.8) -> np.ndarray:
        """AR(1) noise of standard deviation ``scale``, with rare large spikes."""
        x = np.zeros(length)
        for t, shock in enumerate(rng.normal(size=length)):
            x[t] = memory * x[t - 1] + np.sqrt(1 - memory**2) * shock
        jumps = (rng.random(length) < spikes) * rng.normal(size=length) * 8
        return scale * (x + jumps)

    value = 5.0 - 12.0 * np.arange(length) / length + wander(0.5)
    fast = value + wander(0.1)
    series = {
        "count": np.arange(length),
        "loss__value": value,
        "loss__change": np.diff(value, prepend=value[:1]),
        "loss__fast": fast,
        "loss__slow": fast + wander(0.3),
        "loss__noise": 0.5 * np.exp(wander(0.3)),
        "loss__trend": wander(2.0, 0.9),
        "loss__long_trend": 2.0 + wander(2.0, 0.9),
        "loss__drop": wander(0.1, 0.9),
        "loss__count": np.arange(length),
        "loss__variance_ratio": np.exp(wander(0.7, 0.9)),
        "loss__success": 1 / (1 + np.exp(-wander(2.0))),
        "reward__value": wander(10.0),
        "reward__change": wander(3.0),
        "reward__trend": wander(2.0, 0.9),
        "grad_norm": np.exp(wander()),
        "grad_norm_z": wander(2.0),
        "alignment__value": np.tanh(wander()),
        "alignment__mean": np.tanh(wander(0.3)),
        "alignment__sem": 0.1 * np.exp(wander(0.3)),
        "alignment__slow": np.tanh(wander(0.2)),
        "alignment__slow_sem": 0.04 * np.exp(wander(0.3)),
        "alignment__count": np.arange(length),
        "step_correlation__mean": np.tanh(wander()),
        "heading__slow": np.tanh(wander(0.2)),
        "heading__slow_sem": 0.05 * np.exp(wander(0.3)),
        "dog_step_size": np.exp(wander()),
        "standing__log_scale": wander(),
        "standing__trusted_log_scale": np.minimum(wander(), 0.0),
        "standing__warming": np.arange(length) < 20,
        "standing__failures": np.cumsum(rng.random(length) < restores / 4),
        "standing__restored": rng.random(length) < restores,
    }
    together = {
        "loss__arrived": ("loss",),
        "reward__arrived": ("reward",),
        "has_gradient": ("grad", "dog"),
        "alignment__arrived": ("alignment", "heading"),
    }
    for flag, parts in together.items():
        arrived = rng.random(length) >= missing
        last = np.maximum.accumulate(np.where(arrived, np.arange(length), 0))
        for name in series:
            if name.startswith(parts):
                series[name] = np.asarray(series[name])[last]
        series[flag] = arrived
    rounded = slice(length // 3, 2 * length // 3)
    for name in series:
        if dtype_of(name) is np.float32:
            column = np.asarray(series[name], np.float32)
            column[rounded] = column[rounded].astype(ml_dtypes.bfloat16)
            series[name] = column
    still = {name: np.zeros(length) for name in FIELDS}
    return nested(still | series)


def records(stream: Signals) -> Iterator[Any]:
    """The steps of a stream as plain Python numbers, for a twin to read."""
    columns = {name: np.asarray(x).tolist() for name, x in flat(stream).items()}
    for t in range(len(columns["count"])):
        yield record({name: column[t] for name, column in columns.items()})


def record(fields: dict[str, Any]) -> SimpleNamespace:
    """Fields, such as ``part.name``, as a twin reads them: ``s.part.name``."""
    parts: dict[str, Any] = {}
    for name, x in fields.items():
        part, _, entry = name.replace("__", ".").rpartition(".")
        if part:
            parts.setdefault(part, SimpleNamespace()).__dict__[entry] = x
        else:
            parts[name] = x
    parts.setdefault("objective", parts.get("loss"))
    return SimpleNamespace(**parts)


def poisoned(stream: Signals, bad: float) -> Signals:
    """The same steps with every float replaced by ``bad`` and every flag up."""
    arrivals = ("loss__arrived", "reward__arrived", "alignment__arrived")
    return nested(
        {
            name: jnp.full_like(x, bad)
            if dtype_of(name) is np.float32
            else jnp.ones_like(x)
            if name in (*arrivals, "has_gradient")
            else x
            for name, x in flat(stream).items()
        }
    )


@functools.cache
def runner(rule: Rule) -> Callable[[Any, Signals], tuple[Any, jax.Array]]:
    """(state, stream) to the last state and every delta, one program for all tests."""

    def step(state: Any, signals: Signals) -> tuple[Any, jax.Array]:
        delta, state = rule.update(signals, state)
        return state, delta

    return jax.jit(lambda state, stream: jax.lax.scan(step, state, stream))


def run_rule(rule: Rule, stream: Signals, state: Any = None) -> tuple[np.ndarray, Any]:
    """Every delta of a rule over a stream, and its last state."""
    last, deltas = runner(rule)(rule.init() if state is None else state, stream)
    return np.asarray(deltas), last
