"""Divergence: tell it from noise, keep a last good copy, go back to it.

Two judges share one rule of evidence. A step is *suspicious* if its loss or gradient is
not finite or its loss is far above a level; each adds a strike, each other step takes
one away, and three strikes are a divergence. So no single batch, however bad, and no
isolated NaN is ever punished: a fault of the batch is not a fault of the rate.

AUDIT, the first 60 steps, with the first parameters kept; the rate rises to the base
rate linearly over the first 20, for the first steps of an optimizer are its largest.
After a failure those 20 are the whole audit::

    suspicious if loss > l0 + max(|l0| / 2, 2 jitter)    jitter: largest calm change;
                                                         l0: the highest at theta_0
               or ||g|| < ||g0|| / 10 and loss > l0 - jitter    its units have died
    doubted    if a suspicious loss comes with a negative averaged alignment: the
               first parameters return and the same rate is tried again
    fails      on three strikes, on a second doubt, or if gradients oppose the steps:
               the averaged alignment is negative beyond its error, by more the more
               the base rate is believed, while the loss neither clearly falls nor has
               halved (without memory steps are opposed at every rate, and the loss
               need only have moved); or, in its first 20 steps, if the steps carry on
               (`Signals.persistence`) although it is clearly negative, whatever the
               loss does, or so far below zero as above after it was clearly positive,
               the loss not halved;
               then the first parameters return and the rate drops to a fifth of what
               the warm-up had reached (to a 25th if that was not finite), at most 12
               times. What is not finite before the first good step is counted and no
               more: no rate has been at work
    passes     after its last good step; if it ever failed the rate is halved once
               more, for the largest rate that survives is still too high

GUARD, from then on, with the parameters of the last good step kept::

    suspicious if loss > good + 2 |good| + 6 noise
    diverged   on three strikes: the good parameters and optimizer state return, the
               rate drops to a quarter, and the next level is taken as it comes
    acquitted  if the loss of the good parameters is as high at the next step: then the
               data have changed, not the parameters. The rate is what it was, or the
               one the prior trusts if that is higher

RETRY, once, of a rate whose start failed because gradients opposed it and for no other
reason: at some sound rates they do, and no statistic of the start tells::

    begins     with a new copy of the good parameters, where at the lower rate the loss
               stands still and has not halved; not where a schedule rises or has halved
               since half the run, nor where the horizon is near
    climbs     back to the coordinate that failed, by .06 a step, and then lets it be
    suspicious if the loss and its fast average are both above good + .12 |good| + 2 of
               the average's standard errors
    fails      on three strikes: the good parameters and the lower rate return; whether
               the data have changed is judged as above, by this measure
    is over    150 losses after the climb, or when the loss has halved

The shares of |l0| and |good| depend on the loss's own zero. A loss that has been at or
below 0 has none; then the noise alone says what is high, with the range that the loss
has covered in place of |good|. (`Signals.loss_gain`, which says whether it has halved,
takes |l0| for its size whatever the sign.)
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adaptive_optax._types import Signals

STRIKES = 3
WARMUP_STEPS, MAX_FAILURES = 20, 12
AUDIT_STEPS, AUDIT_AGAIN = 60, 20  # good steps at first, and after a failure
TRUST = 6.0  # the prior's strength by default
OPPOSED, OUTRUN = 1 / 4, 1 / 6  # shares of it, in standard errors of an opposition
OVERSHOT = 2.0  # standard errors of an opposition that needs no other sign
AGREED, AGREED_AFTER = 1.0, 4  # the same of an agreement, and the cosines behind it
CARRIED = 0.25  # persistence that a filter with memory has from its first steps on
HALVED, MOVED = 0.5, 0.12  # gain of the loss that excuses; the second without memory
DEAD = 0.1  # share of its first norm below which a gradient has died
KEEP_EVERY = 20
FAILED, PASSED_LATE, DIVERGED = math.log(0.2), math.log(0.5), math.log(0.25)
DIVERGED_ABOVE = 0.7  # log distance below a divergence that counts as its ceiling
GUARD_LEVELS, GUARD_NOISES = 2.0, 6.0  # of the good loss, above it
ACQUITTED_AT = 1.0  # share of that rise at which the good parameters are no better
CALM_CHANGES = 3  # calm steps before the jitter alone may judge
RETRY_RATE = 0.06  # change of the coordinate per step of a retry
RETRY_LEVELS, RETRY_ERRORS = 0.12, 2.0  # as above, for the averaged loss
RETRY_WATCH = 150  # losses by which it is judged after the climb
STILL, STILL_AFTER = 2.0, 31  # trends of a loss that stands still, after as many losses


class RecoveryState(NamedTuple):
    """State of both judges and the copy they go back to."""

    good_params: Any  # like params
    good_inner: Any  # the inner optimizer's state of the same step, names dropped
    good_value: jax.Array  # f32[] loss there; inf: take the next settled one
    good_noise: jax.Array  # f32[] its standard deviation
    first_value: jax.Array  # f32[] NaN until there is one
    lowest_value: jax.Array  # f32[]
    first_norm: jax.Array  # f32[] of the gradient; NaN until there is one
    audit_jitter: jax.Array  # f32[]
    audit_calm: jax.Array  # i32[] calm changes seen
    audit_left: jax.Array  # i32[] good steps until the audit is passed
    audit_agreed: jax.Array  # bool[] since this start, gradients with the steps
    audit_doubts: jax.Array  # i32[] replays at the present rate
    audit_failures: jax.Array  # i32[]
    keep_wait: jax.Array  # i32[] steps until the next copy is due
    strikes: jax.Array  # i32[]
    on_trial: jax.Array  # bool[] the guard has just gone back and cut the rate
    restoring: jax.Array  # i32[] steps until the parameters are back to the bit
    restores: jax.Array  # i32[] times that parameters went back
    trial_coordinate: jax.Array  # f32[] the coordinate before the trial
    trial_trusted: jax.Array  # f32[] what was trusted then
    trusted_coordinate: jax.Array  # f32[] see `Signals.trusted`
    ceiling_coordinate: jax.Array  # f32[] see `Signals.ceiling`
    retrying: (
        jax.Array
    )  # i32[] losses that a retry is still judged by; 0: there is none
    retry_from: jax.Array  # f32[] the coordinate before
    retry_coordinate: jax.Array  # f32[] the one to try again; -inf: none


class Verdict(NamedTuple):
    """What a step's signals mean for the run. Scalars."""

    restore: Any  # bool[] go back now
    repeat: Any  # bool[] the step after one: go back once more
    keep: Any  # bool[] this step's parameters are the new good ones
    healthy: Any  # bool[] fit to be averaged
    restart: Any  # bool[] the first parameters return, and with them the average
    jump: Any  # f32[] change of the rate's coordinate that this calls for
    climb: Any  # f32[] the least that it is to rise by, as far as the slew allows


