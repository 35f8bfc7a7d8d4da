"""The wiring: what reaches the inner optimizer, what a step may cost, bad input."""

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
from tests.helpers import always, with_judges

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.ones(3)}
BARE = {"average": False, "recovery": False}
ADAM = ao.adaptive_scheduler(optax.adam, 0.1, **BARE)
SAFE = ao.adaptive_scheduler(optax.sgd, 0.01, average=False, mode="safe")
ONES = np.ones(25, np.float32)


def run(tx, steps, *, params=PARAMS, state=None, value=1.0, **feedback):
    """Constant gradients: the last updates, and every state."""
    state = tx.init(params) if state is None else state
    fed = {name: jnp.full(steps, x) for name, x in feedback.items()}
    if value is not None:
        fed["value"] = jnp.full(steps, value)
    updates, states = scan(tx, params, state, [params] * steps, **fed)
    return jax.tree.map(lambda u: u[-1], updates), states


def scan(tx, params, state, grads, **feedback):
    """All updates, stacked, and a list of all states; ``params`` stay what they are."""
    grads = jax.tree.map(lambda *g: np.stack(g), *grads)
    updates, states = loop(tx)(params, state, grads, feedback)
    leaves, structure = jax.tree.flatten(jax.device_get(states))
    return updates, [structure.unflatten(each) for each in zip(*leaves, strict=True)]


@functools.cache
def loop(tx):
    @jax.jit
    def run(params, state, grads, feedback):
        def step(state, now):
            updates, state = tx.update(now[0], state, params, **now[1])
            return state, (updates, state)

        return jax.lax.scan(step, state, (grads, feedback))[1]

    return run


def rates(states):
    return [float(state.learning_rate) for state in states]


