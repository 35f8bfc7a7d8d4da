"""One line an event, in the words of a practitioner.

``[was|would have been]`` in a text is the first where the loop acted, and the second
where it only watched.
"""

import re
from collections.abc import Sequence

from adaptive_optax._reasons import LASTING
from adaptive_optax._reasons import EventKind as Kind
from adaptive_optax.watch.event_log import Event

THROWN_AWAY = "the start [was|would have been] thrown away: "
WENT_BACK = "the run [went|would have gone] back to its last good parameters: "
WITH_THEM = "with the earlier parameters "

CAUSES = {
    Kind.START_ROSE: THROWN_AWAY + "the loss rose to {figure}, above {bound}",
    Kind.START_DIED: THROWN_AWAY + "the gradient norm fell to {figure}, less than a "
    "tenth of its first one, and the loss had not improved: units died",
    Kind.START_OPPOSED: THROWN_AWAY + "gradients pointed back after the steps (cosine "
    "{figure}, below {bound}) and the loss did not fall",
    Kind.START_TURNED: THROWN_AWAY + "gradients pointed the same way as the steps at "
    "first, and then pointed back (cosine {figure}, below {bound})",
    Kind.START_NONFINITE: THROWN_AWAY + "too many batches were bad, and the last one's "
    "gradient was not finite",
    Kind.RESTORED: WENT_BACK + "several batches in a row had a loss far above the "
    "run's ({figure}, above {bound})",
    Kind.RESTORED_GRADIENT: WENT_BACK + "several batches in a row had a gradient far "
    "larger than the run's (norm {figure}, above {bound})",
    Kind.RESTORED_NONFINITE: WENT_BACK + "{figure} batches in a row were bad, and the "
    "last one's gradient was not finite",
}
"""Why the parameters go back."""

ANSWERS = {
    Kind.START_FAILED: WITH_THEM + "the loss was normal again, so the rate was too "
    "high",
    Kind.CUT: WITH_THEM + "the loss was normal again, as it was the last time, so the "
    "rate was at fault and was cut; it rises again while the run goes well",
    Kind.CUTS_UNDONE: WITH_THEM + "the loss was normal again, but three cuts had not "
    "helped: the rate was not at fault, and the cuts were taken back",
    Kind.EXCUSED: WITH_THEM + "the loss was normal again; the rate stayed, and is cut "
    "if this happens again soon",
    Kind.ACQUITTED: WITH_THEM + "the next batch was bad too, so the data were at fault "
    "and the rate stayed",
}
"""What the first batch at the earlier parameters showed."""

TEXTS = {
    **CAUSES,
    **ANSWERS,
    Kind.START_PASSED: "the check of the start was passed: the loss went from {bound} "
    "to {figure}",
    Kind.NEW_DATA: "no more batches may be skipped, so these are taken for the new "
    "data (loss {figure}, above {bound}), and the run [starts|would start] again on "
    "them",
    Kind.NEW_GRADIENTS: "no more batches may be skipped, so these are taken for the "
    "new data (gradient norm {figure}, above {bound}), and the run [starts|would "
    "start] again on them",
    Kind.LANDED: "the climb ended: gradients no longer pointed the same way after the "
    "steps (cosine {figure})",
    Kind.ANNEALING: "the last part of total_steps began: the rate [goes|would go] to 0",
    Kind.LOST: "entries that are not finite were found in {lost}, and no step can "
    "bring them back",
    Kind.REPLICAS_DIFFER: "the replicas on the devices were no longer equal",
    Kind.SKIPPED: "[skipped {batches}|{batches} would have been skipped] whose loss "
    "was far above the run's ({figure}, above {bound})[; parameters untouched|]",
    Kind.SKIPPED_GRADIENT: "[skipped {batches}|{batches} would have been skipped] "
    "whose gradient was far larger than the run's (norm {figure}, above {bound})"
    "[; parameters untouched|]",
    Kind.NONFINITE_GRADIENT: "{gradients} not finite[: no step was taken|]",
    Kind.NONFINITE_STEP: "in {steps} some entries of the optimizer's own step were not "
    "finite[, and were left out|]",
    Kind.NO_READING: "in {steps} the loss was not finite but the gradient was finite: "
    "the step was taken, and nothing was judged",
    Kind.CLIMB: "the rate [climbed|would have climbed], because the steps were clearly "
    "too short: gradients still pointed the same way after them (cosine {figure}, "
    "above {bound})",
    Kind.NUDGED_UP: "the rate [was|would have been] nudged up {number}: the steps "
    "seemed too short, gradients still pointed the same way after them ({figure} "
    "standard errors)",
    Kind.NUDGED_DOWN: "the rate [was|would have been] nudged down {number}: the steps "
    "seemed too long, gradients pointed back after them ({figure} standard errors) and "
    "the loss rose",
    Kind.DECAYED: "the rate [decayed|would have decayed] slowly: the loss was level "
    "(it {fell} {size} standard errors, and a clear fall is {bound}) and gradients "
    "pointed back to where the run had been",
    Kind.OPPOSED: "the rate [decayed|would have decayed], because the steps zigzag: "
    "gradients clearly pointed back after them (cosine {figure}, below {bound})",
    Kind.RAISED: "the rule [raised|would have raised] the rate {number}",
    Kind.LOWERED: "the rule [lowered|would have lowered] the rate {number}",
    Kind.REPAID: "the run went well, so the rate rose again after its cut",
    Kind.FROZE: "parameters froze: their gradient norm was {figure}, below {bound}",
    Kind.THAWED: "parameters thawed: their gradient norm was {figure}, above {bound}",
}

