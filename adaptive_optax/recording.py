"""What of a step goes into the events: the reasons of all stages, in one place."""

from adaptive_optax import _trees, events
from adaptive_optax._reasons import EventKind, Reason, because, first_of
from adaptive_optax._types import Limits
from adaptive_optax.events import Entry, EventsState
from adaptive_optax.sense.stage import Seen
from adaptive_optax.stages import Stages
from adaptive_optax.state import AdaptiveSchedulerState
from adaptive_optax.supervise.supervisor import Verdict


def record(
    parts: Stages,
    seen: Seen,
    limits: Limits,
    verdict: Verdict,
    before: AdaptiveSchedulerState,
    after: AdaptiveSchedulerState,
    of_rate: Reason,
    of_step: Reason,
    of_freezing: tuple[Reason, ...],
) -> EventsState:
    """The ring after a step.

    Args:
      parts: The stages.
      seen: What the step has brought.
      limits: What its batch had to keep.
      verdict: What was decided about the run.
      before: The state before the step.
      after: The state after it, but for the events.
      of_rate: Why the rule has moved the rate, if it has.
      of_step: What the inner optimizer's step lacks.
      of_freezing: What has frozen or thawed.
    """
    count, step = seen.signals.count, _trees.next_count(seen.signals.count)
    rates = [parts.base.times(state.lr_scale, count) for state in (before, after)]
    shares = before.frozen_fraction, after.frozen_fraction
    reasons = [
        _batch(seen, limits, verdict),
        verdict.reason,
        first_of(of_rate, parts.base.annealing(count)),
        of_step,
        parts.supervision.lost(before.recovery, after.recovery),
        parts.agreement.differ(before.agreement, after.agreement),
    ]
    entries = [Entry(reason, *rates) for reason in reasons]
    entries += [Entry(reason, *shares) for reason in of_freezing]
    return events.record(before.events, step, entries, observed=parts.observes)


def _batch(seen: Seen, limits: Limits, verdict: Verdict) -> Reason:
    """What was wrong with the batch."""
    signals = seen.signals
    unread = seen.learnt & ~(signals.loss.arrived | signals.reward.arrived)
    far = seen.far & ~verdict.repeat
    return first_of(
        because(seen.nonfinite, EventKind.NONFINITE_GRADIENT),
        because(far, EventKind.SKIPPED, seen.objective, limits.loss),
        because(unread & seen.has_feedback, EventKind.NO_READING),
    )