class TestGains:
    @pytest.mark.parametrize("inner", [optax.sgd, optax.sgd(0.1)])
    def test_the_rate_multiplies_the_step(self, inner):
        tx = ao.adaptive_scheduler(inner, 0.1, rule=always(math.log(0.5)), **BARE)
        updates, states = run(tx, 3)
        np.testing.assert_allclose(rates(states), [0.05, 0.025, 0.0125], rtol=1e-6)
        np.testing.assert_allclose(updates["b"], -0.0125, rtol=1e-6)

    @pytest.mark.parametrize("delta, end", [(1.0, 0.3), (-1.0, 0.02)])
    @pytest.mark.parametrize("inner", [optax.sgd, optax.sgd(0.1)])
    def test_the_rate_stays_within_its_bounds(self, inner, delta, end):
        tx = ao.adaptive_scheduler(
            inner, 0.1, rule=always(delta), lr_bounds=(0.02, 0.3), **BARE
        )
        updates, states = run(tx, 5)
        assert rates(states)[-1] == pytest.approx(end, rel=1e-6)
        np.testing.assert_allclose(updates["b"], -end, rtol=1e-5)

    def test_the_slew_limits_each_step(self):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, rule=always(-1.0), slew=0.25, **BARE)
        _, states = run(tx, 4)
        expected = 0.1 * np.exp(-0.25 * np.arange(1, 5))
        np.testing.assert_allclose(rates(states), expected, rtol=1e-5)

    @pytest.mark.parametrize("scale", [1e-6, 1e-2, 1e5])
    def test_a_schedule_of_any_size_is_multiplied(self, scale):
        # Bounds that were meant for a rate of 1 kept a schedule of 1e-5 from ever
        # going down.
        schedule = optax.linear_schedule(scale, 0.5 * scale, 4)
        tx = ao.adaptive_scheduler(optax.sgd, schedule, rule=always(-1.0), **BARE)
        _, states = run(tx, 4)
        expected = [float(schedule(t)) * math.exp(-(t + 1)) for t in range(4)]
        np.testing.assert_allclose(rates(states), expected, rtol=1e-5)

    def test_bounds_do_not_move_a_schedule_that_is_inside_them(self):
        # The multiplier was clipped to bounds of the rate: 10 times down at once.
        tx = ao.adaptive_scheduler(
            optax.sgd,
            lambda count: 1e-2,
            rule=always(-0.1),
            lr_bounds=(1e-4, 1e-1),
            **BARE,
        )
        _, states = run(tx, 1)
        assert rates(states)[0] == pytest.approx(1e-2 * math.exp(-0.1), rel=1e-5)

    @pytest.mark.parametrize("delta, end", [(-1.0, 4e-3), (1.0, 3e-2)])
    def test_bounds_limit_what_the_controller_makes_of_a_schedule(self, delta, end):
        tx = ao.adaptive_scheduler(
            optax.sgd,
            lambda count: 1e-2,
            rule=always(delta),
            lr_bounds=(4e-3, 3e-2),
            **BARE,
        )
        _, states = run(tx, 6)
        assert rates(states)[-1] == pytest.approx(end, rel=1e-5)

    def test_a_constant_schedule_is_the_number(self):
        ends = [
            run(ao.adaptive_scheduler(optax.sgd, rate, average=False), 12)
            for rate in (1e-2, optax.constant_schedule(1e-2))
        ]
        chex.assert_trees_all_close(ends[0][0], ends[1][0], rtol=1e-6)
        assert rates(ends[0][1]) == rates(ends[1][1])

    def test_a_schedules_own_value_is_never_clipped(self):
        tx = ao.adaptive_scheduler(
            optax.sgd, lambda count: 0.0 * count, rule=always(0.0), **BARE
        )
        updates, states = run(tx, 2)
        assert rates(states) == [0.0, 0.0]
        np.testing.assert_array_equal(updates["b"], 0.0)

    @pytest.mark.parametrize(
        "inner, options",
        [(optax.sgd, {"lr_bounds": (0.05, 0.2)}), (optax.sgd(0.1), {})],
    )
    def test_the_rate_rises_over_the_first_twenty_steps(self, inner, options):
        # A trial's first step is a tenth of the base rate, and no bound of it.
        tx = ao.adaptive_scheduler(inner, 0.1, mode="safe", average=False, **options)
        updates, states = scan(tx, PARAMS, tx.init(PARAMS), [PARAMS] * 25, value=ONES)
        expected = 0.1 * np.minimum((np.arange(25) + 2) / 20, 1)
        np.testing.assert_allclose(rates(states), expected, rtol=1e-6)
        np.testing.assert_allclose(
            updates["b"], -expected[:, None] * np.ones(3), rtol=1e-5
        )
        assert {float(state.lr_scale) for state in states} == {1.0}

    def test_a_schedule_rises_with_the_warm_up_as_well(self):
        schedule = optax.linear_schedule(1e-2, 0.0, 100)
        tx = ao.adaptive_scheduler(optax.sgd, schedule, mode="safe", average=False)
        _, states = run(tx, 25)
        expected = [float(schedule(t)) * min((t + 2) / 20, 1) for t in range(25)]
        np.testing.assert_allclose(rates(states), expected, rtol=1e-5)

    def test_a_schedule_that_rises_is_not_multiplied(self):
        # A loss that stands still during a user's own warm-up is no reason to climb.
        schedule = optax.warmup_constant_schedule(0.0, 1e-2, 30)
        tx = ao.adaptive_scheduler(optax.sgd, schedule, average=False)
        _, states = run(tx, 60)
        scales = np.asarray([float(s.lr_scale) for s in states])
        np.testing.assert_array_equal(scales[:30], 1.0)
        assert scales[-1] > 2.0

    def test_nothing_warms_up_where_nothing_is_on_probation(self):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, recovery=False, average=False)
        assert rates(run(tx, 2)[1]) == [np.float32(0.1)] * 2
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, average=False)
        assert rates(run(tx, 2, value=None)[1]) == [np.float32(0.1)] * 2

    def test_a_known_horizon_ends_at_zero(self):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, mode="safe", total_steps=20, **BARE)
        updates, states = run(tx, 22)
        expected = 0.1 * np.clip((20 - np.arange(22)) / 6, 0, 1)
        np.testing.assert_allclose(rates(states), expected, rtol=1e-5, atol=1e-9)
        np.testing.assert_array_equal(updates["b"], 0.0)

    @pytest.mark.parametrize("inner", [optax.sgd, optax.sgd(0.1)])
    def test_a_known_horizon_holds_the_multiplier_at_its_end(self, inner):
        # The rate then follows the line alone.
        tx = ao.adaptive_scheduler(inner, 0.1, rule=always(0.1), total_steps=20, **BARE)
        _, states = run(tx, 20)
        scales = np.array([float(state.lr_scale) for state in states])
        np.testing.assert_array_equal(scales[14:], scales[14])

    @pytest.mark.parametrize("factory", [optax.sgd, optax.adam, optax.lion])
    def test_a_moving_momentum_leaves_the_size_of_a_constant_step(self, factory):
        # Optax's heavy ball would grow 10 times, its Adam 2.5 times for a while.
        tx = ao.adaptive_scheduler(
            factory,
            0.1,
            momentum=0.9,
            rule=always(0.0),
            momentum_rule=always(0.3),
            mu_bounds=(0.0, 0.99),
            **BARE,
        )
        fixed = factory(jnp.float32(0.1), jnp.float32(0.9))
        grads = [PARAMS] * 40
        steps, states = scan(
            tx, PARAMS, tx.init(PARAMS), grads, value=np.ones(40, np.float32)
        )
        usual, _ = scan(fixed, PARAMS, fixed.init(PARAMS), grads)
        chex.assert_trees_all_close(steps, usual, rtol=1e-3, atol=1e-6)
        assert float(states[-1].momentum) == pytest.approx(0.99)

    def test_a_linear_momentum_moves_as_the_theory_says(self):
        tx = ao.adaptive_scheduler(
            optax.sgd,
            0.1,
            momentum=0.5,
            momentum_rule=always(0.125),
            momentum_coordinate="linear",
            mu_bounds=(0.0, 0.8),
            **BARE,
        )
        _, states = run(tx, 4)
        seen = [float(state.momentum) for state in states]
        np.testing.assert_allclose(seen, [0.625, 0.75, 0.8, 0.8], rtol=1e-6)

    def test_a_momentum_that_is_not_set_is_read_from_the_factory(self):
        assert float(ao.adaptive_scheduler(optax.adam, 0.1).init(PARAMS).momentum) == (
            np.float32(0.9)
        )

    def test_sigma_follows_its_rule_and_its_noise_is_added(self):
        tx = ao.adaptive_scheduler(
            optax.sgd,
            0.0001,
            sigma=1e-3,
            sigma_rule=always(math.log(2.0)),
            dither_scale="isotropic",
            **BARE,
        )
        params = {"w": jnp.zeros(5000)}
        updates, states = run(tx, 3, params=params)
        assert float(states[-1].sigma) == pytest.approx(8e-3, rel=1e-5)
        assert float(jnp.std(updates["w"])) == pytest.approx(8e-3, rel=0.05)

    def test_no_sigma_draws_no_random_bits(self):
        def program(**options):
            tx = ao.adaptive_scheduler(optax.sgd, 0.1, **options)
            state = tx.init(PARAMS)
            step = functools.partial(tx.update, value=1.0)
            return str(jax.make_jaxpr(step)(PARAMS, state, PARAMS))

        assert "random" in program(sigma=1e-3)
        assert "random" not in program() and "threefry" not in program()

    def test_the_seed_sets_the_noise(self):
        @jax.jit
        def noise(seed):
            tx = ao.adaptive_scheduler(optax.sgd, 0.1, sigma=1e-3, seed=seed, **BARE)
            return tx.update(PARAMS, tx.init(PARAMS), PARAMS)[0]

        one, again, other = noise(1), noise(1), noise(2)
        chex.assert_trees_all_equal(one, again)
        assert (one["w"] != other["w"]).all()


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
        off = ao.Law(audit=None, guard=None, retry=None, average=None)
        state = ao.adaptive_scheduler(optax.sgd, 0.1, law=off).init(PARAMS)
        assert state.recovery == state.averaging == state.window == ()

    def test_without_an_audit_nothing_warms_up_and_the_guard_stands(self):
        law = ao.Law(audit=None, search=None, nudge=None, settle=None)
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, law=law, average=False)
        losses = np.float32([1.0] * 30 + [9.0] * 3)
        _, states = scan(tx, PARAMS, tx.init(PARAMS), [PARAMS] * 33, value=losses)
        seen = rates(states)
        assert seen[0] == seen[31] == np.float32(0.1)
        assert (
            seen[32] == pytest.approx(0.025)
            and states[-1].recovery.judges.restores == 1
        )

    def test_a_number_of_the_law_is_the_one_that_is_used(self):
        law = ao.Law(guard=ao.law.Guard(diverged=-3.0), audit=None)
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, law=law, average=False)
        losses = np.float32([1.0] * 30 + [9.0] * 3)
        _, states = scan(tx, PARAMS, tx.init(PARAMS), [PARAMS] * 33, value=losses)
        ratio = rates(states)[32] / rates(states)[31]
        assert ratio == pytest.approx(math.exp(-3.0), rel=1e-4)

    def test_without_a_guard_a_loss_that_stays_high_is_the_new_one(self):
        # Strikes that nobody could answer kept the average from going on, for good.
        tx = ao.adaptive_scheduler(optax.sgd, 1e-3, law=ao.Law(guard=None))
        losses = np.float32([1.0] * 100 + [20.0] * 40)
        _, states = scan(tx, PARAMS, tx.init(PARAMS), [PARAMS] * 140, value=losses)
        counts = [int(states[t].averaging.average_count) for t in (99, 139)]
        assert counts[1] > counts[0] + 10
        assert (
            states[-1].recovery.judges.strikes
            == states[-1].recovery.judges.restores
            == 0
        )

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
                keep_every=count,
                audit=ao.law.Audit(steps=count),
                retry=ao.law.Retry(watch=count),
                search=ao.law.Search(quiet=count),
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
            law = ao.Law(trust, audit=ao.law.Audit(warmup_steps=warmup_steps))
            tx = ao.adaptive_scheduler(optax.sgd, 0.1, law=law, average=False)
            updated = tx.update(PARAMS, tx.init(PARAMS), PARAMS, value=1.0)[1]
            return updated.learning_rate

        seen = rate_after(jnp.array([3.0, 6.0]), jnp.array([10, 20]))
        np.testing.assert_allclose(seen, [0.1 * 2 / 10, 0.1 * 2 / 20], rtol=1e-5)

    def test_every_number_has_its_reason_beside_it(self):
        source = inspect.getsource(ao.law)
        numbers = [line for line in source.splitlines() if ": Number = " in line]
        assert len(numbers) > 50
        assert all("#" in line for line in numbers)

    def test_a_lag_without_memory_leaves_the_average_whole(self):
        law = ao.Law(average=ao.law.Average(memory=0.0))
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
        # After the rate had diverged, the momentum climbed at a tenth of its pace.
        def knows(signals, state):
            free = jnp.isinf(signals.standing.diverged_log_scale) & (
                signals.standing.trusted_log_scale == 0
            )
            return jnp.where(free, 0.0, jnp.float32(-0.5)), state

        rule = Rule(lambda: (), knows)
        tx = ao.adaptive_scheduler(
            optax.sgd, 0.1, momentum=0.9, rule=rule, momentum_rule=rule, average=False
        )
        state = with_judges(
            tx.init(PARAMS),
            diverged_log_scale=jnp.float32(-0.7),
            trusted_log_scale=jnp.float32(-1.4),
        )
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
        state = with_judges(state, restoring=jnp.int32(2))
        state = state._replace(freezing=state.freezing._replace(freeze_mask=frozen))
        updates, after = tx.update(PARAMS, state, moved, value=1.0)
        assert after.freezing.freeze_mask.all()
        chex.assert_trees_all_equal(
            updates, jax.tree.map(lambda p: jnp.full_like(p, -1.0), PARAMS)
        )


