"""What the judges decided at a step, and on which figure."""

from typing import Any

import jax.numpy as jnp

from adaptive_optax._reasons import EventKind, Reason, because, first_of
from adaptive_optax._types import UNSET
from adaptive_optax.supervise.evidence import Evidence
from adaptive_optax.supervise.start_audit import AuditRuling, AuditState
from adaptive_optax.supervise.trial import TrialRuling, TrialState


def of(
    e: Evidence,
    start: AuditRuling,
    audited: AuditState,
    ruled: TrialRuling,
    tried: TrialState,
) -> Reason:
    """The one thing that they decided, or nothing.

    Args:
      e: The step's evidence.
      start: The audit's ruling.
      audited: The audit after it.
      ruled: The trial's ruling.
      tried: The trial after it.
    """
    return first_of(
        _restore(e, start, ruled),
        _experiment(e, ruled),
        because(
            e.auditing & (audited.audit_left == 0),
            EventKind.START_PASSED,
            e.signals.objective.fast,
            e.first,
        ),
        because(
            e.accepted & ~e.auditing, EventKind.NEW_DATA, e.objective, e.limits.loss
        ),
        because(ruled.repaid > 0, EventKind.REPAID, tried.owed),
    )


def _restore(e: Evidence, start: AuditRuling, ruled: TrialRuling) -> Reason:
    """Why the parameters go back."""
    count = ruled.strikes, ruled.patience
    rose = e.objective, e.limits.loss
    begins = ruled.restore & e.auditing
    spoilt = ruled.restore & e.nonfinite
    died = begins & ~(e.objective > e.limits.loss)
    return first_of(
        start.opposition.unless(~start.opposed),
        because(spoilt & e.auditing, EventKind.START_NONFINITE, *count),
        because(spoilt, EventKind.RESTORED_NONFINITE, *count),
        because(died, EventKind.START_DIED, e.norm, e.limits.dead_norm),
        because(begins, EventKind.START_ROSE, *rose),
        because(ruled.restore, EventKind.RESTORED, *rose),
    )


def _experiment(e: Evidence, ruled: TrialRuling) -> Reason:
    """What the first batch at the good parameters showed."""
    read = e.told & ~e.nonfinite & (e.limits.loss < UNSET)
    figures: tuple[Any, Any] = (
        jnp.where(read, e.objective, 0.0),
        jnp.where(read, e.limits.loss, 0.0),
    )
    cut = ruled.offended & ruled.convicted
    return first_of(
        because(cut & e.auditing, EventKind.START_FAILED, *figures),
        because(cut, EventKind.CUT, *figures),
        because(
            ruled.offended & (ruled.correction > 0), EventKind.CUTS_UNDONE, *figures
        ),
        because(ruled.offended, EventKind.EXCUSED, *figures),
        because(e.repeat & e.bad, EventKind.ACQUITTED, *figures),
    )
