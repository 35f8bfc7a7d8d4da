"""What a fault is: arrays that say what happens at which step.

All faults have one type and differ in numbers alone, so a stack of them is the lanes
of one compiled program.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

LATE = 400  # the step of a fault in the midst of a run
STALE = 20  # steps by which a stale loss is late
ENDLESS = 2**30  # a stop that no run reaches


class Fault(NamedTuple):
    """One fault. The defaults are no fault; a stack of faults has arrays for numbers.

    A fault is *active* at ``start <= step < stop``, and there only in the first
    ``width`` of every ``period`` steps. What it does then:

    The loss that is reported is ``value_scale`` times the loss plus ``value_shift``.
    The gradient that is reported is ``grad_scale`` times the gradient plus
    ``grad_shift``, in every leaf or in the last alone. The two are independent: a loss
    that really is infinite has a gradient of NaN (`infinite_loss`), a loss that nobody
    computed has a sound one.

    ``init_scale`` acts on the initialisation, ``accumulate`` on the whole run.
    """

    start: Any = LATE
    stop: Any = ENDLESS
    period: Any = 1
    width: Any = 1
    value_scale: Any = 1.0
    value_shift: Any = 0.0
    grad_scale: Any = 1.0
    grad_shift: Any = 0.0
    one_leaf: Any = False
    stale: Any = False  # the loss that is reported is that of `STALE` steps ago
    random_labels: Any = False
    rate_scale: Any = 1.0  # of the base learning rate, unknown to whoever trains
    init_scale: Any = 1.0  # of the kernels
    # What changes the batch itself takes a program of its own: `is_structural`.
    permuted: Any = False  # the features of the input, from then on
    wide: Any = False  # a batch `WIDE` times as large
    accumulate: Any = 1  # gradients to one step, by `optax.MultiSteps`

    def is_structural(self) -> bool:
        """Whether it needs the program in which batches change their form."""
        return bool(self.permuted or self.wide or self.accumulate > 1)


WIDE = 8  # how many times larger a wide batch is


def infinite_loss(start: int, count: int = 1, **when: Any) -> Fault:
    """Return an infinite loss; the gradient of an infinite loss is NaN everywhere."""
    return Fault(
        start,
        start + count,
        value_shift=jnp.inf,
        grad_shift=jnp.nan,
        **when,
    )


def stack(faults: list[Fault]) -> Fault:
    """Return one fault of arrays, a lane each."""
    kinds = [jnp.asarray(field).dtype for field in Fault()]
    columns = zip(*faults, strict=True)
    return Fault(*map(jnp.asarray, columns, kinds))


def is_active(fault: Fault, step: jax.Array) -> jax.Array:
    """bool[]: whether the fault acts at this step."""
    since = step - fault.start
    within = (since >= 0) & (step < fault.stop)
    return within & (since % fault.period < fault.width)


def reported_loss(
    fault: Fault, active: jax.Array, loss: jax.Array, before: jax.Array
) -> jax.Array:
    """The loss that the optimizer is told.

    Args:
      fault: What goes wrong.
      active: bool[], whether it does now.
      loss: f32[], the true one.
      before: f32[], the true one of `STALE` steps ago.
    """
    base = jnp.where(fault.stale, before, loss)
    # A constant is one even where the loss has become infinite.
    scaled = jnp.where(fault.value_scale == 0, 0.0, base * fault.value_scale)
    return jnp.where(active, scaled + fault.value_shift, loss)


def reported_gradient(fault: Fault, active: jax.Array, grads: Any) -> Any:
    """The gradient that the optimizer is given."""
    leaves, structure = jax.tree.flatten(grads)
    hit = [active & ~fault.one_leaf] * (len(leaves) - 1) + [active]
    return structure.unflatten(
        jnp.where(now, leaf * fault.grad_scale + fault.grad_shift, leaf)
        for now, leaf in zip(hit, leaves, strict=True)
    )


def base_rate(fault: Fault, active: jax.Array, rate: jax.Array) -> jax.Array:
    """The base learning rate of this step."""
    return jnp.where(active, rate * fault.rate_scale, rate)


def labels_of(
    fault: Fault, active: jax.Array, labels: jax.Array, others: jax.Array
) -> jax.Array:
    """The labels of this step's batch: the true ones, or ``others`` (random)."""
    return jnp.where(active & fault.random_labels, others, labels)


def permuted_input(fault: Fault, active: jax.Array, x: jax.Array) -> jax.Array:
    """The features in their order, or in another: from then on a new task."""
    order = np.random.default_rng(0).permutation(x.shape[-1])
    return jnp.where(active & fault.permuted, x[..., order], x)


def weights_of(fault: Fault, active: jax.Array, size: int) -> jax.Array:
    """f32[WIDE size]: what each row of the largest batch counts for; the sum is 1."""
    used = jnp.where(active & fault.wide, WIDE * size, size)
    return jnp.where(jnp.arange(WIDE * size) < used, 1.0 / used, 0.0)


def start_of(fault: Fault, params: Any) -> Any:
    """The initialisation with its kernels scaled; biases are zero anyway."""
    return jax.tree.map(lambda leaf: leaf * fault.init_scale, params)
