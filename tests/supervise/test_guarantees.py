"""What holds for any losses and gradients, however hostile."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
from hypothesis import example, given, settings
from hypothesis import strategies as st

import adaptive_optax as ao
from adaptive_optax.law import Law
from tests.supervise.driving import calm

HOSTILE = 150  # steps at most
WAIT = 150  # calm steps within which the calm is believed: see `repaid_by`
BASE, LOW, HIGH = 0.01, 1e-4, 0.5
LARGEST = 1e37  # a loss of this size is no reading


def repaid_by(age, owed):
    """The age by which sound steps have repaid a cut.

    A step repays 4 / (age + 20), which from one age to another adds up to at least 4
    times the log of their ratio: the law t^4. Before that come the steps that repay
    nothing: the last batches that are skipped, the trial, and the audit of new data.
    """
    return math.ceil((age + WAIT + 20) * math.exp(owed / Law().trial.repay)) - 20


MOST_OWED = 7 * math.log(5)  # the first three cuts; the fourth offence ends them
SHORT, LONG = HOSTILE + 30, repaid_by(HOSTILE, MOST_OWED) + 2  # steps of a run

values = st.one_of(
    st.sampled_from([2.0, 50.0, 0.0, -1.0, 1e-30, 1e30, -1e30]),
    st.sampled_from([math.nan, math.inf, -math.inf, 3e38]),
    st.floats(width=32),
)
sizes = st.one_of(
    st.sampled_from([1.0, 1.0, -1.0, 0.0, 1e-20, 1e18, -1e18]),
    st.sampled_from([math.nan, math.inf, 1e30]),
)
# Most of what the judges do needs the same for several steps, or a calm before it.
spans = st.sampled_from([1, 1, 2, 5, 5, 6, 12, 40])
hostile = st.lists(st.tuples(values, sizes, spans), max_size=40)
trials = st.lists(
    st.tuples(st.just(math.nan), st.just(math.nan), st.sampled_from([5, 6])),
    max_size=12,
)


def stream(quiet, adversary, checks, check):
    """Losses and gradients: a calm, then the adversary, who may pause for checks."""
    steps = [(2.0, 1.0)] * quiet
    for loss, size, span in adversary:
        steps += [(loss, size)] * span + [(check, 1.0)] * checks
    return np.float32(steps[:HOSTILE]).reshape(-1, 2)


streams = st.builds(
    stream,
    st.sampled_from([0, 10, 65]),
    st.one_of(hostile, trials),
    st.sampled_from([0, 1, 2, 3]),
    st.sampled_from([2.0, 2.0, math.nan]),
)
any_stream = given(streams)


@functools.cache  # so that hypothesis compiles once
def runner():
    tx = ao.adaptive_scheduler(
        optax.sgd, BASE, momentum=0.9, average=False, lr_bounds=(LOW, HIGH)
    )

    def step(carry, fed):
        params, state = carry
        value, size = fed
        updates, state = tx.update(jnp.full(4, size), state, params, value=value)
        params = optax.apply_updates(params, updates)
        judges = state.recovery.judges
        told = {
            "params": params,
            "scale": state.lr_scale,
            "rate": state.learning_rate,
            "trial": judges.trial,
            "skip": judges.skip,
            "levels": judges.levels,
            "failures": judges.audit.audit_failures,
        }
        return (params, state), told

    start = jnp.ones(4)
    return jax.jit(lambda fed: jax.lax.scan(step, (start, tx.init(start)), fed)[1])


def run(steps, length=SHORT):
    """Run the steps, then calm ones; what came, and what every step has left."""
    rest = length - len(steps)
    fed = np.concatenate([steps, np.stack([calm(rest), np.ones(rest)], axis=1)])
    losses, grads = np.float32(fed).T
    with np.errstate(over="ignore"):
        finite = np.isfinite(4 * grads * grads)
    return losses, finite, jax.device_get(runner()((losses, grads)))


def changed(count):
    """The steps at which a counter has changed."""
    return np.diff(count, prepend=0) > 0


few = settings(max_examples=30, deadline=None, derandomize=True)


@few
@any_stream
def test_parameters_stay_finite_and_the_rate_in_its_bounds(fed):
    _, _, told = run(fed)
    assert np.isfinite(told["params"]).all()
    rate = BASE * told["scale"]
    assert (rate >= LOW * (1 - 1e-5)).all() and (rate <= HIGH * (1 + 1e-5)).all()
    # In the warm-up a step takes a twentieth of the rate at least.
    assert (told["rate"] >= LOW / 20 * (1 - 1e-5)).all()
    assert (told["rate"] <= HIGH * (1 + 1e-5)).all()


@few
@any_stream
def test_no_more_batches_are_skipped_than_the_bucket_holds_and_drains(fed):
    # Each fills it by one, each step drains it by a twentieth at most, and it holds 10
    # and a twentieth of the run's age, 100 at most.
    _, _, told = run(fed)
    age = np.arange(SHORT)
    holds = np.minimum(10 + 0.05 * age, 100)
    assert (told["skip"].bucket <= holds + 1e-3).all()
    assert (told["skip"].skipped <= holds + 0.05 * age + 1e-3).all()


@few
@any_stream
def test_a_step_is_taken_between_any_two_restores(fed):
    _, finite, told = run(fed)
    restored = changed(told["trial"].restores)
    skipped = changed(told["skip"].skipped)
    repeat = np.roll(restored, 1)
    taken = np.cumsum(finite & ~skipped & ~restored & ~repeat)
    assert (np.diff(taken[restored], prepend=0) > 0).all()


@few
@any_stream
def test_what_is_not_learnt_from_moves_nothing(fed):
    _, finite, told = run(fed)
    restored = changed(told["trial"].restores)
    back = restored | np.roll(restored, 1) | np.roll(restored, 2)
    still = (changed(told["skip"].skipped) | ~finite)[1:] & ~back[1:]
    for name in ("params", "scale"):
        now, before = told[name][1:][still], told[name][:-1][still]
        np.testing.assert_array_equal(now, before)


def held_where_nothing_was_read(fed, told_of):
    """What ``told_of`` names stays through each loss that is not finite.

    Beside a finite gradient it is no reading, and the step is taken.
    """
    losses, finite, told = run(fed)
    silent = (finite & ~(np.abs(losses) < LARGEST))[1:]
    for name, x in told_of(told).items():
        now, before = x[1:][silent], x[:-1][silent]
        np.testing.assert_array_equal(now, before, err_msg=name)


@few
@example(stream(65, [(math.nan, math.nan, 5)], 1, math.nan))  # the check of a trial
@any_stream
def test_a_loss_that_is_not_finite_moves_no_judge(fed):
    def judges(told):
        # The way back of a restore goes on, and the first norm is the gradient's.
        trial, levels = told["trial"]._asdict(), told["levels"]._asdict()
        names = ("strikes", "restores", "offences", "watched", "owed")
        del levels["first_norm"]
        kept = {name: trial[name] for name in names}
        return kept | levels | told["skip"]._asdict() | {"failures": told["failures"]}

    held_where_nothing_was_read(fed, judges)


@few
@example(stream(2, [(math.nan, 1.0, 40)], 0, 2.0))  # gradients that always agree
@any_stream
def test_a_loss_that_is_not_finite_moves_no_gain(fed):
    held_where_nothing_was_read(fed, lambda told: {"scale": told["scale"]})


@settings(few, max_examples=15)
@any_stream
def test_a_calm_repays_whatever_was_cut(fed):
    _, _, told = run(fed, LONG)
    age, owed = len(fed), told["trial"].owed
    most = float(owed[max(age - 1, 0) :].max())
    assert most <= MOST_OWED + 1e-4
    assert owed[repaid_by(age, most)] == 0
    # By then the run is settled, and nothing that was lost is held for good.
    assert told["trial"].watched[-1] == 0 and told["skip"].unsettled[-1] == 0