SHARES = Kind.FROZE, Kind.THAWED
SKIPPED = Kind.SKIPPED, Kind.SKIPPED_GRADIENT
NEW = Kind.NEW_DATA, Kind.NEW_GRADIENTS

UNMOVED = (
    *SKIPPED,
    Kind.NONFINITE_GRADIENT,
    Kind.NONFINITE_STEP,
    Kind.NO_READING,
    Kind.LOST,
    Kind.REPLICAS_DIFFER,
)
"""Kinds that move no gain. The rate may have moved while they lasted."""

UP = Kind.CLIMB, Kind.NUDGED_UP, Kind.RAISED, Kind.REPAID
DOWN = Kind.NUDGED_DOWN, Kind.DECAYED, Kind.OPPOSED, Kind.LOWERED


def number(x: float, digits: int = 3) -> str:
    """So many digits, and no more zeros than are needed."""
    return f"{float(f'{x:.{digits}g}'):g}"


def count(n: int, one: str, many: str | None = None) -> str:
    """A number and its noun."""
    return f"1 {one}" if n == 1 else f"{n} {many or one + 's'}"


def spoken(text: str, *, observed: bool) -> str:
    """The text, as of what was done or of what would have been done."""
    return re.sub(r"\[([^|\]]*)\|([^\]]*)\]", r"\2" if observed else r"\1", text)


def lines(events: Sequence[Event], *, observed: bool, what: str = "loss") -> list[str]:
    """One line for each event, or for each that belong together."""
    told, rest = [], joined(events)
    while rest:
        event, *rest = rest
        text = _text(event, TEXTS[event.kind])
        answers = rest and rest[0].step == event.step + 1 and rest[0].kind in ANSWERS
        last = event
        if event.kind in CAUSES and answers:
            last, *rest = rest
            text += f"; {_text(last, ANSWERS[last.kind])}"
        text += _moved(last._replace(before=event.before))
        told.append(f"{when(event)}: {spoken(text, observed=observed)}")
    if what == "reward":  # which is judged in the loss's place, with its sign turned
        told = [line.replace("loss", "negative reward") for line in told]
    return told


def when(event: Event) -> str:
    """Its step, or its first and last one."""
    return ("step " if event.step == event.last else "steps ") + span(event)


def span(event: Event) -> str:
    """The same without the word."""
    one = event.step == event.last
    return str(event.step) if one else f"{event.step}-{event.last}"


def _text(event: Event, text: str) -> str:
    n = event.times
    return text.format(
        figure=number(event.figure),
        bound=number(event.bound),
        batches=count(n, "batch", "batches"),
        gradients=count(n, "gradient was", "gradients were"),
        steps=count(n, "step"),
        lost=count(int(event.figure), "parameter"),
        number="once" if n == 1 else f"{n} times",
        fell="fell by" if event.figure >= 0 else "rose by",
        size=number(abs(event.figure)),
    )


def _moved(event: Event) -> str:
    """The gain, if it has changed."""
    passed = event.kind == Kind.START_PASSED and event.after > 0.9 * event.before
    if event.before == event.after or event.kind in UNMOVED or passed:
        return ""
    # What moves the rate the other way may have gone on meanwhile.
    if (event.after > event.before) == (event.kind in DOWN) and event.kind in UP + DOWN:
        return ""
    if event.kind in SHARES:
        return f"; frozen share {event.before:.0%} -> {event.after:.0%}"
    before, after = number(event.before), number(event.after)
    return f"; learning rate {before} -> {after}" if before != after else ""


def joined(events: Sequence[Event]) -> list[Event]:
    """Events in order of their first steps, single batches put together again."""
    whole: list[Event] = []
    newest: dict[Kind, int] = {}
    for event in sorted(events, key=lambda event: event.step):
        i = newest.get(event.kind, -1)
        if i < 0 or event.kind < LASTING or _apart(whole[i], event):
            newest[event.kind] = len(whole)
            whole.append(event)
            continue
        times = whole[i].times + event.times
        whole[i] = whole[i]._replace(last=event.last, times=times, after=event.after)
    return whole


def _apart(event: Event, later: Event) -> bool:
    """Whether the second is no part of the first, as `events.record` decides."""
    return later.step - event.last > max(31, later.step // 5)
