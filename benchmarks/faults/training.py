"""The program: every fault of one arm at once, each with every seed.

Seeds are vmapped outside and faults inside, so what no fault changes, such as the
images of a batch, is there once for all of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.contract import Peer
from benchmarks.faults import fault as faults_
from benchmarks.faults.fault import STALE, Fault
from benchmarks.faults.tasks import Task
from benchmarks.peers.inner import OPTIMIZERS

HORIZON = 1000  # steps of a run
EVERY = 20  # steps between two evaluations


def accuracies(
    task: Task,
    optimizer: str,
    rate: float,
    arm: Peer,
    faults: Sequence[Fault],
    seeds: Sequence[int],
    *,
    horizon: int = HORIZON,
    every: int = EVERY,
) -> np.ndarray:
    """Train under every fault from every seed.

    Args:
      task: What is trained.
      optimizer: A key of `peers.inner.OPTIMIZERS`.
      rate: The base learning rate.
      arm: Who trains it.
      faults: A lane each; all of them structural, or none.
      seeds: Of initialisation and batches.
      horizon: Steps.
      every: Steps between two evaluations; it divides the horizon.

    Returns:
      f32[2, faults, seeds, horizon / every]: the test accuracy of the last iterate and
      of the parameters that the arm names, after every ``every`` steps.
    """
    structural = {fault.is_structural() for fault in faults}
    if len(structural) != 1:
        raise ValueError("structural faults and others need a program each.")
    lane = _lane(task, optimizer, rate, arm, structural.pop(), horizon, every)
    program = jax.jit(jax.vmap(jax.vmap(lane, (0, None)), (None, 0)))
    found = program(faults_.stack(list(faults)), jnp.asarray(seeds, jnp.uint32))
    # [seeds, faults, evaluations, 2] it is.
    return np.asarray(found).transpose(3, 1, 0, 2)


def _lane(
    task: Task,
    optimizer: str,
    rate: float,
    arm: Peer,
    structural: bool,
    horizon: int,
    every: int,
) -> Callable[[Fault, jax.Array], jax.Array]:
    """(fault, seed) -> f32[horizon / every, 2] accuracies."""
    inner = OPTIMIZERS[optimizer].factory

    def make(fault: Fault, active: Any) -> optax.GradientTransformationExtraArgs:
        """The arm at this step: a wrong rate is a wrong argument that nobody tells."""
        now = faults_.base_rate(fault, active, jnp.float32(rate))
        tx = optax.with_extra_args_support(arm.make(inner, now, horizon))
        if not structural:
            return tx
        steps = optax.MultiSteps(tx, lambda _: fault.accumulate)
        return optax.GradientTransformationExtraArgs(steps.init, steps.update)

    def measure(fault: Fault, step: jax.Array, params: Any, state: Any) -> jax.Array:
        test_x = jnp.asarray(task.load().test_x)
        if structural:
            state = state.inner_opt_state
            active = faults_.is_active(fault, step)
            test_x = faults_.permuted_input(fault, active, test_x)
        last = task.accuracy(params, test_x)
        if arm.eval_params is None:
            return jnp.stack([last, last])
        own = task.accuracy(arm.eval_params(state, params), test_x)
        return jnp.stack([last, own])

    def lane(fault: Fault, seed: jax.Array) -> jax.Array:
        keys = jax.random.split(jax.random.key(seed), 2)
        params = faults_.start_of(fault, task.init(keys[0]))

        def train(carry: Any, step: jax.Array):
            params, state, recent = carry
            active = faults_.is_active(fault, step)
            x, labels, weights = _batch(task, fault, active, keys[1], step, structural)
            loss, grads = jax.value_and_grad(task.loss)(params, x, labels, weights)
            recent = jnp.where(step == 0, loss, recent)
            value = faults_.reported_loss(fault, active, loss, recent[step % STALE])
            updates, state = make(fault, active).update(
                faults_.reported_gradient(fault, active, grads),
                state,
                params,
                value=value,
            )
            recent = recent.at[step % STALE].set(loss)
            return (optax.apply_updates(params, updates), state, recent), None

        def train_and_measure(carry: Any, first: jax.Array):
            carry, _ = jax.lax.scan(train, carry, first + jnp.arange(every))
            params, state, _ = carry
            return carry, measure(fault, first + every - 1, params, state)

        # Before the first step there is no fault, so that no state starts from one.
        state = make(fault, False).init(params)
        carry = (params, state, jnp.zeros(STALE))
        return jax.lax.scan(train_and_measure, carry, jnp.arange(0, horizon, every))[1]

    return lane


def _batch(
    task: Task,
    fault: Fault,
    active: jax.Array,
    key: jax.Array,
    step: jax.Array,
    structural: bool,
) -> tuple[jax.Array, jax.Array, jax.Array | float]:
    """Images, labels and weights of this step; the same images for every fault."""
    x, labels, others = task.draw(jax.random.fold_in(key, step))
    weights: Any = 1.0 / task.batch
    if structural:
        x = faults_.permuted_input(fault, active, x)
        weights = faults_.weights_of(fault, active, task.batch)
    else:
        x, labels, others = (a[: task.batch] for a in (x, labels, others))
    return x, faults_.labels_of(fault, active, labels, others), weights