class TestFeedback:
    def test_loss_is_another_name_of_value(self):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, rule=ao.rules.literal(), **BARE)
        state = tx.init(PARAMS)
        one = tx.update(PARAMS, state, PARAMS, value=jnp.float32(2.0))
        other = tx.update(PARAMS, state, PARAMS, loss=jnp.float32(2.0))
        chex.assert_trees_all_equal(one, other)

    def test_both_names_at_once_are_refused(self):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1)
        with pytest.raises(ValueError, match="`value` and `loss` are two names"):
            tx.update(PARAMS, tx.init(PARAMS), PARAMS, value=1.0, loss=1.0)

    def test_a_reward_alone_closes_the_loop(self):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, rule=ao.rules.literal(), **BARE)
        state = tx.init(PARAMS)
        for reward in (1.0, 2.0):
            _, state = tx.update(PARAMS, state, PARAMS, reward=reward)
        assert float(state.lr_scale) > 1.0

    def test_the_loss_and_all_else_reach_the_inner_optimizer(self):
        seen = {}

        def update(updates, state, params=None, **extra):
            seen.update(extra)
            return updates, state

        inner = optax.GradientTransformationExtraArgs(lambda params: (), update)
        tx = ao.adaptive_scheduler(inner, **BARE)
        tx.update(PARAMS, tx.init(PARAMS), PARAMS, loss=2.0, reward=1.0, obj_fn=len)
        assert seen == {"value": 2.0, "obj_fn": len}

    @pytest.mark.parametrize("name", ["value", "loss", "reward"])
    @pytest.mark.parametrize("shape", [(1,), (4,), (2, 2)])
    def test_a_feedback_that_is_no_scalar_is_quoted(self, name, shape):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1)
        state = tx.init(PARAMS)
        quoted = str(shape).replace("(", r"\(").replace(")", r"\)")
        with pytest.raises(ValueError, match=f"must be a scalar, got shape {quoted}"):
            tx.update(PARAMS, state, PARAMS, **{name: jnp.ones(shape)})

    @pytest.mark.parametrize("wrong", ["low", 1 + 2j, jnp.complex64(1.0)])
    def test_a_feedback_that_is_no_number_is_quoted(self, wrong):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1)
        with pytest.raises(TypeError, match="`value` must be a real number, got"):
            tx.update(PARAMS, tx.init(PARAMS), PARAMS, value=wrong)

    @pytest.mark.parametrize("spoilt", ["value", "reward", "gradient"])
    def test_the_inner_optimizer_sees_no_gradient_of_a_step_not_taken(self, spoilt):
        # The gradient of a NaN loss is as broken as a NaN gradient.
        _, states = run(ADAM, 3)
        fed = {"value": 1.0, "reward": 1.0}
        grads = PARAMS
        if spoilt == "gradient":
            grads = PARAMS | {"b": PARAMS["b"].at[0].set(jnp.nan)}
        else:
            fed[spoilt] = jnp.nan
        _, after = scan(
            ADAM, PARAMS, states[-1], [grads], **jax.tree.map(np.atleast_1d, fed)
        )
        after = after[-1]
        before = optax.tree.get(states[-1], "mu")
        expected = jax.tree.map(lambda m: 0.9 * m, before)
        chex.assert_trees_all_close(optax.tree.get(after, "mu"), expected, rtol=1e-6)

    def test_the_average_waits_for_the_next_step_that_is_taken(self):
        # With no judge to call the others unhealthy, either.
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, recovery=False)
        state, update, counts = tx.init(PARAMS), jax.jit(tx.update), []
        for value in (1.0, 1.0, np.nan, np.nan, 1.0):
            _, state = update(PARAMS, state, PARAMS, value=value)
            counts.append(int(state.averaging.average_count))
        assert counts == [1, 1, 1, 1, 2]

    @pytest.mark.parametrize("rate,sign", [(4.0, 1.0), (2.0, -1.0)])
    def test_entries_that_overflow_are_not_taken(self, rate, sign):
        # Of the step itself, and of the parameter; from infinity nothing returns.
        params = {"x": jnp.array([3e4, -3e4, 1.0], jnp.float16)}
        tx = ao.adaptive_scheduler(optax.sgd, rate, **BARE)
        grads = {"x": sign * params["x"]}
        updates, state = tx.update(grads, tx.init(params), params, value=1.0)
        after = optax.apply_updates(params, updates)["x"]
        chex.assert_trees_all_equal(after[:2], params["x"][:2])
        assert after[2] == 1.0 - sign * rate and state.nonfinite_steps == 1

    def test_a_bfloat16_parameter_stays_in_its_range_too(self):
        largest = float(jnp.finfo(jnp.bfloat16).max)
        params = {"x": jnp.full(2, largest, jnp.bfloat16)}
        tx = ao.adaptive_scheduler(optax.sgd, 1e20, **BARE)
        grads = {"x": jnp.array([-1e18, 1e18], jnp.float32)}
        updates, state = tx.update(grads, tx.init(params), params, value=1.0)
        after = optax.apply_updates(params, updates)["x"]
        assert after[0] == largest and 0 < after[1] < largest
        assert state.nonfinite_steps == 1

    @pytest.mark.parametrize("frozen", [False, True])
    def test_entries_that_the_inner_optimizer_spoils_are_left_out(self, frozen):
        # Adam without an epsilon divides 0 by 0 where there never was a gradient.
        params = {"seen": jnp.full(4, 2.0), "unseen": jnp.ones(5000)}
        tx = ao.adaptive_scheduler(
            lambda learning_rate: optax.adam(learning_rate, eps=0.0),
            0.1,
            freeze_threshold=1e-6 if frozen else None,
        )

        def step(carry, _):
            params, state = carry
            value, grads = jax.value_and_grad(lambda p: jnp.sum(p["seen"] ** 2))(params)
            updates, state = tx.update(grads, state, params, value=value)
            return (optax.apply_updates(params, updates), state), state.frozen_fraction

        carry = params, tx.init(params)
        (after, state), asleep = jax.jit(lambda c: jax.lax.scan(step, c, length=300))(
            carry
        )
        chex.assert_trees_all_equal(after["unseen"], params["unseen"])
        assert jnp.abs(after["seen"]).max() < 0.1
        chex.assert_tree_all_finite(ao.eval_params(state, after))
        assert state.recovery.judges.restores == 0 and state.sensor.nonfinite[2] == 0
        assert state.nonfinite_steps == jnp.sum(asleep == 0)
        assert bool(asleep[-1] > 0.9) == frozen

    @pytest.mark.parametrize("which", ["value", "reward"])
    def test_the_judges_listen_to_the_reward_where_there_is_one(self, which):
        # The surrogate loss of a policy gradient says nothing of success.
        wave = np.float32(0.05 * np.cos(np.arange(63) * 2.4))
        fed = {"value": 5.0 + wave, "reward": 3.0 - wave}
        fed[which][60:] += {"value": 1e4, "reward": -1e4}[which]
        _, states = scan(SAFE, PARAMS, SAFE.init(PARAMS), [PARAMS] * 63, **fed)
        state = states[-1]
        assert int(state.recovery.judges.restores) == (which == "reward")
        assert float(state.lr_scale) == (0.25 if which == "reward" else 1.0)

    def test_the_default_law_takes_a_reward_for_the_negative_loss(self):
        rewards = np.float32(np.linspace(0.0, 1.0, 90) ** 2)
        ends = []
        for fed in ({"value": -rewards}, {"value": rewards * 0, "reward": rewards}):
            tx = ao.adaptive_scheduler(optax.sgd, 1e-3, mode="search", average=False)
            _, states = scan(tx, PARAMS, tx.init(PARAMS), [PARAMS] * 90, **fed)
            ends.append(states[-1])
        assert float(ends[0].lr_scale) > 2.0
        assert float(ends[1].lr_scale) == float(ends[0].lr_scale)
        # Telemetry still tells them apart.
        assert ao.snapshot(ends[1])["loss"] == 0.0

    def test_a_rule_of_ones_own_hears_both(self):
        heard = []

        def update(signals, state):
            heard.append((signals.loss.value, signals.reward.value))
            return jnp.zeros((), jnp.float32), state

        tx = ao.adaptive_scheduler(optax.sgd, 0.1, rule=Rule(lambda: (), update))
        tx.update(PARAMS, tx.init(PARAMS), PARAMS, value=2.0, reward=3.0)
        assert heard == [(2.0, 3.0)]


