"""Closed loop on the slope of the loss: a higher rate has to make it fall faster."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from benchmarks.contract import Peer
from benchmarks.peers.recording import recorded, trace
from benchmarks.peers.schedules import cosine_shape

WINDOWS = 40  # of a run, so that 12 fall into the search


class AdaLRSState(NamedTuple):
    """State of `ada_lrs`."""

    acting_scale: jax.Array  # f32[] of the last step, over the base schedule
    kept_scale: jax.Array  # f32[] without the trial
    adjustments: jax.Array  # i32[] trials and reductions that have ended
    trial: jax.Array  # bool[] the higher rate is being tried
    ada_count: jax.Array  # i32[]
    window: jax.Array  # f32[window] losses of this window
    filled: jax.Array  # i32[] how many of them
    velocity: jax.Array  # f32[] of the last window at the kept rate
    error: jax.Array  # f32[] its standard error
    level: jax.Array  # f32[] mean loss of that window
    rises: jax.Array  # i32[] windows in a row whose mean rose
    highest: jax.Array  # f32[] loss so far
    base: optax.OptState
    saved_params: Any  # before the trial
    saved_base: optax.OptState


def velocity_of(window: jax.Array) -> tuple[jax.Array, jax.Array]:
    """How fast the losses fall, by least squares, and its standard error."""
    size = len(window)
    place = jnp.arange(size) - (size - 1) / 2
    spread = jnp.sum(place**2)
    slope = jnp.sum(place * window) / spread
    rest = window - jnp.mean(window) - slope * place
    return -slope, jnp.sqrt(jnp.sum(rest**2) / (size - 2) / spread)


def first_state(
    params: Any, base: optax.GradientTransformation, window: int
) -> AdaLRSState:
    """Before the first step: nothing is measured, and nothing scaled."""
    zero, none = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
    return AdaLRSState(
        acting_scale=jnp.ones((), jnp.float32),
        kept_scale=jnp.ones((), jnp.float32),
        adjustments=none,
        trial=jnp.zeros((), bool),
        ada_count=none,
        window=jnp.zeros(window, jnp.float32),
        filled=none,
        velocity=zero,
        error=zero,
        level=jnp.full((), jnp.inf, jnp.float32),
        rises=none,
        highest=jnp.full((), -jnp.inf, jnp.float32),
        base=base.init(params),
        saved_params=jax.tree.map(jnp.copy, params),
        saved_base=base.init(params),
    )


def ada_lrs(
    base: optax.GradientTransformation,
    horizon: int,
    *,
    window: int | None = None,
    up: float = 3.0,
    down: float = 2.0,
    decay: float = 0.99,
    search: tuple[float, float] = (0.1, 0.4),
) -> optax.GradientTransformationExtraArgs:
    """AdaLRS: try a higher rate, keep it if the loss falls faster, else roll back.

    Scales the updates of ``base``, which follow a schedule of their own. With v the
    velocity of the loss over a ``window`` of steps, e its error, and n the adjustments
    so far, between 10 % and 40 % of the run::

        a = max(decay^n up, 1),  b = 1/max(decay^n down, 1)
        a window is slower than the last:   try r <- a r for the next
            v(a r) > v(r) + 2e              keep it
            v(a r) < v(r) - 2e              parameters and state return, r <- b r
            neither                         r <- r
        in the trial the loss exceeds all before:   as the second, at once
        the mean loss rose in two windows in a row: r <- b r

    References:
      Dong et al., AdaLRS, arXiv 2506.13274, NeurIPS 2025. Neither the text nor code of
      theirs could be had: this follows summaries of the paper, and one of its use in
      SAIL-VL2. They give the rule, up/down of 3/2 (one of three pairs), decay .99, the
      search phase and the two guards. They do not give the window (ours: a 40th of the
      run, 5 steps at least), e (ours: the mean of the two standard errors), what n
      counts, or whether a trial that decides nothing is rolled back (here it is not).
    """
    size = max(horizon // WINDOWS, 5) if window is None else window
    begins, ends = (int(share * horizon) for share in search)
    base = optax.with_extra_args_support(base)

    def init(params):
        return first_state(params, base, size)

    def update(grads, state, params, *, value, **extra_args):
        count = state.ada_count + 1
        losses = state.window.at[state.filled].set(value)
        full = state.filled + 1 == size
        velocity, error = velocity_of(losses)
        level = jnp.mean(losses)
        margin = error + state.error

        wrecked = state.trial & ~(value <= state.highest)
        judged = state.trial & full & ~wrecked
        kept = judged & (velocity > state.velocity + margin)
        failed = wrecked | (judged & (velocity < state.velocity - margin))

        seen = full & ~state.trial
        rises = jnp.where(level > state.level, state.rises + 1, 0)
        searching = seen & (count > begins) & (count <= ends)
        lowered = searching & (rises >= 2)
        begun = searching & ~lowered & (velocity < state.velocity)
        begun &= count + size <= ends
        trial = begun | (state.trial & ~judged & ~wrecked)

        factor = decay**state.adjustments
        higher = jnp.maximum(factor * up, 1.0)
        lower = 1.0 / jnp.maximum(factor * down, 1.0)
        scale = state.kept_scale * jnp.where(kept, higher, 1.0)
        scale *= jnp.where(failed | lowered, lower, 1.0)
        acting = scale * jnp.where(trial, higher, 1.0)

        def pick(which, a, b):
            return jax.tree.map(lambda a, b: jnp.where(which, a, b), a, b)

        saved_params = pick(begun, params, state.saved_params)
        saved_base = pick(begun, state.base, state.saved_base)
        step, new_base = base.update(
            grads, state.base, params, value=value, **extra_args
        )
        back = optax.tree.sub(saved_params, params)
        step = jax.tree.map(
            lambda u, b: jnp.where(failed, b, acting * u).astype(u.dtype), step, back
        )
        measured = seen | kept
        rises = jnp.where(seen, rises, state.rises)
        # `fmax`: a loss that is not finite shall not end all trials.
        highest = jnp.fmax(state.highest, jnp.where(wrecked, -jnp.inf, value))
        return step, AdaLRSState(
            acting_scale=acting,
            kept_scale=scale,
            adjustments=state.adjustments + (judged | wrecked | lowered),
            trial=trial,
            ada_count=count,
            window=losses,
            filled=jnp.where(wrecked | full, 0, state.filled + 1),
            velocity=jnp.where(measured, velocity, state.velocity),
            error=jnp.where(measured, error, state.error),
            level=jnp.where(measured, level, state.level),
            rises=jnp.where(lowered | failed, 0, rises),
            highest=highest,
            base=pick(failed, saved_base, new_base),
            saved_params=saved_params,
            saved_base=saved_base,
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _ada_lrs(inner, rate, horizon):
    height = cosine_shape(horizon)

    def schedule(count):
        return rate * height(count)

    return recorded(
        ada_lrs(inner(schedule), horizon),
        lambda state, count: state.acting_scale * schedule(count),
    )


PEERS = (
    Peer(
        "adalrs",
        _ada_lrs,
        knows_horizon=True,
        trace=trace,
        source="AdaLRS, arXiv 2506.13274, over the cosine; from summaries of the "
        "paper, which could not be had: its window and its error of the slope are ours",
    ),
)
