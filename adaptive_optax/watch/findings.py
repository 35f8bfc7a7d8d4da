"""What a run comes to: what went wrong, how the rate did, and what to do next."""

from collections.abc import Iterable

from adaptive_optax._reasons import EventKind as Kind
from adaptive_optax.watch.base_rate import on_rate
from adaptive_optax.watch.run import Run, steps_of
from adaptive_optax.watch.words import NEW, SKIPPED, count, number

LATE = 0.8  # of a run: what lasts until then may go on


def paragraph(run: Run) -> str:
    """All of it, in some sentences."""
    if not run.got("steps"):
        return "No step has been taken yet."
    return " ".join([*_course(run), *_faults(run), *on_rate(run)])


def _course(run: Run) -> Iterable[str]:
    """Where the run began and where it is."""
    steps = count(int(run.got("steps")), "step")
    if not run.got("fed"):
        yield f"The run has taken {steps}."
        return
    first, now = run.first, number(run.now)
    if first is None:
        yield f"After {steps} the {run.what} is about {now}."
        return
    yield f"In {steps} the {run.what} went from {number(first)} to about {now}."
    if run.diverged:
        yield "It has diverged: the loss is far above its first value."
        return
    if run.unmoved:
        yield (
            "That is a plateau: the loss is as high as at the start, and no rate has "
            "helped. Unless it cannot be lower, look at the model, the labels and the "
            "loss function."
        )
        return
    rises = run.of(Kind.CLIMB, Kind.NUDGED_UP, Kind.REPAID, *NEW)
    rose = max((event.last for event in rises), default=0)
    level = [e for e in run.of(Kind.DECAYED, Kind.OPPOSED) if e.last > rose]
    since = min((max(event.step, rose) for event in level), default=0)
    until = max((event.last for event in level), default=0)
    # A few level steps at the end are no level.
    if until > LATE * run.got("steps") and since < (LATE + 1) / 2 * until:
        yield (
            f"Since about step {since} the {run.what} has been level: the run is on a "
            "plateau, or has learnt all that the noise lets it learn."
        )


def _faults(run: Run) -> Iterable[str]:
    """What went wrong that is not the rate's fault, the worst first."""
    if lost := int(run.got("lost_parameters")):
        yield (
            f"{count(lost, 'parameter has', 'parameters have')} entries that are not "
            "finite, and no step can bring them back: call params = ao.repair(params, "
            "state), or go back to a checkpoint."
        )
    yield from _feedback(run)
    yield from _gradients(run)
    yield from _batches(run)
    if died := run.of(Kind.START_DIED):
        yield f"Units died at {steps_of(died)}."
    if mismatches := int(run.got("replica_mismatches")):
        yield (
            f"Replicas differed at {count(mismatches, 'check')}: go back to a "
            "checkpoint, and look for a step that is not the same on all devices."
        )
    if entries := int(run.got("nonfinite_steps")):
        yield (
            f"In {count(entries, 'step')} the optimizer made entries that were not "
            "finite from a finite gradient: give it an eps > 0."
        )


def _feedback(run: Run) -> Iterable[str]:
    steps = int(run.got("steps"))
    where = steps_of(run.of(Kind.NO_READING, Kind.NONFINITE_GRADIENT))
    missed = int(run.got("nonfinite_values") + run.got("nonfinite_rewards"))
    if not run.got("fed") and missed:
        yield (
            f"No loss was ever finite ({missed} of {steps} were NaN or infinite), so "
            "no gain has moved and nothing was judged: look at the loss function, and "
            "pass the loss that the gradients are of."
        )
    elif not run.got("fed"):
        yield (
            "No loss was ever given, so no gain has moved and nothing was judged: call "
            "tx.update(grads, state, params, value=loss)."
        )
    elif missed:
        yield (
            f"{count(missed, 'loss was', 'losses were')} not finite ({where}); they "
            "moved nothing."
        )


def _gradients(run: Run) -> Iterable[str]:
    steps, n = int(run.got("steps")), int(run.got("nonfinite_gradients"))
    bad = run.of(Kind.NONFINITE_GRADIENT)
    if bad and bad[-1].last == steps and bad[-1].times > 20:
        yield (
            f"Since about step {bad[-1].step} gradients are not finite ({n} of {steps})"
            ", and training stands still: look at the loss function and the data, and "
            "whether a parameter is NaN."
        )
    elif n:
        yield (
            f"{count(n, 'gradient was', 'gradients were')} not finite "
            f"({steps_of(bad)}), and {_learnt(run)}: look at these batches, and for a "
            "division or a logarithm of 0, or an overflow in 16 bits."
        )
    spoken_for = any(
        event.last == steps for event in run.of(*SKIPPED, Kind.NONFINITE_GRADIENT)
    )
    if run.end.get("grad_norm") == 0 and steps > 1 and not spoken_for:
        yield (
            "The gradient is exactly 0, so nothing can be learnt from here: all units "
            "are dead or saturated, or the loss does not depend on the parameters."
        )


def _batches(run: Run) -> Iterable[str]:
    skipped, new = run.of(*SKIPPED), run.of(*NEW)
    back = run.of(Kind.RESTORED, Kind.RESTORED_GRADIENT, Kind.RESTORED_NONFINITE)
    diverged = run.of(Kind.CUT, Kind.EXCUSED) and not run.of(Kind.ACQUITTED)
    if skipped and not diverged:
        n = max(int(run.got("skipped")), 0)
        yield (
            f"{count(n, 'batch was', 'batches were')} far outside the run's noise "
            f"({steps_of(skipped)}), and {_learnt(run)}: look at the labels and the "
            "inputs of these batches."
        )
    if new:
        yield (
            f"At {steps_of(new)} the bad batches were taken for the new data, and the "
            f"run {'would have started' if run.observed else 'started'} again on them."
        )
    cut = run.of(Kind.CUT)
    if cut:
        yield (
            f"The run diverged again and again (it went back at {steps_of(back)}), so "
            f"the rate was at fault and was cut at {steps_of(cut)}."
        )
    elif excused := run.of(Kind.EXCUSED):
        yield (
            f"The loss jumped and the run went back ({steps_of(back)}). With the "
            f"earlier parameters the loss was normal ({steps_of(excused)}), so either "
            "the rate is a little high or a few batches were bad."
        )


def _learnt(run: Run) -> str:
    if run.observed:
        return "the plain optimizer has learnt from them"
    return "nothing was learnt from them"