class TestModes:
    def test_a_mode_is_the_evidence_that_a_climb_needs(self):
        noise = np.float32(np.random.default_rng(0).normal(size=(130, 2, 3)))
        values = np.float32(9 - np.arange(130) / 30)
        grads = [{"w": PARAMS["w"] + 1.5 * each, "b": PARAMS["b"]} for each in noise]

        grads = jax.tree.map(lambda *g: np.stack(g), *grads)

        @jax.jit
        @jax.vmap
        def climb(mode):
            tx = ao.adaptive_scheduler(optax.sgd, 1e-3, mode=mode, average=False)
            feedback = {"value": values}
            _, states = loop(tx)(PARAMS, tx.init(PARAMS), grads, feedback)
            return states.lr_scale[-1]

        search, nudge, safe = climb(jnp.array([3.0, 6.0, math.inf]))
        assert search > 1.1 * nudge > 2.0 and safe == 1.0

    def test_the_law_knows_the_memory_of_a_filter_that_is_not_set(self):
        # Its votes are late by that, and a climb lands where it was by then.
        def rule_after(inner, **options):
            tx = ao.adaptive_scheduler(inner, 1e-3, mode="search", **BARE, **options)
            return run(tx, 30)[1][-1].lr_rule

        own = rule_after(functools.partial(optax.sgd, momentum=0.5))
        given = rule_after(optax.sgd, momentum=0.5)
        assert (
            0.1
            < float(own.search_lagged)
            == pytest.approx(float(given.search_lagged), rel=1e-5)
        )

    @pytest.mark.parametrize(
        "schedule, retried",
        [
            (optax.constant_schedule(0.01), True),
            (optax.exponential_decay(0.01, 10, 0.5), False),
        ],
        ids=["constant", "falls"],
    )
    def test_a_failed_rate_is_not_tried_again_where_the_schedule_falls(
        self, schedule, retried
    ):
        # Its first steps carry on against the gradient; then the loss stands still.
        tx = ao.adaptive_scheduler(
            functools.partial(optax.sgd, momentum=0.9),
            schedule,
            mode="safe",
            average=False,
        )
        state, update = tx.init(PARAMS), jax.jit(tx.update)
        for t in range(60):
            size = -0.05 if 0 < t < 9 else 1.0
            grads = jax.tree.map(lambda p, size=size: jnp.full_like(p, size), PARAMS)
            _, state = update(grads, state, PARAMS, value=2.0)
        assert int(state.recovery.judges.audit.audit_failures) == 1
        assert int(state.recovery.judges.audit.audit_left) == 0
        assert (int(state.recovery.judges.retry.retrying) > 0) == retried

    @pytest.mark.parametrize(
        "name, number", [("search", 3), ("nudge", 6.0), ("safe", math.inf)]
    )
    def test_a_mode_and_its_number_are_one_program(self, name, number):
        def program(mode):
            tx = ao.adaptive_scheduler(optax.sgd, 1e-3, mode=mode, average=False)
            step = functools.partial(tx.update, value=1.0)
            return str(jax.make_jaxpr(step)(PARAMS, tx.init(PARAMS), PARAMS))

        assert program(name) == program(number)
        assert program(name) != program(5.0)

    @pytest.mark.parametrize(
        "schedule",
        [
            optax.warmup_constant_schedule(0.0, 3e-4, 1000),
            optax.constant_schedule(3e-4),
            optax.cosine_decay_schedule(3e-4, 100_000),
        ],
    )
    def test_a_schedule_that_does_not_decay_there_may_have_a_horizon(self, schedule):
        ao.adaptive_scheduler(optax.sgd, schedule, total_steps=5000)

    def test_without_an_audit_a_horizon_may_be_short(self):
        ao.adaptive_scheduler(optax.sgd, 0.1, total_steps=2, recovery=False)
        ao.adaptive_scheduler(optax.sgd, 0.1, total_steps=60)

    def test_a_horizon_may_be_given_while_another_program_is_traced(self):
        schedule = optax.warmup_constant_schedule(0.0, 0.1, 10)

        @jax.jit
        def build(rate):
            ao.adaptive_scheduler(optax.sgd, schedule, total_steps=100)
            own = optax.warmup_constant_schedule(0.0, rate, 10)
            ao.adaptive_scheduler(optax.sgd, own, total_steps=100)
            return rate

        build(0.1)

    def test_arrays_may_be_given_while_another_program_is_traced(self):
        @jax.jit
        def build(x):
            one = {"mode": jnp.float32(6), "slew": jnp.float32(0.1)}
            inf = {"mode": jnp.float32(math.inf), "slew": np.array(math.inf)}
            for options in (one, inf):
                ao.adaptive_scheduler(
                    optax.sgd,
                    jnp.float32(0.1),
                    sigma=jnp.float32(1e-3),
                    lr_bounds=(jnp.float32(1e-3), jnp.float32(1.0)),
                    **options,
                )
            return x

        build(0.1)

    def test_a_horizon_is_not_traced(self):
        with pytest.raises(TypeError, match="`total_steps` must be known before any"):
            jax.jit(
                lambda n: ao.adaptive_scheduler(optax.sgd, 0.1, total_steps=n) and n
            )(100)

    def test_what_the_bounds_take_from_a_schedule_is_no_gain(self):
        tx = ao.adaptive_scheduler(
            optax.sgd,
            optax.constant_schedule(0.1),
            rule=always(0.1),
            lr_bounds=(0.01, 0.2),
            **BARE,
        )
        _, states = run(tx, 30)
        assert rates(states)[-1] == np.float32(0.2)
        np.testing.assert_allclose(states[-1].lr_scale, 2.0, rtol=1e-5)

    def test_a_schedule_that_comes_back_finds_the_multiplier_as_it_was(self):
        # Where the schedule is low, the bounds keep the rate up, and take nothing.
        schedule = optax.join_schedules(
            [optax.constant_schedule(r) for r in (0.1, 0.01, 0.0, 0.1)], [5, 10, 15]
        )
        options = BARE | {"rule": always(0.0), "lr_bounds": (0.01, 0.2)}
        tx = ao.adaptive_scheduler(optax.sgd, schedule, **options)
        half = tx.init(PARAMS)._replace(lr_scale=jnp.float32(0.5))
        _, states = run(tx, 20, state=half)
        assert {float(state.lr_scale) for state in states} == {0.5}
        assert rates(states)[-1] == np.float32(0.05)