ACQUITTED = Verdict(
    restore=np.False_,
    repeat=np.False_,
    keep=np.False_,
    healthy=np.True_,
    restart=np.False_,
    jump=np.float32(0.0),
    climb=np.float32(0.0),
)
"""The verdict where there is no judge."""


def init_recovery(
    params: Any, inner_state: Any, *, audit: bool = True, dtype: Any = None
) -> RecoveryState:
    """The judges before the first step.

    Args:
      params: Parameters, or their `jax.ShapeDtypeStruct`s.
      inner_state: The inner optimizer's first state.
      audit: Whether the start is on probation.
      dtype: Of the copies of floating-point arrays; None copies them as they are.
    """

    def scalar(x, dtype):
        return jnp.asarray(x, dtype)

    return RecoveryState(
        good_params=_copies(params, dtype),
        good_inner=_copies(without_names(inner_state, params), dtype),
        good_value=scalar(jnp.inf, jnp.float32),
        good_noise=scalar(0.0, jnp.float32),
        first_value=scalar(jnp.nan, jnp.float32),
        lowest_value=scalar(jnp.inf, jnp.float32),
        first_norm=scalar(jnp.nan, jnp.float32),
        audit_jitter=scalar(0.0, jnp.float32),
        audit_calm=scalar(0, jnp.int32),
        audit_left=scalar(AUDIT_STEPS if audit else 0, jnp.int32),
        audit_agreed=scalar(False, jnp.bool_),
        audit_doubts=scalar(0, jnp.int32),
        audit_failures=scalar(0, jnp.int32),
        keep_wait=scalar(0, jnp.int32),
        strikes=scalar(0, jnp.int32),
        on_trial=scalar(False, jnp.bool_),
        restoring=scalar(0, jnp.int32),
        restores=scalar(0, jnp.int32),
        trial_coordinate=scalar(0.0, jnp.float32),
        trial_trusted=scalar(0.0, jnp.float32),
        trusted_coordinate=scalar(0.0, jnp.float32),
        ceiling_coordinate=scalar(jnp.inf, jnp.float32),
        retrying=scalar(0, jnp.int32),
        retry_from=scalar(0.0, jnp.float32),
        retry_coordinate=scalar(-jnp.inf, jnp.float32),
    )


