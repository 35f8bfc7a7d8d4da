"""Text from a model, token by token, each at the cost of one position."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from examples.gpt2.model import Cache, GPT2Config
from examples.gpt2.training import template


def empty_cache(config: GPT2Config, batch: int, room: int) -> Cache:
    """Zeros, room for so many positions."""
    heads = (config.n_head, config.n_embd // config.n_head)
    zeros = jnp.zeros((config.n_layer, batch, room, *heads), config.dtype)
    return Cache(zeros, zeros)


@functools.partial(jax.jit, static_argnames=("config", "length"))
def generate(
    config: GPT2Config,
    params,
    prompt: jax.Array,
    length: int,
    *,
    key: jax.Array | None = None,
    temperature: float | jax.Array = 1.0,
) -> jax.Array:
    """Continue a prompt.

    Args:
      config: Of the model.
      params: Of the model.
      prompt: i32[batch, time], time at least 1.
      length: Tokens to add; with the prompt, at most ``n_positions``.
      key: Of the samples; None takes the likeliest token every time.
      temperature: Divides the logits of a sample, > 0.

    Returns:
      i32[batch, length].

    Raises:
      ValueError: If prompt and length exceed the positions.
    """
    batch, start = prompt.shape
    if start + length > config.n_positions:
        raise ValueError(
            f"a prompt of {start} tokens and {length} more exceed the model's "
            f"{config.n_positions} positions"
        )
    model = nnx.merge(template(config), params)

    def choose(logits: jax.Array, step) -> jax.Array:
        if key is None:
            return jnp.argmax(logits, -1).astype(jnp.int32)
        now = jax.random.fold_in(key, step)
        drawn = jax.random.categorical(now, logits / temperature)
        return drawn.astype(jnp.int32)

    empty = empty_cache(config, batch, start + length)
    logits, cache = model(prompt, cache=empty)
    first = choose(logits[:, -1], 0)

    def advance(carry, step):
        token, cache = carry
        at = start + step - 1
        logits, cache = model(token[:, None], cache=cache, index=at)
        token = choose(logits[:, -1], step)
        return (token, cache), token

    _, rest = jax.lax.scan(advance, (first, cache), jnp.arange(1, length))
    return jnp.concatenate([first[None], rest]).T