class TestParts:
    def test_the_average_is_the_evaluated_one(self):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, recovery=False)
        _, states = run(tx, 3)
        mean = ao.eval_params(states[-1], PARAMS)
        chex.assert_trees_all_close(mean, PARAMS)
        with pytest.raises(ValueError, match="average=True"):
            bare = ao.adaptive_scheduler(optax.sgd, 0.1, **BARE)
            ao.eval_params(bare.init(PARAMS), PARAMS)

    def test_a_frozen_leaf_does_not_move_by_a_bit(self):
        # Weight decay and dither included.
        tx = ao.adaptive_scheduler(
            functools.partial(optax.adamw, weight_decay=0.1),
            0.1,
            sigma=1e-2,
            freeze_threshold=1e-3,
            **BARE,
        )
        params, update = PARAMS, jax.jit(tx.update)
        state = tx.init(params)
        for t in range(160):
            if t == 120:
                held = params["b"]
            grads = {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}
            updates, state = update(grads, state, params, value=1.0)
            params = optax.apply_updates(params, updates)
        mask = ao.frozen_mask(state, params)
        assert bool(mask["b"]) and not bool(mask["w"])
        np.testing.assert_array_equal(params["b"], held)
        assert float(state.frozen_fraction) == pytest.approx(3 / 9)

    def test_a_state_costs_little_beyond_the_inner_one(self):
        params = jax.eval_shape(
            lambda: {"emb": jnp.zeros((2048, 256)), "w": jnp.zeros((6, 256, 3072))}
        )

        def size(tree):
            return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))

        tx = ao.adaptive_scheduler(optax.adam, 1e-3, **BARE)
        state = jax.eval_shape(tx.init, params)
        assert size(state) - size(state.inner_state) <= 0.045 * size(params)

    def test_without_average_and_recovery_no_parameters_are_needed(self):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, **BARE)
        updates, _ = tx.update(PARAMS, tx.init(PARAMS), value=1.0)
        chex.assert_trees_all_close(updates, jax.tree.map(lambda p: -0.1 * p, PARAMS))

    @pytest.mark.parametrize(
        "options",
        [
            {"recovery": False},
            {"average": False},
            {**BARE, "sigma": 1e-3},
        ],
        ids=["average", "recovery", "dither"],
    )
    def test_the_parts_that_need_parameters_say_so(self, options):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, **options)
        with pytest.raises(ValueError, match=r"needs the parameters, got params=None"):
            tx.update(PARAMS, tx.init(PARAMS), value=1.0)


