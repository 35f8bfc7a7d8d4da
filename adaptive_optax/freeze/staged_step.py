r"""Long freezes of large models: a step compiled for the frozen set it runs with.

Under a conditional (`frozen_value_and_grad` with a traced mask) XLA keeps what either
branch may need. If the mask is known while tracing, XLA removes the work and what led
to it: a few percent faster, and less memory. The price is a compilation for every set.
So few sets are compiled, each only after it has lasted long enough to pay:

.. math::
    \text{stood for} \ge \max\left(\text{patience},
    \frac{\text{compile time}}{\text{time saved a step}}\right)

A set that has lasted n steps is expected to last n more, so at worst half of what could
be saved is missed.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

import jax
import numpy as np

from adaptive_optax import _checks

# Of the step's time, per share of frozen leaves, until a variant has been timed. A
# 5-million-parameter GPT saved .73 of its step with 97 % frozen.
GUESSED_GAIN = 0.75
# So many calls in a row with nothing frozen are a probe; more are a thaw.
PROBE_CALLS = 10


class Variant(NamedTuple):
    """A step compiled for one frozen set."""

    frozen: np.ndarray  # bool[n], over the entries of the mask
    run: Callable[..., Any]
    compile_seconds: float
    step_seconds: deque[float]


class StagedStep:
    """Run a train step with its frozen set as a constant of the program.

    Call it as ``step(frozen, *args)``. The mask is read on the host at every call,
    which waits for the step before. A call runs the variant whose frozen set is largest
    among those compiled that lie within the mask, so a leaf that thaws, or a probe, is
    served at once; a new set is compiled by the rule above.

    Args:
      step: ``step(frozen, *args)`` as it would be jitted, with `frozen_value_and_grad`
        in it. ``frozen`` arrives as a pytree of Python bools, or NumPy bool[L].
      max_variants: Compiled steps kept, least recently used first out, beside the one
        with nothing frozen; at least 1.
      patience: Calls that a set must stand before it is compiled; 0 compiles every set
        at once, whatever it costs.
      donate_argnums: Of ``step``, as for `jax.jit`; 0 is the mask.
      **jit_options: Further options of `jax.jit`, which may not name arguments.

    Raises:
      TypeError: If ``step`` is not callable or a number not an integer.
      ValueError: If a number is out of range, or the mask would be donated.

    Example:
      >>> import jax.numpy as jnp
      >>> from adaptive_optax import frozen_value_and_grad
      >>> vg = frozen_value_and_grad(lambda p: jnp.sum(p["a"] * p["b"]))
      >>> step = StagedStep(lambda frozen, p: vg(p, frozen)[1], patience=0)
      >>> params = {"a": jnp.ones(2), "b": jnp.ones(2)}
      >>> print(step({"a": jnp.asarray(True), "b": jnp.asarray(False)}, params)["a"])
      [0. 0.]
      >>> [row["frozen_share"] for row in step.report()]
      [0.5]

    References:
      Liu, Agarwal, Venkataraman, AutoFreeze, 2021, rebuild the graph as layers freeze.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        *,
        max_variants: int = 4,
        patience: int = 50,
        donate_argnums: int | Sequence[int] = (),
        **jit_options: Any,
    ) -> None:
        """Check the arguments; nothing is compiled yet."""
        if not callable(step):
            raise TypeError(
                f"`step` must be a function of (frozen, *args), got {step!r}; try "
                "StagedStep(train_step, donate_argnums=(1, 2))."
            )
        _checks.whole("max_variants", max_variants, 1, example="max_variants=4")
        _checks.whole("patience", patience, example="patience=50")
        donated = np.atleast_1d(np.asarray(donate_argnums, int)).tolist()
        if any(n < 1 for n in donated):
            raise ValueError(
                f"`donate_argnums`={donate_argnums} would give the mask away, which is "
                "argument 0 of the step; try donate_argnums=(1, 2)."
            )
        self._step = step
        self._max_variants = max_variants
        self._patience = patience
        self._jit_options = {
            **jit_options,
            "donate_argnums": tuple(n - 1 for n in donated),
        }
        self._variants: OrderedDict[bytes, Variant] = OrderedDict()
        self._age: np.ndarray | None = None  # calls that an entry has been frozen for
        self._live_calls = 0  # in a row, with nothing frozen
        self._running: tuple[Variant, float] | None = None

    def __call__(self, frozen: Any, /, *args: Any) -> Any:
        """Run one step; what ``step(frozen, *args)`` returns."""
        leaves, structure = jax.tree.flatten(frozen)
        masks = [np.asarray(mask) for mask in jax.device_get(leaves)]
        for mask in masks:
            if mask.dtype != np.bool_:
                raise TypeError(
                    f"`frozen` must hold booleans, got {mask.dtype}; call "
                    "step(ao.skip_mask(state, params), params, state, batch)."
                )
        now = np.concatenate([np.atleast_1d(mask) for mask in masks] or [[]]) > 0
        self._record_time()
        self._grow_older(now)
        chosen = self._choose(now)
        key = chosen.tobytes()
        if key in self._variants:
            self._variants.move_to_end(key)
            start = time.perf_counter()
            result = self._variants[key].run(*args)
        else:
            start = time.perf_counter()
            run = self._specialised(masks, chosen, structure)
            result = run(*args)
            seconds = time.perf_counter() - start
            self._variants[key] = Variant(chosen, run, seconds, deque(maxlen=64))
            self._evict()
            return result  # a call that compiled tells nothing about the step's time
        self._running = self._variants[key], start
        return result

    def report(self) -> list[dict[str, float]]:
        """Of every variant kept: share frozen, compile and step time, steps to pay off.

        ``frozen_share`` is of the mask's entries, times are in seconds, NaN where they
        are not known yet.
        """
        full = self._full_seconds()
        rows = []
        for variant in self._variants.values():
            own = median(variant.step_seconds or [np.nan])
            saved = full - own
            rows.append(
                {
                    "frozen_share": float(np.mean(variant.frozen)),
                    "compile_seconds": variant.compile_seconds,
                    "step_seconds": own,
                    "break_even_steps": (
                        variant.compile_seconds / saved if saved > 0 else np.nan
                    ),
                }
            )
        return rows

    def _choose(self, now: np.ndarray) -> np.ndarray:
        """The frozen set to run with, a subset of the mask."""
        nothing = np.zeros_like(now)
        fitting = [
            v.frozen for v in self._variants.values() if not (v.frozen & ~now).any()
        ]
        best = max(fitting, key=np.count_nonzero, default=nothing)
        if self._patience == 0:
            return now
        if nothing.tobytes() not in self._variants:
            return nothing  # the one every probe needs comes first
        assert self._age is not None
        stood = now & (self._age >= self._patience)
        for _ in range(2):  # the oldest part may be worth it where the whole is not
            needed = max(self._patience, self._break_even(stood, best))
            if np.count_nonzero(stood) <= np.count_nonzero(best):
                return best
            if self._age[stood].min() >= needed:
                return stood
            stood = stood & (self._age >= needed)
        return best

    def _break_even(self, frozen: np.ndarray, best: np.ndarray) -> float:
        """Steps after which compiling for a set would have paid."""
        # Clocks differ between hosts, which must all run the same program.
        if jax.process_count() > 1 or not frozen.any():
            return 0.0
        full = self._full_seconds()
        gain = np.nanmean(self._gains() or [GUESSED_GAIN])
        share = np.mean(frozen) - np.mean(best)
        seconds = max(v.compile_seconds for v in self._variants.values())
        saved = gain * share * full
        return float(seconds / saved) if saved > 0 else np.inf

    def _gains(self) -> list[float]:
        """Share of the step's time saved per share of entries frozen, as measured."""
        full = self._full_seconds()
        return [
            (1 - median(v.step_seconds) / full) / float(np.mean(v.frozen))
            for v in self._variants.values()
            if v.frozen.any() and v.step_seconds and full > 0
        ]

    def _full_seconds(self) -> float:
        full = [v for v in self._variants.values() if not v.frozen.any()]
        return median(full[0].step_seconds) if full and full[0].step_seconds else np.nan

    def _grow_older(self, now: np.ndarray) -> None:
        if self._age is None or self._age.shape != now.shape:
            self._age = np.zeros(now.shape, int)
        self._live_calls = 0 if now.any() else self._live_calls + 1
        if now.any() or self._live_calls > PROBE_CALLS:
            self._age = np.where(now, self._age + 1, 0)

    def _record_time(self) -> None:
        """The mask of this call had to wait for the last one: that was its time."""
        if self._running is not None:
            variant, start = self._running
            variant.step_seconds.append(time.perf_counter() - start)
        self._running = None

    def _specialised(
        self, masks: list[np.ndarray], chosen: np.ndarray, structure: Any
    ) -> Callable[..., Any]:
        counts = [mask.size for mask in masks]
        parts = np.split(chosen, np.cumsum(counts)[:-1])
        static = structure.unflatten(
            [
                part if mask.ndim else bool(part[0])
                for mask, part in zip(masks, parts, strict=True)
            ]
        )
        return jax.jit(lambda *args: self._step(static, *args), **self._jit_options)

    def _evict(self) -> None:
        staged = [key for key, v in self._variants.items() if v.frozen.any()]
        for key in staged[: max(len(staged) - self._max_variants, 0)]:
            del self._variants[key]
