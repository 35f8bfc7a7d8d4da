"""Times as paired ratios: two programs take turns in one process, on the same data.

On a noisy machine absolute times prove nothing, but the ratio of two runs that follow
each other does. The median of that ratio over repeats is reported, with its quartiles.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.models import Model

Timed = Callable[[], float]  # seconds


def stepper(tx: Any, loss: Callable[..., jax.Array]) -> Callable[..., Any]:
    """One training step, feedback included."""
    tx = optax.with_extra_args_support(tx)

    def step(params, state, batch):
        value, grads = jax.value_and_grad(loss)(params, batch)
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    return step


def start(tx: Any, model: Model) -> tuple[Any, Any]:
    """Parameters and state that share no buffer, so that both can be donated."""
    params = jax.jit(model.init)(jax.random.key(0))
    return params, jax.jit(lambda p: jax.tree.map(jnp.copy, tx.init(p)))(params)


def runner(step: Callable[..., Any], carry: tuple, *rest: Any, calls: int) -> Timed:
    """Seconds of one call of ``step(*carry, *rest) -> carry``; the first is not timed.

    The carry is donated, as in training.
    """
    run = jax.jit(step, donate_argnums=tuple(range(len(carry))))
    return caller(run, carry, *rest, calls=calls)


def caller(run: Callable[..., Any], carry: tuple, *rest: Any, calls: int) -> Timed:
    """As `runner`, of a step that is compiled already, or compiles itself."""
    carry = jax.block_until_ready(run(*carry, *rest))

    def timed() -> float:
        nonlocal carry
        began = time.perf_counter()
        for _ in range(calls):
            carry = run(*carry, *rest)
        jax.block_until_ready(carry)
        return (time.perf_counter() - began) / calls

    return timed


def scanned(step: Callable[..., Any], steps: int) -> Callable[..., Any]:
    """``steps`` steps in one `jax.lax.scan`, for models too small to time alone."""

    def many(params, state, batch):
        def body(carry, _):
            return step(*carry, batch), None

        return jax.lax.scan(body, (params, state), length=steps)[0]

    return many


def compiler(tx: Any, model: Model) -> Timed:
    """Seconds to trace, lower and compile one step."""
    params = jax.eval_shape(model.init, jax.random.key(0))
    state = jax.eval_shape(tx.init, params)
    batch = jax.eval_shape(model.batch, jax.random.key(0))
    # The first trace also fills JAX's caches, where every later one finds them.
    jax.eval_shape(stepper(tx, model.loss), params, state, batch)

    def timed() -> float:
        # A new function each time: JAX remembers what it has traced.
        step = jax.jit(stepper(tx, model.loss), donate_argnums=(0, 1))
        began = time.perf_counter()
        step.lower(params, state, batch).compile()
        return time.perf_counter() - began

    return timed


def paired(
    baseline: Timed, runners: dict[Any, Timed], repeats: int
) -> tuple[dict[Any, dict[str, float]], float]:
    """Quartiles of each runner's time over the baseline's, and the baseline's median.

    Every runner takes its turn in each repeat, beside a baseline of its own, before it
    in one repeat and after it in the next.

    Raises:
      ValueError: If ``repeats`` is below 2, which has no quartiles.
    """
    if repeats < 2:
        raise ValueError(f"`repeats` must be at least 2, got {repeats}; try 7.")
    ratios: dict[Any, list[float]] = {name: [] for name in runners}
    plain = []
    for turn in range(repeats):
        for name, timed in runners.items():
            if turn % 2 == 0:
                before, seconds = baseline(), timed()
            else:
                seconds, before = timed(), baseline()
            ratios[name].append(seconds / before)
            plain.append(before)
    return {name: _quartiles(ratio) for name, ratio in ratios.items()}, (
        statistics.median(plain) if plain else float("nan")
    )


def attempt(build: Callable[[], Any]) -> tuple[Any, str | None]:
    """What ``build`` returns, or None and what it raised: a failure is a result too."""
    try:
        return build(), None
    except Exception as error:  # noqa: BLE001
        lines = str(error).strip().splitlines() or [""]
        return None, f"{type(error).__name__}: {lines[0]}"[:300]


def compare(
    key: str,
    plain: Any,
    makers: dict[str, Callable[[], Any]],
    build: Callable[[Any], tuple[dict[str, Any], Timed]],
    repeats: int,
) -> tuple[dict[str, dict[str, Any]], float]:
    """A row per maker, with the ratio at ``key`` or its error, and plain's seconds."""
    rows: dict[str, dict[str, Any]] = {}
    runners = {}
    for name, make in makers.items():
        built, error = attempt(lambda make=make: build(make()))
        rows[name] = {"error": error}
        if built is not None:
            rows[name] |= built[0]
            runners[name] = built[1]
    ratios, seconds = paired(build(plain)[1], runners, repeats)
    for name, ratio in ratios.items():
        rows[name][key] = ratio
    return rows, seconds


def nbytes(tree: Any) -> int:
    """Bytes of the arrays of a pytree, abstract ones included."""
    sizes = [leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)]
    return sum(sizes)


def environment() -> dict[str, Any]:
    """Versions and device, for the record."""
    import adaptive_optax

    device = jax.devices()[0]
    return {
        "jax": jax.__version__,
        "optax": optax.__version__,
        "adaptive_optax": adaptive_optax.__version__,
        "platform": device.platform,
        "device": device.device_kind,
        "devices": jax.device_count(),
    }


def _quartiles(ratios: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return {"low": low, "median": median, "high": high}