def forget_levels(state: RecoveryState, when: jax.Array) -> RecoveryState:
    """The judges where from now on another objective is judged: no level is known."""

    def reset(old, value):
        return jnp.where(when, jnp.asarray(value, old.dtype), old)

    return state._replace(
        good_value=reset(state.good_value, jnp.inf),
        good_noise=reset(state.good_noise, 0.0),
        first_value=reset(state.first_value, jnp.nan),
        lowest_value=reset(state.lowest_value, jnp.inf),
        audit_jitter=reset(state.audit_jitter, 0.0),
        audit_calm=reset(state.audit_calm, 0),
        keep_wait=reset(state.keep_wait, CALM_CHANGES),
        strikes=reset(state.strikes, 0),
        retrying=reset(state.retrying, 0),
    )


def annotate(signals: Signals, state: RecoveryState) -> Signals:
    """The signals with what the judges know of the run."""
    return signals._replace(
        warming=state.audit_left > _audit_steps(state) - WARMUP_STEPS,
        failures=state.audit_failures,
        trusted=state.trusted_coordinate,
        ceiling=state.ceiling_coordinate,
    )


def judge(
    state: RecoveryState,
    signals: Signals,
    coordinate: jax.Array,
    *,
    nonfinite: jax.Array,
    strength: float | jax.Array = TRUST,
    held: bool | jax.Array = False,
) -> tuple[Verdict, RecoveryState]:
    """Weigh one step.

    Args:
      state: The judges.
      signals: The step's measurements.
      coordinate: f32[] the learning rate's coordinate minus where it started.
      nonfinite: bool[] the loss, reward or gradient came and was not finite.
      strength: Of the prior, >= 0: how far the base rate is believed against gradients
        that oppose its steps; see `rules.prior`.
      held: bool[] no retry is to begin or to climb.

    Returns:
      The verdict, and the new state (its copies are kept by `keep_copy`).
    """
    s, old, held = signals, state, jnp.asarray(held)
    auditing = old.audit_left > 0
    repeat = old.restoring == 2
    seen = s.has_value & ~repeat
    # A first loss may be low by luck: each replay is one more look at theta_0.
    replayed = auditing & (old.restoring == 1)
    first = jnp.where(
        seen & (jnp.isnan(old.first_value) | replayed),
        jnp.fmax(old.first_value, s.value),
        old.first_value,
    )
    lowest = jnp.where(seen, jnp.minimum(old.lowest_value, s.value), old.lowest_value)
    no_zero = lowest <= 0  # of its own
    first_norm = jnp.where(
        jnp.isnan(old.first_norm) & (s.grad_norm > 0), s.grad_norm, old.first_norm
    )

    # AUDIT.
    jitter_known = old.audit_calm >= CALM_CHANGES
    margin = jnp.maximum(
        jnp.where(no_zero, 0.0, 0.5 * jnp.abs(first)), 2 * old.audit_jitter
    )
    above_start = seen & (s.value > first + margin) & (~no_zero | jitter_known)
    n, c, error = s.alignment_count, s.alignment_mean, s.alignment_sem
    # Without momentum a step turns with its gradient: that one overshoots is no fault.
    carries = s.persistence > CARRIED
    opposed = (c < -0.02 - OPPOSED * strength * error) & (s.loss_trend < 0.8)
    opposed &= s.loss_gain < jnp.where(carries, HALVED, MOVED)
    agreed = s.alignment_slow > 0.02 + AGREED * s.alignment_slow_sem
    agreed = old.audit_agreed | (agreed & (n >= AGREED_AFTER))
    overshot = (c < -0.02 - OVERSHOT * error) & (s.persistence > 0)
    outrun = agreed & carries & (c < -OUTRUN * strength * error)
    outrun &= s.loss_gain < HALVED
    overshot = (overshot | outrun) & (n <= WARMUP_STEPS)
    opposed = (n >= 8) & (opposed | overshot) & ~jnp.isnan(old.first_value)
    dead = s.grad_norm < DEAD * first_norm  # False while there is no first one
    dead &= seen & s.has_gradient & (s.value > first - old.audit_jitter)
    above_start |= dead
    doubted = above_start & (n > 0) & (c < 0)
    # GUARD.
    known = jnp.isfinite(old.good_value)
    good = jnp.where(known, old.good_value, 0.0)
    level = jnp.where(no_zero, 0.5 * (first - lowest), jnp.abs(good))
    rise = (s.value - good) / (GUARD_LEVELS * level + GUARD_NOISES * old.good_noise)
    fast_error = s.loss_noise * math.sqrt(0.1 / 1.9)
    share = jnp.where(no_zero, 0.0, RETRY_LEVELS * level)
    retried = old.retrying > 0
    # Both, for the average remembers a single bad batch for many steps; and with the
    # good parameters back there is one loss to judge by.
    lower = jnp.where(repeat, s.value, jnp.minimum(s.value, s.loss_fast))
    error = jnp.where(repeat, old.good_noise, fast_error)
    retry_rise = (lower - good) / (share + RETRY_ERRORS * error)
    rise = jnp.where(retried, retry_rise, rise)
    judged = s.has_value & known & ((level > 0) | (old.good_noise > 0))
    above_good = judged & ~repeat & (rise > 1)

    high = jnp.where(auditing, above_start, above_good)
    # No good step since theta_0: what is not finite there is no fault of the rate.
    untouched = auditing & (old.audit_left == _audit_steps(old)) & (old.strikes == 0)
    suspicious = (nonfinite & ~untouched | high) & ~repeat
    calmer = jnp.where(s.has_value, _one_less(old.strikes), old.strikes)
    strikes = jnp.where(suspicious, old.strikes + 1, calmer)
    out = ~repeat & (strikes >= STRIKES)
    may_fail = auditing & (old.audit_failures < MAX_FAILURES)
    again = may_fail & ~repeat & doubted & (old.audit_doubts == 0) & ~out
    failed = may_fail & ~repeat & ~again & (out | opposed | doubted)
    diverged = ~auditing & out
    acquitted = repeat & old.on_trial & judged & (rise > ACQUITTED_AT) & ~nonfinite

    counts = auditing & ~suspicious & ~repeat & ~failed & ~again & ~nonfinite
    counts &= s.has_value | (old.audit_left > 1)
    audit_left = old.audit_left - counts
    late = counts & (audit_left == 0) & (old.audit_failures > 0)
    new_length = jnp.where(failed | (old.audit_failures > 0), AUDIT_AGAIN, AUDIT_STEPS)
    audit_left = jnp.where(failed | again, new_length, audit_left)
    back_to_start = failed | again
    restore = back_to_start | diverged
    jump = (
        jnp.where(failed, FAILED + jnp.log(warm_up(old)), 0.0)
        + jnp.where(diverged, DIVERGED, 0.0)
        + jnp.where(failed & nonfinite, FAILED, 0.0)
        + jnp.where(diverged & nonfinite, DIVERGED, 0.0)
        + jnp.where(late, PASSED_LATE, 0.0)
        + jnp.where(
            acquitted,
            jnp.maximum(old.trial_coordinate, old.trial_trusted) - coordinate,
            0.0,
        )
    ).astype(jnp.float32)
    calm = seen & auditing & ~suspicious & ~restore
    healthy = ~suspicious & ~nonfinite & ~repeat & ~restore & (strikes == 0)
    free = healthy & s.has_value & ~auditing & (old.restoring == 0)
    settled = free & (old.keep_wait == 0)
    settled &= ~known | (s.loss_fast <= good + 3 * fast_error)

    # RETRY.
    only_opposed = failed & ~suspicious & (strikes == 0) & (old.audit_doubts == 0)
    target = jnp.where(failed & ~only_opposed, -jnp.inf, old.retry_coordinate)
    target = jnp.where(only_opposed, jnp.maximum(target, coordinate), target)
    still = (jnp.abs(s.loss_trend) < STILL) & (s.loss_progress < STILL)
    still &= (s.loss_gain < HALVED) & (s.loss_count >= STILL_AFTER)
    still &= s.loss_fast <= good + share + RETRY_ERRORS * fast_error
    begins = free & known & still & ~held & ~retried & (coordinate < target)
    settled |= begins
    gap = jnp.where(begins, target - coordinate, 0.0)
    watch = jnp.ceil(gap / RETRY_RATE).astype(jnp.int32) + RETRY_WATCH
    retrying = jnp.where(seen, _one_less(old.retrying), old.retrying)
    retrying = jnp.where(begins, watch, retrying)
    judged_again = repeat & old.on_trial  # by the good parameters
    over = (s.loss_gain >= HALVED) | judged_again
    retrying = jnp.where(over, 0, retrying)
    retry_from = jnp.where(begins, coordinate, old.retry_from)
    climbs = free & (retrying > 0) & ~held
    climb = jnp.where(climbs, jnp.clip(target - coordinate, 0.0, RETRY_RATE), 0.0)
    arrives = climbs & (target - coordinate <= RETRY_RATE)
    spent = (old.retrying > 0) & (retrying == 0) & ~(judged_again & acquitted)
    convicted = judged_again & ~acquitted
    target = jnp.where(arrives | spent | convicted, -jnp.inf, target)
    back_from = retried & diverged & (coordinate > old.retry_from)
    jump = jnp.where(back_from, old.retry_from - coordinate, jump)
    after = coordinate + jump

    learns_level = seen & (
        settled | (jnp.isnan(old.first_value)) | (~known & healthy & ~auditing)
    )
    climb = climb.astype(jnp.float32)
    verdict = Verdict(restore, repeat, settled, healthy, back_to_start, jump, climb)
    return verdict, old._replace(
        good_value=jnp.where(
            old.on_trial, jnp.inf, jnp.where(learns_level, s.loss_fast, old.good_value)
        ),
        good_noise=jnp.where(
            # Right after a restore there is no noise to measure; it is what it was.
            learns_level & (known | jnp.isnan(old.first_value)),
            s.loss_noise,
            old.good_noise,
        ),
        first_value=first,
        lowest_value=lowest,
        audit_jitter=jnp.where(
            calm,
            jnp.maximum(old.audit_jitter, jnp.abs(s.value_change)),
            old.audit_jitter,
        ),
        audit_calm=old.audit_calm + (calm & (s.value_change != 0)),
        audit_left=audit_left,
        audit_agreed=agreed & ~restore,
        audit_doubts=jnp.where(failed, 0, old.audit_doubts + again),
        audit_failures=old.audit_failures + failed,
        keep_wait=jnp.where(settled, KEEP_EVERY - 1, _one_less(old.keep_wait)),
        strikes=jnp.where(restore, 0, strikes),
        restoring=jnp.where(restore, 2, _one_less(old.restoring)),
        restores=old.restores + restore,
        first_norm=first_norm,
        on_trial=diverged,
        trial_coordinate=jnp.where(diverged, coordinate, old.trial_coordinate),
        trial_trusted=jnp.where(diverged, old.trusted_coordinate, old.trial_trusted),
        trusted_coordinate=jnp.where(
            (restore & ~back_from) | late,
            jnp.minimum(old.trusted_coordinate, after),
            jnp.where(acquitted, old.trial_trusted, old.trusted_coordinate),
        ),
        ceiling_coordinate=jnp.where(
            diverged & ~back_from,
            coordinate - DIVERGED_ABOVE,
            jnp.where(acquitted, jnp.inf, old.ceiling_coordinate),
        ),
        retrying=retrying,
        retry_from=retry_from,
        retry_coordinate=target,
    )