class TestPopulation:
    def test_a_population_of_learning_rates_is_one_vmap(self):
        def end(rate, seed):
            tx = ao.adaptive_scheduler(optax.sgd, rate, mode="search", average=False)
            noise = jax.random.normal(jax.random.key(seed), (80, 3))

            def step(carry, shake):
                x, state = carry
                value, grads = jax.value_and_grad(lambda x: jnp.sum((x - shake) ** 2))(
                    x
                )
                updates, state = tx.update(grads, state, x, value=value)
                return (optax.apply_updates(x, updates), state), state.learning_rate

            start = jnp.full(3, 5.0)
            return jax.lax.scan(step, (start, tx.init(start)), 0.1 * noise)

        rates = jnp.array([1e-3, 1e-2, 3.0])
        seeds = jnp.arange(3)
        (together, _), path = jax.jit(jax.vmap(end))(rates, seeds)
        one_by_one = jax.jit(end)
        for i in range(3):
            (alone, _), alone_path = one_by_one(rates[i], seeds[i])
            np.testing.assert_allclose(together[i], alone, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(path[i], alone_path, rtol=1e-4)
        # Every rate warms up; one that is too high is found out; one that is too low
        # climbs.
        begins = [1e-4, 5.5e-4]
        np.testing.assert_allclose(path[0, [0, 9]], begins, rtol=1e-5)
        assert path[2, -1] < 1.0 and path[0, -1] > 2e-3

    def test_gains_may_be_traced(self):
        def first(rate, momentum, sigma):
            tx = ao.adaptive_scheduler(
                optax.sgd, rate, momentum=momentum, sigma=sigma, **BARE
            )
            return tx.update(PARAMS, tx.init(PARAMS), PARAMS, value=1.0)[0]["b"]

        gains = jnp.array([0.1, 0.2]), jnp.array([0.0, 0.9]), jnp.array([0.0, 0.0])
        np.testing.assert_allclose(
            jax.jit(jax.vmap(first))(*gains), [[-0.1] * 3, [-0.2] * 3], rtol=1e-6
        )


def sgd_without_momentum(learning_rate):
    return optax.sgd(learning_rate)


SGD = {"inner": optax.sgd, "learning_rate": 0.1}
BAD = [
    # Rates.
    ({"learning_rate": None}, ValueError, "a factory needs a base .* got None"),
    (
        {"learning_rate": 0.0},
        ValueError,
        r"`learning_rate` must lie in \(0, .* got 0.0",
    ),
    ({"learning_rate": -0.1}, ValueError, "`learning_rate` must lie in .* got -0.1"),
    (
        {"learning_rate": math.nan},
        ValueError,
        "`learning_rate` must be finite, got nan",
    ),
    (
        {"learning_rate": math.inf},
        ValueError,
        "`learning_rate` must be finite, got inf",
    ),
    (
        {"learning_rate": "3e-4"},
        TypeError,
        "`learning_rate` must be a number, .*'3e-4'",
    ),
    ({"learning_rate": True}, TypeError, "`learning_rate` must be a number, got True"),
    ({"learning_rate": [0.1]}, TypeError, r"must be a number, got \[0.1\]"),
    # Bounds.
    ({"lr_bounds": (1.0, 0.01)}, ValueError, "`lr_bounds` is reversed: 1.0 > 0.01"),
    ({"lr_bounds": (0.0, 1.0)}, ValueError, r"`lr_bounds\[0\]` must lie in .* got 0.0"),
    ({"lr_bounds": (-1, 1.0)}, ValueError, "`lr_bounds` must lie in .* got -1"),
    ({"lr_bounds": (0.1, math.inf)}, ValueError, "`lr_bounds` must be finite, got inf"),
    ({"lr_bounds": (0.2, 1.0)}, ValueError, r"`learning_rate` .* \[0.2, 1\], got 0.1"),
    ({"lr_bounds": 0.1}, TypeError, r"must be a pair \(low, high\), got 0.1"),
    ({"lr_bounds": (0.1,)}, TypeError, r"must be a pair \(low, high\), got \(0.1,\)"),
    ({"mu_bounds": (0.9, 0.1)}, ValueError, "`mu_bounds` is reversed: 0.9 > 0.1"),
    ({"mu_bounds": (0.0, 1.0)}, ValueError, r"`mu_bounds` .* \[0, 1\), got 1.0"),
    ({"mu_bounds": (-0.1, 0.9)}, ValueError, "`mu_bounds` must lie in .* got -0.1"),
    ({"sigma_bounds": (0.1, 0.0)}, ValueError, "`sigma_bounds` is reversed: 0.1 > 0"),
    ({"sigma_bounds": (-1.0, 0.1)}, ValueError, "`sigma_bounds` .* got -1.0"),
    # Momentum and sigma.
    ({"momentum": 1.0}, ValueError, r"`momentum` must lie in \[0, 0.999\], got 1.0"),
    ({"momentum": 1.5}, ValueError, "`momentum` must lie in .* got 1.5"),
    ({"momentum": -0.1}, ValueError, "`momentum` must lie in .* got -0.1"),
    ({"momentum": math.nan}, ValueError, "`momentum` must be finite, got nan"),
    (
        {"momentum": 0.9, "mu_bounds": (0.0, 0.5)},
        ValueError,
        r"`momentum` must lie in \[0, 0.5\], got 0.9",
    ),
    (
        {
            "inner": optax.adam,
            "momentum_rule": always(0.0),
            "mu_bounds": (0.0, 0.5),
        },
        ValueError,
        r"momentum.* \[0, 0.5\], got 0.9",
    ),
    ({"sigma": -1e-3}, ValueError, "`sigma` must lie in .* got -0.001"),
    ({"sigma": 0.1}, ValueError, r"`sigma` must lie in \[0, 0.01\], got 0.1"),
    ({"sigma": math.nan}, ValueError, "`sigma` must be finite, got nan"),
    # Names.
    ({"mode": "fast"}, ValueError, "`mode` .* 'nudge', 'search', 'safe', got 'fast'"),
    ({"mode": None}, TypeError, "`mode` must be a number, got None; try mode=.nudge"),
    ({"mode": -1.0}, ValueError, "`mode` must lie in .* got -1.0; try mode=.nudge"),
    ({"mode": math.nan}, ValueError, "`mode` must be finite, got nan"),
    ({"mode": -math.inf}, ValueError, "`mode` must be finite, got -inf"),
    ({"mode": True}, TypeError, "`mode` must be a number, got True"),
    (
        {"rule": "trend"},
        TypeError,
        "`rule` must be a Rule, got 'trend'; try rule=rules",
    ),
    ({"rule": ao.rules.trend}, TypeError, "`rule` must be a Rule, got <function trend"),
    ({"momentum_rule": 0.1}, TypeError, "`momentum_rule` must be a Rule, got 0.1"),
    ({"sigma_rule": "x", "sigma": 1e-3}, TypeError, "`sigma_rule` must be .* got 'x'"),
    (
        {"momentum_coordinate": "logit"},
        ValueError,
        "`momentum_coordinate` must be one of 'horizon', 'linear', got 'logit'",
    ),
    ({"dither_scale": "rms"}, ValueError, "`dither_scale` must be .* got 'rms'"),
    # The rest.
    ({"slew": 0.0}, ValueError, r"`slew` must lie in \(0, inf\], got 0.0"),
    ({"slew": -1.0}, ValueError, r"`slew` must lie in \(0, inf\], got -1.0"),
    ({"slew": -math.inf}, ValueError, "`slew` must be finite, got -inf"),
    ({"slew": math.nan}, ValueError, "`slew` must be finite, got nan"),
    ({"total_steps": 1}, ValueError, "`total_steps` must be at least 2, got 1"),
    (
        {"total_steps": 59},
        ValueError,
        "`total_steps` must be at least 60, .* of the audit, got 59; .*recovery=F",
    ),
    (
        {
            "learning_rate": optax.cosine_decay_schedule(3e-4, 1000),
            "total_steps": 1000,
        },
        ValueError,
        "the schedule and `total_steps` would both .* falls from 0.0003 to 0 within "
        "1000 steps; leave out total_steps, .*=optax.warmup_constant_schedule",
    ),
    (
        {"learning_rate": optax.cosine_decay_schedule(3e-4, 600), "total_steps": 1000},
        ValueError,
        "the schedule and `total_steps` would both lower the rate",
    ),
    (
        {"learning_rate": lambda count: -0.1},
        ValueError,
        r"`learning_rate\(0\)` must lie in \[0, inf\], got -0.1",
    ),
    ({"recovery": "yes"}, TypeError, "`recovery` must be True or False, got 'yes'"),
    ({"average": 10}, TypeError, "`average` must be True or False, got 10"),
    (
        {"recovery_dtype": jnp.bfloat16, "recovery": False},
        ValueError,
        "`recovery_dtype`=.*bfloat16.* recovery=False does not keep",
    ),
    ({"recovery_dtype": jnp.int8}, ValueError, "floating-point dtype, got .*int8"),
    ({"total_steps": 1e4}, TypeError, "`total_steps` must be an integer, got 10000.0"),
    ({"sketch": 0.0}, ValueError, r"`sketch` must lie in \(0, 1\], got 0.0"),
    ({"sketch": 1.5}, ValueError, r"`sketch` must lie in \(0, 1\], got 1.5"),
    ({"freeze_threshold": -1.0}, ValueError, "`threshold` must lie in .* got -1.0"),
    ({"freeze": {"warmup": 3}}, TypeError, "must be a Freeze.*ao.Freeze.1e-4"),
    (
        {"freeze": ao.Freeze(warmup=-3)},
        ValueError,
        "`warmup` must be at least 0, got -3",
    ),
    (
        {"freeze_threshold": 0.1, "freeze": ao.Freeze()},
        ValueError,
        "is short for freeze=ao.Freeze.0.1.*give one of them",
    ),
    (
        {"law": ao.Law(audit=ao.law.Audit(steps=2**25))},
        ValueError,
        "`law.audit.steps` must lie in .*1.67772e.07.* got 33554432",
    ),
    ({"seed": 0.5}, TypeError, "`seed` must be an integer, got 0.5"),
    ({"law": {"retry": None}}, TypeError, "`law` must be a Law, got .*'retry'"),
    (
        {"law": ao.Law(), "mode": "search"},
        ValueError,
        "`mode`='search' and `law` both say .*law=ao.Law.trust=3.0",
    ),
    (
        {"law": ao.Law(retry=False)},
        TypeError,
        "`law.retry` must be a Retry, or None to",
    ),
    ({"law": ao.Law(guard=ao.law.Retry())}, TypeError, "`law.guard` must be a Guard"),
    (
        {"law": ao.Law(average=ao.law.Average(every=0))},
        ValueError,
        "`law.average.every` must lie in .* got 0",
    ),
    ({"law": ao.Law(trust=-1.0)}, ValueError, "`law.trust` must lie in .* -1.0"),
    # What to wrap.
    ({"inner": "adam"}, TypeError, "must be a factory or a Gradient.* got 'adam'"),
    ({"inner": sgd_without_momentum, "momentum": 0.9}, ValueError, "sgd_without_mom"),
    (
        {"inner": sgd_without_momentum, "momentum_rule": always(0.0)},
        ValueError,
        "sgd_without_momentum has no momentum argument .* momentum_arg=",
    ),
    (
        {"momentum_arg": "friction", "momentum": 0.9},
        ValueError,
        "no argument 'friction'",
    ),
    ({"inner": optax.sgd(0.1), "momentum_arg": "x"}, ValueError, "`momentum_arg`='x'"),
    (
        {"inner": optax.sgd(0.1, 0.9), "momentum_rule": always(0.0)},
        ValueError,
        "momentum",
    ),
    (
        {"inner": optax.sgd(0.1), "learning_rate": None, "lr_bounds": (1e-3, 0.5)},
        ValueError,
        r"learning_rate",
    ),
]


@pytest.mark.parametrize("options, error, message", BAD)
def test_bad_input_is_quoted(options, error, message):
    with pytest.raises(error, match=message):
        ao.adaptive_scheduler(**SGD | options)


def test_the_momentum_of_a_built_optimizer_cannot_be_set():
    tx = ao.adaptive_scheduler(optax.sgd(0.1, momentum=0.9), 0.1, momentum=0.5)
    with pytest.raises(
        ValueError, match=r"pass its factory, adaptive_scheduler\(optax"
    ):
        tx.init(PARAMS)


@pytest.mark.parametrize("low, high", [(0.1, 0.1), (1e-3, 0.1), (0.1, 1.0)])
def test_a_base_rate_on_its_bounds_is_within_them(low, high):
    ao.adaptive_scheduler(optax.sgd, 0.1, lr_bounds=(low, high))
