"""Signals without a training loop: one quiet step, or a long and nasty stream."""

import functools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from adaptive_optax._types import Rule, Signals

FLAGS = (
    "has_value",
    "has_reward",
    "has_gradient",
    "has_alignment",
    "warming",
    "restored",
)
COUNTS = ("count", "loss_count", "alignment_count", "failures")
MEASURED = {
    "has_value": (
        "value",
        "value_change",
        "loss_fast",
        "loss_slow",
        "loss_noise",
        "loss_trend",
        "loss_progress",
        "loss_gain",
        "loss_count",
        "loss_variance",
        "success",
    ),
    "has_reward": ("reward", "reward_change", "reward_trend"),
    "has_gradient": ("grad_norm", "grad_norm_z", "travel"),
    "has_alignment": (
        "alignment",
        "alignment_mean",
        "alignment_sem",
        "alignment_slow",
        "alignment_slow_sem",
        "heading",
        "heading_sem",
    ),
}
QUIET = dict.fromkeys(Signals._fields, 0.0) | {
    "has_value": True,
    "has_gradient": True,
    "has_alignment": True,
    "value": 1.0,
    "loss_fast": 1.0,
    "loss_slow": 1.0,
    "loss_noise": 0.1,
    "loss_variance": 1.0,
    "success": 0.5,
    "grad_norm": 1.0,
    "alignment_sem": 0.1,
    "alignment_slow_sem": 0.1,
    "heading_sem": 0.1,
    "loss_count": 50,
    "loss_progress": 3.0,
    "alignment_count": 50,
    "ceiling": np.inf,
}


def dtype_of(field: str) -> Any:
    return np.bool_ if field in FLAGS else np.int32 if field in COUNTS else np.float32


def one_step(**fields: Any) -> Signals:
    """A step in which nothing happens, but for the fields given."""
    unknown = set(fields) - set(Signals._fields)
    assert not unknown, unknown
    values = QUIET | fields
    return Signals(
        **{name: jnp.asarray(x, dtype_of(name)) for name, x in values.items()}
    )


def steps(length: int, **fields: Any) -> Signals:
    """``length`` such steps stacked on axis 0; a field may be a sequence over them."""
    given = {"count": np.arange(length)} | fields
    values = {
        name: jnp.asarray(
            np.broadcast_to(np.asarray(given.get(name, QUIET[name])), (length,)),
            dtype_of(name),
        )
        for name in Signals._fields
    }
    return Signals(**values)


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
        "value": value,
        "value_change": np.diff(value, prepend=value[:1]),
        "loss_fast": fast,
        "loss_slow": fast + wander(0.3),
        "loss_noise": 0.5 * np.exp(wander(0.3)),
        "loss_trend": wander(2.0, 0.9),
        "loss_progress": 2.0 + wander(2.0, 0.9),
        "loss_gain": wander(0.1, 0.9),
        "loss_count": np.arange(length),
        "loss_variance": np.exp(wander(0.7, 0.9)),
        "success": 1 / (1 + np.exp(-wander(2.0))),
        "reward": wander(10.0),
        "reward_change": wander(3.0),
        "reward_trend": wander(2.0, 0.9),
        "grad_norm": np.exp(wander()),
        "grad_norm_z": wander(2.0),
        "alignment": np.tanh(wander()),
        "alignment_mean": np.tanh(wander(0.3)),
        "alignment_sem": 0.1 * np.exp(wander(0.3)),
        "alignment_slow": np.tanh(wander(0.2)),
        "alignment_slow_sem": 0.04 * np.exp(wander(0.3)),
        "alignment_count": np.arange(length),
        "persistence": np.tanh(wander()),
        "heading": np.tanh(wander(0.2)),
        "heading_sem": 0.05 * np.exp(wander(0.3)),
        "travel": np.exp(wander()),
        "coordinate": wander(),
        "trusted": np.minimum(wander(), 0.0),
        "ceiling": np.full(length, np.inf),
        "warming": np.arange(length) < 20,
        "failures": np.cumsum(rng.random(length) < restores / 4),
        "restored": rng.random(length) < restores,
    }
    for flag, names in MEASURED.items():
        arrived = rng.random(length) >= missing
        series[flag] = arrived
        last = np.maximum.accumulate(np.where(arrived, np.arange(length), 0))
        for name in names:
            series[name] = np.asarray(series[name])[last]
    rounded = slice(length // 3, 2 * length // 3)
    for name in Signals._fields:
        if dtype_of(name) is np.float32:
            column = np.asarray(series[name], np.float32)
            column[rounded] = column[rounded].astype(ml_dtypes.bfloat16)
            series[name] = column
    return Signals(
        **{
            name: jnp.asarray(np.asarray(series[name]), dtype_of(name))
            for name in Signals._fields
        }
    )


def records(stream: Signals) -> Iterator[SimpleNamespace]:
    """The steps of a stream as plain Python numbers, for a twin to read."""
    columns = {name: np.asarray(x).tolist() for name, x in stream._asdict().items()}
    for t in range(len(columns["count"])):
        yield SimpleNamespace(**{name: column[t] for name, column in columns.items()})


def poisoned(stream: Signals, bad: float) -> Signals:
    """The same steps with every float replaced by ``bad`` and every flag up."""
    return Signals(
        **{
            name: jnp.full_like(x, bad)
            if dtype_of(name) is np.float32
            else jnp.ones_like(x)
            if name in MEASURED
            else x
            for name, x in stream._asdict().items()
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
