"""One GPT training run on the text of the Python manual, byte by byte.

The text comes with Python (`pydoc_data.topics`, about 0.7 MB), so nothing is
downloaded. Its last tenth is held out.
"""

import functools
import math
import time
from collections.abc import Callable
from pydoc_data.topics import topics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adaptive_optax as ao
from benchmarks import models, timing

CHUNK = 10  # steps between two looks at the clock and the losses
HELD_OUT_BATCHES = 8


def text() -> tuple[jax.Array, jax.Array]:
    """The text as two i32[n], to train on and held out."""
    joined = "\n\n".join(topics[name] for name in sorted(topics))
    data = np.frombuffer(joined.encode(), np.uint8).astype(np.int32)
    cut = len(data) * 9 // 10
    return jnp.asarray(data[:cut]), jnp.asarray(data[cut:])


def windows(data: jax.Array, key: jax.Array, config: models.GPTConfig) -> jax.Array:
    """i32[batch, tokens] cut from ``data`` at random places."""
    starts = jax.random.randint(key, (config.batch,), 0, len(data) - config.tokens + 1)
    return jax.vmap(
        lambda start: jax.lax.dynamic_slice(data, (start,), (config.tokens,))
    )(starts)


def train(
    config: models.GPTConfig, tx: Any, steps: int, left: Callable[[], float]
) -> dict[str, Any]:
    """Train from scratch; end early, and say so, when ``left()`` seconds are none.

    ``tx`` must keep an average of the parameters. A loss that is not finite is None in
    the result. Tokens per second leave out the first `CHUNK` steps, which compile; they
    are None where there are no others.
    """
    model = models.gpt(config)
    tx = optax.with_extra_args_support(tx)
    seen, unseen = text()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, data, count):
        key = jax.random.fold_in(jax.random.key(1), count)
        loss, grads = jax.value_and_grad(model.loss)(params, windows(data, key, config))
        updates, state = tx.update(grads, state, params, value=loss)
        read = {
            "losses": loss,
            "learning_rates": ao.snapshot(state).get("learning_rate"),
        }
        return optax.apply_updates(params, updates), state, read

    params, state = timing.start(tx, model)
    history: list[dict[str, Any]] = []
    clock = [time.perf_counter()]
    while len(history) < steps and left() > 0:
        pending = []
        for count in range(len(history), min(len(history) + CHUNK, steps)):
            params, state, read = step(params, state, seen, jnp.int32(count))
            pending.append(read)
        history += jax.device_get(pending)
        clock.append(time.perf_counter())
    timed = len(history) - CHUNK
    seconds = clock[-1] - clock[min(1, len(clock) - 1)]
    averaged, held_out = ao.eval_params(state, params), _held_out(config)
    return {
        "steps": len(history),
        "steps_asked": steps,
        "tokens_per_step": config.batch * config.tokens,
        "tokens_per_second": (
            timed * config.batch * config.tokens / seconds if timed > 0 else None
        ),
        "first_chunk_seconds": clock[min(1, len(clock) - 1)] - clock[0],
        "held_out_loss": _finite(held_out(params, unseen)),
        "held_out_loss_averaged": _finite(held_out(averaged, unseen)),
        "losses": [_finite(read["losses"]) for read in history],
        "learning_rates": [
            _finite(read["learning_rates"])
            for read in history
            if read["learning_rates"] is not None
        ],
    }


@functools.cache
def _held_out(config: models.GPTConfig) -> Callable[..., jax.Array]:
    """(parameters, text) -> mean loss over the same batches each time, f32[]."""

    @jax.jit
    def mean_loss(params, data):
        def one(key):
            return models.gpt(config).loss(params, windows(data, key, config))

        keys = jax.random.split(jax.random.key(2), HELD_OUT_BATCHES)
        return jax.lax.map(one, keys).mean()

    return mean_loss


def _finite(x: Any) -> float | None:
    """For JSON, which has no NaN."""
    return float(x) if math.isfinite(x) else None