def warm_up(state: RecoveryState) -> jax.Array:
    """Share of the rate that a step of the audit takes, f32[] in (0, 1].

    It is 1 before the first loss: who never gives one is never slowed.
    """
    taken = (_audit_steps(state) + 1 - state.audit_left).astype(jnp.float32)
    rises = (state.audit_left > 0) & ~jnp.isnan(state.first_value)
    return jnp.where(rises, jnp.minimum(taken / WARMUP_STEPS, 1.0), 1.0)


def _one_less(count: jax.Array) -> jax.Array:
    return jnp.maximum(count - 1, 0)


def _audit_steps(state: RecoveryState) -> jax.Array:
    """Good steps that this start's audit takes."""
    return jnp.where(state.audit_failures > 0, AUDIT_AGAIN, AUDIT_STEPS)


def keep_copy(
    state: RecoveryState, keep: jax.Array, params: Any, inner_state: Any
) -> RecoveryState:
    """Copy the good parameters and optimizer state where ``keep`` is True.

    Call it before the inner optimizer's update: one conditional over the whole tree,
    ahead of the update that writes over its operands, costs nothing while it is not
    taken; selects after the update cost several Adam updates.
    """
    good = (state.good_params, state.good_inner)
    now = (params, without_names(inner_state, params))
    params, inner = jax.lax.cond(
        keep, lambda old, new: _like(new, old), lambda old, new: old, good, now
    )
    return state._replace(good_params=params, good_inner=inner)


