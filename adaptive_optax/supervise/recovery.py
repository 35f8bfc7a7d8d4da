"""What the copy that a restore goes back to holds, and where it lies."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _checks, _memory


class Recovery(NamedTuple):
    """The last good copy: what of it is kept, and where it lies.

    Bytes a parameter in float32, under Adam, beside Adam's own 8::

        Recovery()                                12 on the device
        Recovery(dtype=jnp.bfloat16)               6 on the device
        Recovery(inner=False)                      4 on the device
        Recovery(dtype=jnp.bfloat16, inner=False)  2 on the device
        Recovery(memory="pinned_host")             0 on the device, 12 on the host

    Args:
      dtype: Floating-point dtype of the copy's floating-point arrays; None keeps them
        as they are. In either case a restore gives back what the copy holds to the bit.
      inner: Whether the inner optimizer's state is kept too. Without it a restore makes
        a fresh one by the optimizer's ``init`` at the good parameters, and what the
        optimizer counts by itself (a schedule built into it) starts again.
      memory: ``"device"``, or ``"pinned_host"``: the host's memory, by JAX's memory
        kinds. Arrays move only in the steps that keep a copy, some one in twenty, and
        in the two steps of a restore. `jax.vmap` refuses it, because there a condition
        takes both sides, and ``init`` refuses it inside `optax.MultiSteps`. A jitted
        step that donates must return what it donates in the same order, ``params,
        state``, or have ``out_shardings`` for all it returns, on a mesh
        (`state_shardings`): JAX otherwise pairs them by shape alone, and XLA ends the
        process where host meets device.

    Example:
      >>> import jax.numpy as jnp
      >>> import adaptive_optax as ao
      >>> tx = ao.adaptive_adamw(1e-3, recovery=ao.Recovery(dtype=jnp.bfloat16))
    """

    dtype: Any = None
    inner: bool = True
    memory: str = "device"

    def checked(self) -> "Recovery":
        """The same settings, if they are sound.

        Raises:
          TypeError: If one is of the wrong kind.
          ValueError: If ``dtype`` is no floating-point one or ``memory`` is unknown.
          NotImplementedError: If this JAX cannot place arrays by their types.
        """
        if self.dtype is not None and not _is_floating(self.dtype):
            raise ValueError(
                "`recovery.dtype` must be a floating-point dtype, got "
                f"{self.dtype!r}; try recovery=ao.Recovery(dtype=jnp.bfloat16)."
            )
        _checks.flag("recovery.inner", self.inner)
        _checks.one_of(
            "recovery.memory",
            self.memory,
            _memory.KINDS,
            example='recovery=ao.Recovery(memory="pinned_host")',
        )
        if self.on_host and not _memory.known():
            raise NotImplementedError(
                f'recovery.memory="pinned_host" needs `jax.memory`, which JAX '
                f"{jax.__version__} has not; upgrade JAX or leave it out."
            )
        return self

    @property
    def on_host(self) -> bool:
        """Whether the copy lies in host memory."""
        return self.memory == "pinned_host"


def _is_floating(dtype: Any) -> bool:
    try:
        return jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:  # no dtype at all
        return False
