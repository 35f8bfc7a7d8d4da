"""One optimizer step, and the loss of a held-out text.

The step reads like the library's: loss and gradient, `tx.update` with the loss as its
feedback, apply. The mean is over the tokens of the whole batch: where the batch is cut
into micro-batches, their sums are accumulated and the controller sees one loss a step,
that of the batch.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import adaptive_optax as ao
from examples.gpt2.model import GPT2, GPT2Config
from examples.gpt2.optimizer import blocks
from examples.mechanisms import SKIPPED, frozen_blocks

Batch = dict[str, jax.Array]


class TrainState(NamedTuple):
    """All that a step changes, and so all that a checkpoint must hold."""

    params: Any  # nested dict of f32 arrays
    opt_state: optax.OptState
    key: jax.Array  # u32[2] key data, of the dropout


def template(config: GPT2Config) -> Any:
    """The model without its parameters, for `nnx.merge`."""
    return nnx.split(nnx.eval_shape(lambda: GPT2(config, nnx.Rngs(0))), nnx.Param)[0]


def init_params(config: GPT2Config, seed: int) -> Any:
    """Random parameters."""

    @jax.jit
    def build():
        return nnx.to_pure_dict(nnx.state(GPT2(config, nnx.Rngs(seed)), nnx.Param))

    return build()


def init_state(params: Any, tx: optax.GradientTransformation, seed: int) -> TrainState:
    """Before the first step."""
    return TrainState(
        params, tx.init(params), jax.random.key_data(jax.random.key(seed))
    )


def weighted_loss(graph: Any, params: Any, batch: Batch, key=None) -> jax.Array:
    """Cross-entropy in nats, summed with the weights."""
    tokens = batch["tokens"]
    logits = nnx.merge(graph, params)(tokens[:, :-1], key=key)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
    return jnp.sum(losses * batch["weights"])


def make_step(
    config: GPT2Config,
    tx: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    freezes: bool = False,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """A pure step: (state, batch) to the next state and what the loop did.

    Args:
      config: Of the model.
      tx: The optimizer, controlled or not.
      accumulate: Micro-batches in a batch.
      freezes: Whether ``tx`` freezes blocks; their backward pass is then not run.
    """
    graph = template(config)

    def step(state: TrainState, batch: Batch):
        params = state.params
        key, now = jax.random.split(jax.random.wrap_key_data(state.key))
        total = jnp.sum(batch["weights"])

        def loss_fn(params, micro, key):
            return weighted_loss(graph, params, micro, key) / total

        labels = blocks(params) if freezes else None
        skip = ao.skip_mask(state.opt_state, params) if freezes else None
        live = ao.frozen_value_and_grad(loss_fn, labels)

        def gradient(micro, key):
            if skip is None:
                return jax.value_and_grad(loss_fn)(params, micro, key)
            return live(params, skip, micro, key)

        keys = jax.random.split(now, accumulate) if config.dropout else None
        if accumulate == 1:
            loss, grads = gradient(batch, None if keys is None else keys[0])
        else:
            zero = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)

            def add(sums, micro):
                return jax.tree.map(jnp.add, sums, gradient(*micro)), None

            micros = jax.tree.map(functools.partial(cut, n=accumulate), batch)
            (loss, grads), _ = jax.lax.scan(add, zero, (micros, keys))

        updates, opt_state = tx.update(grads, state.opt_state, params, value=loss)
        params = optax.apply_updates(params, updates)
        key = jax.random.key_data(key)
        told = {**controls(opt_state), "loss": loss}
        if freezes:
            told |= frozen_blocks(opt_state, params, labels)
            micro = jax.tree.map(lambda x: cut(x, accumulate)[0], batch)
            work = live.flops(params, micro, None if keys is None else keys[0])
            told[SKIPPED] = work.share(jax.tree.leaves(skip), jax.tree.leaves(labels))
        return TrainState(params, opt_state, key), told

    return step


def cut(x: jax.Array, n: int) -> jax.Array:
    """[batch, ...] to [n, batch / n, ...], each with rows of every device."""
    return x.reshape(len(x) // n, n, *x.shape[1:]).swapaxes(0, 1)


def controls(opt_state: optax.OptState) -> dict[str, jax.Array]:
    """What the loop holds; nothing for an optimizer without one."""
    try:
        return ao.snapshot(opt_state)
    except ValueError:
        return {}


def line(epoch: int, step: int, told: dict[str, jax.Array]) -> str:
    """One step, in a line."""
    now = {key: float(x) for key, x in told.items() if x.ndim == 0}
    text = f"epoch {epoch} step {step} loss {now['loss']:.4f}"
    if "sigma" not in now:  # the optimizer alone
        return text
    return text + (
        " lr {learning_rate:.2e} mu {momentum:.3f} sigma {sigma:.1e} "
        "frozen {frozen_fraction:.0%}"
    ).format(**now)


def make_evaluation(config: GPT2Config) -> Callable[[Any, Iterable[Batch]], float]:
    """(parameters, batches) to the mean cross-entropy of a token, in nats."""
    graph = template(config)

    @jax.jit
    def sums(params, batch):
        return weighted_loss(graph, params, batch), jnp.sum(batch["weights"])

    def evaluate(params: Any, batches: Iterable[Batch]) -> float:
        losses, counts = zip(*(sums(params, batch) for batch in batches), strict=True)
        return float(sum(map(float, losses)) / sum(map(float, counts)))

    return evaluate