def good_inner(state: RecoveryState, restoring: jax.Array, inner_state: Any) -> Any:
    """The inner optimizer's state to go on from: the good one after a restore.

    The momentum of a divergence diverges again, so it goes back with the parameters.
    A select, which XLA makes a part of the inner optimizer's update: a conditional
    would copy all of it at every step, and let a GPU wait for the host.

    Args:
      state: The judges after `keep_copy`, which keeps nothing while a restore is under
        way. That it comes first lets XLA write its copy in place: with a reader of the
        copy before, every step would copy it.
      restoring: i32[], `RecoveryState.restoring` before this step was judged.
      inner_state: The inner optimizer's state.
    """
    back, structure = restoring == 1, jax.tree.structure(inner_state)
    kept = jax.tree.unflatten(structure, jax.tree.leaves(state.good_inner))
    return jax.tree.map(
        lambda good, now: jnp.where(back, good, now),
        _like(kept, inner_state),
        inner_state,
    )


def proceed(
    state: RecoveryState, *, nonfinite: jax.Array
) -> tuple[Verdict, RecoveryState]:
    """A step without feedback: nothing is judged, a restore under way is finished.

    An audit is of the first steps, whether or not they have a loss; but only a step
    with one ends it.
    """
    repeat = state.restoring == 2
    verdict = ACQUITTED._replace(repeat=repeat, healthy=~repeat)
    counts = ~nonfinite & ~repeat & (state.strikes == 0) & (state.audit_left > 1)
    return verdict, state._replace(
        restoring=_one_less(state.restoring),
        audit_left=state.audit_left - counts,
        keep_wait=_one_less(state.keep_wait),
    )


