"""The law in the loop, and what the loop knows of itself."""

import functools
import inspect
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from adaptive_optax._types import Rule
from tests.helpers import with_judges
from tests.loop.running import PARAMS, rates, run, scan

# Five far batches bring the parameters back, and the sixth step judges.
FAR = [9.0] * 5
FIRST, SECOND = 65, 80


def rates_of_two_offences(law):
    """The rates of a level run whose loss is twice high for five steps, its states."""
    losses = np.ones(90, np.float32)
    for judged in (FIRST, SECOND):
        losses[judged - 5 : judged] = FAR
    tx = ao.adaptive_scheduler(optax.sgd, 0.1, law=law, average=False)
    _, states = scan(tx, PARAMS, tx.init(PARAMS), [PARAMS] * 90, value=losses)
    return rates(states), states


class TestLaw:
    def test_a_mode_is_a_named_law(self):
        for mode, law in ao.law.LAWS.items():
            named = ao.adaptive_scheduler(optax.sgd, 1e-3, mode=mode, average=False)
            given = ao.adaptive_scheduler(optax.sgd, 1e-3, law=law, average=False)
            programs = {
                str(
                    jax.make_jaxpr(functools.partial(tx.update, value=1.0))(
                        PARAMS, tx.init(PARAMS), PARAMS
                    )
                )
                for tx in (named, given)
            }
            assert len(programs) == 1

    def test_parts_that_are_off_keep_no_state(self):
        off = ao.Law(audit=None, skip=None, trial=None, average=None)
        state = ao.adaptive_scheduler(optax.sgd, 0.1, law=off).init(PARAMS)
        assert state.recovery == state.averaging == state.window == ()

    def test_without_an_audit_nothing_warms_up_and_the_trial_stands(self):
        law = ao.Law(audit=None, search=None, nudge=None, settle=None)
        seen, states = rates_of_two_offences(law)
        assert seen[0] == seen[35] == seen[FIRST] == np.float32(0.1)
        assert states[FIRST].recovery.judges.trial.restores == 1
        assert seen[SECOND - 1] == np.float32(0.1)
        assert seen[SECOND] == pytest.approx(0.02, rel=1e-4)
        assert states[SECOND].recovery.judges.trial.restores == 2
        assert states[SECOND].recovery.judges.skip.skipped == 10

    def test_a_number_of_the_law_is_the_one_that_is_used(self):
        law = ao.Law(cut=-3.0, audit=None)
        seen, _ = rates_of_two_offences(law)
        ratio = seen[SECOND] / seen[SECOND - 1]
        assert ratio == pytest.approx(math.exp(-3.0), rel=1e-4)

    def test_without_a_trial_what_is_far_is_skipped_and_nothing_returns(self):
        _, states = rates_of_two_offences(ao.Law(trial=None))
        judges = states[-1].recovery.judges
        assert judges.skip.skipped == 10 and judges.trial.restores == 0

    def test_without_a_skip_a_loss_that_stays_high_is_the_new_one(self):
        # Strikes that nobody could answer kept the average from going on, for good.
        tx = ao.adaptive_scheduler(optax.sgd, 1e-3, law=ao.Law(skip=None))
        losses = np.float32([1.0] * 100 + [20.0] * 40)
        _, states = scan(tx, PARAMS, tx.init(PARAMS), [PARAMS] * 140, value=losses)
        counts = [int(states[t].averaging.average_count) for t in (99, 139)]
        assert counts[1] > counts[0] + 10
        judges = states[-1].recovery.judges
        assert judges.trial.strikes == judges.trial.restores == judges.skip.skipped == 0

    def test_an_audit_shorter_than_the_warm_up_ends_with_it(self):
        # Rules that hold in the warm-up held for ever.
        tx = ao.adaptive_scheduler(
            optax.sgd,
            0.1,
            law=ao.Law(audit=ao.law.Audit(steps=5)),
            rule=Rule(
                lambda: (), lambda s, state: (jnp.float32(s.standing.warming), state)
            ),
            average=False,
        )
        scales = [float(state.lr_scale) for state in run(tx, 9)[1]]
        assert scales[6] == scales[8] > scales[3]

    def test_counts_may_be_floats_where_numbers_are_traced(self):
        @jax.jit
        def updated(count):
            law = ao.Law(
                warmup_steps=count,
                audit=ao.law.Audit(steps=count),
                trial=ao.law.Trial(patience=count, start_patience=count),
                readings=count,
            )
            tx = ao.adaptive_scheduler(optax.sgd, 0.1, law=law)
            state = tx.init(PARAMS)
            return state, tx.update(PARAMS, state, PARAMS, value=1.0)[1]

        before, after = updated(jnp.float32(60.0))
        chex.assert_trees_all_equal_shapes_and_dtypes(before, after)

    def test_laws_may_be_studied_in_one_program(self):
        @jax.jit
        @jax.vmap
        def rate_after(trust, warmup_steps):
            law = ao.Law(trust, warmup_steps=warmup_steps)
            tx = ao.adaptive_scheduler(optax.sgd, 0.1, law=law, average=False)
            updated = tx.update(PARAMS, tx.init(PARAMS), PARAMS, value=1.0)[1]
            return updated.learning_rate

        seen = rate_after(jnp.array([3.0, 6.0]), jnp.array([10, 20]))
        np.testing.assert_allclose(seen, [0.1 * 2 / 10, 0.1 * 2 / 20], rtol=1e-5)

    def test_every_number_has_its_reason_beside_it(self):
        source = inspect.getsource(ao.law)
        numbers = [line for line in source.splitlines() if ": Number = " in line]
        assert len(numbers) == 29  # and `Average.every`
        assert all("#" in line for line in numbers)

    def test_a_lag_that_takes_nothing_off_leaves_the_average_whole(self):
        law = ao.Law(average=ao.law.Average(shrink=0.0))
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, law=law)
        _, states = scan(tx, PARAMS, tx.init(PARAMS), [PARAMS] * 30, value=np.ones(30))
        assert int(states[-1].averaging.average_count) == 15

    def test_nothing_that_is_remembered_is_a_nan(self):
        # With jax_debug_nans a state that begins with one cannot be made.
        with jax.debug_nans(True):
            tx = ao.adaptive_scheduler(optax.adam, 1e-2)
            state = tx.init(PARAMS)
            for value in (2.0, 1.0):
                _, state = jax.jit(tx.update)(PARAMS, state, PARAMS, value=value)
        assert not np.isnan(state.recovery.remembered).any()


