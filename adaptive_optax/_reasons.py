"""What may happen in a run, and the figure that decides it: the words of `events`."""

import enum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class EventKind(enum.IntEnum):
    """What may happen in a run; behind each, its figure and the bound that it passed.

    A kind from `LASTING` on may last: it is one event from its first step to its last.
    Numbers are kept, because states hold them.
    """

    # The parameters went back, and why: to the first ones, ...
    START_ROSE = 1  # loss > what it may be at the start
    START_DIED = 2  # gradient norm < a tenth of the first one
    START_OPPOSED = 3  # alignment < what counts as opposition
    START_TURNED = 4  # alignment < -its error, after it was positive
    START_NONFINITE = 5  # bad batches >= what is put up with
    RESTORED = 6  # ... or to the last good ones: loss > what it may be
    RESTORED_NONFINITE = 7  # bad batches >= what is put up with
    # What the first batch at the good parameters showed: its loss, and its limit.
    START_FAILED = 8  # it is sound, so the rate was too high for this start
    CUT = 9  # it is sound, once more: the rate is lowered
    CUTS_UNDONE = 10  # it is sound, and three cuts did not help
    EXCUSED = 11  # it is sound, for the first time
    ACQUITTED = 12  # it is bad: the data are at fault, not the rate
    # The rest of a run's course.
    START_PASSED = 13  # loss now, the first loss
    NEW_DATA = 14  # loss > its limit, but no more may be skipped
    LANDED = 15  # alignment < 0: the search is over
    ANNEALING = 16  # step > the first 70 % of the horizon
    LOST = 17  # parameters with entries that are not finite any more, those before
    REPLICAS_DIFFER = 18  # checks at which they did, those before
    # Kinds that may last.
    SKIPPED = 32  # loss > its limit: the batch was not learnt from
    NONFINITE_GRADIENT = 33  # neither was this one
    NONFINITE_STEP = 34  # the inner optimizer made entries that were left out
    NO_READING = 35  # the loss was not finite, the gradient was
    CLIMB = 36  # alignment, or heading > its error times the trust
    NUDGED_UP = 37  # alignment, or heading, in standard errors > half of the trust
    NUDGED_DOWN = 38  # opposition in standard errors > a hint
    DECAYED = 39  # long trend of the loss in standard errors < a clear fall
    OPPOSED = 40  # alignment < its error times the trust, below 0
    RAISED = 41  # log distance asked for by a rule that gives no reason > 0
    LOWERED = 42  # likewise < 0
    REPAID = 43  # log distance that was cut and is still owed, 0
    FROZE = 44  # gradient norm < threshold; before and after are shares
    THAWED = 45  # gradient norm > hysteresis times threshold; likewise


LASTING = 32


class Reason(NamedTuple):
    """Something that happened in a step, and the figure that decided it. Scalars."""

    kind: Any = np.int32(0)  # i32[] an `EventKind`; 0: nothing happened
    figure: Any = np.float32(0.0)  # f32[]
    bound: Any = np.float32(0.0)  # f32[] that the figure passed

    def unless(self, other: Any) -> "Reason":
        """The same, but nothing where ``other`` is True."""
        return self._replace(kind=jnp.where(other, 0, self.kind))


NOTHING = Reason()


def because(
    happened: Any, kind: EventKind, figure: Any = 0.0, bound: Any = 0.0
) -> Reason:
    """The reason where it ``happened``, else nothing."""
    return Reason(
        jnp.where(happened, jnp.int32(kind), 0),
        jnp.asarray(figure).astype(jnp.float32),
        jnp.asarray(bound).astype(jnp.float32),
    )


def first_of(*reasons: Reason) -> Reason:
    """The first that is not nothing."""
    first, *rest = reasons
    for other in rest:
        first = jax.tree.map(
            lambda a, b, known=first.kind > 0: jnp.where(known, a, b), first, other
        )
    return first