def go_back(
    before: RecoveryState,
    after: RecoveryState,
    verdict: Verdict,
    params: Any,
    steps: Any,
) -> Any:
    """The steps, and in a restore also what makes the parameters the good ones.

    A sum is rounded at the size of the parameters that were lost. So the way back is
    gone twice, and once more with the first step after: what was lost at 1e7 times
    the size of the good ones is back to the last bit.
    """
    back = verdict.restore | (before.restoring > 0)
    return jax.tree.map(
        lambda good, now, u: jnp.where(
            back, u + (good.astype(now.dtype) - now).astype(u.dtype), u
        ),
        after.good_params,
        params,
        steps,
    )


def without_names(state: Any, params: Any) -> Any:
    """The same tree with plain tuples for the optimizer's NamedTuples.

    A copy under the same field names would make `optax.tree.get(state, "mu")`
    ambiguous. Parts with the structure of the parameters stay as they are.
    """
    structure = jax.tree.structure(params)

    def strip(node: Any) -> Any:
        if jax.tree.structure(node) == structure:
            return node
        if isinstance(node, tuple):
            return tuple(strip(item) for item in node)
        if isinstance(node, list):
            return [strip(item) for item in node]
        if isinstance(node, dict):
            return type(node)((key, strip(item)) for key, item in node.items())
        return node

    return strip(state)


def _copies(tree: Any, dtype: Any) -> Any:
    """Copies in buffers of their own, floating-point ones in ``dtype``."""

    def copy(leaf: Any) -> Any:
        if isinstance(leaf, jax.ShapeDtypeStruct):
            leaf = jnp.zeros_like(leaf)
        narrows = dtype is not None and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.array(leaf, dtype if narrows else leaf.dtype, copy=True)

    return jax.tree.map(copy, tree)


def _like(tree: Any, other: Any) -> Any:
    """Copies in the dtypes of another tree of the same structure."""
    return jax.tree.map(lambda x, o: jnp.array(x, o.dtype, copy=True), tree, other)