class TestStanding:
    def test_a_momentum_rule_reads_nothing_that_is_known_of_the_rate_alone(self):
        def knows(signals, state):
            free = signals.standing.trusted_log_scale == 0
            return jnp.where(free, 0.0, jnp.float32(-0.5)), state

        rule = Rule(lambda: (), knows)
        tx = ao.adaptive_scheduler(
            optax.sgd, 0.1, momentum=0.9, rule=rule, momentum_rule=rule, average=False
        )
        state = with_judges(tx.init(PARAMS), trusted_log_scale=jnp.float32(-1.4))
        after = tx.update(PARAMS, state, PARAMS, value=1.0)[1]
        assert float(after.lr_scale) == pytest.approx(math.exp(-0.5))
        assert float(after.momentum) == np.float32(0.9)

    @pytest.mark.parametrize("sigma", [0.0, 1e-3])
    def test_a_restore_brings_back_what_has_frozen_since_the_copy(self, sigma):
        # With dither on, a frozen leaf was left where it was.
        tx = ao.adaptive_scheduler(
            optax.sgd,
            1e-3,
            sigma=sigma,
            average=False,
            freeze=ao.Freeze(1e9, warmup=0, min_dwell=9),
        )
        state = tx.init(PARAMS)
        moved = jax.tree.map(lambda p: p + 1.0, PARAMS)
        frozen = jnp.ones_like(state.freezing.freeze_mask)
        trial = state.recovery.judges.trial._replace(restoring=jnp.int32(2))
        state = with_judges(state, trial=trial)
        state = state._replace(freezing=state.freezing._replace(freeze_mask=frozen))
        updates, after = tx.update(PARAMS, state, moved, value=1.0)
        assert after.freezing.freeze_mask.all()
        chex.assert_trees_all_equal(
            updates, jax.tree.map(lambda p: jnp.full_like(p, -1.0), PARAMS)
        )
