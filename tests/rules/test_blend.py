"""Blends: exact fixed weights, weights that follow the evidence, and bad input."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_optax import rules
from adaptive_optax._types import Rule
from adaptive_optax.rules.blend import blend
from tests.rules import twins
from tests.rules.signal_streams import one_step, random_stream, records, run_rule, steps


def says(delta):
    """A rule that always gives the same answer."""
    return Rule(lambda: (), lambda signals, state: (jnp.float32(delta), state))


UP = Rule(lambda: (), lambda s, state: (jnp.where(s.count % 2 == 0, 0.02, 0.0), state))
DOWN = Rule(
    lambda: (), lambda s, state: (jnp.where(s.count % 2 == 1, -0.5, 0.0), state)
)

# What is subnormal is 0 to XLA on a CPU, and below it to NumPy.
answers = st.floats(-5.0, 5.0, width=32, allow_subnormal=False)
base_weights = st.floats(0.0, 100.0, width=32)
members = st.lists(st.tuples(answers, base_weights), min_size=1, max_size=6).filter(
    lambda pairs: any(weight > 1e-3 for _, weight in pairs)
)


def answer_of(pairs, **options):
    law = blend([says(d) for d, _ in pairs], weights=[w for _, w in pairs], **options)
    return float(law.update(one_step(), law.init())[0])


@settings(max_examples=60, deadline=None)
@given(members)
def test_fixed_weights_are_a_convex_mean(pairs):
    delta = answer_of(pairs)
    deltas = [d for d, _ in pairs]
    assert min(deltas) <= delta <= max(deltas)
    total = math.fsum(w for _, w in pairs)
    expected = math.fsum(d * w for d, w in pairs) / total
    assert delta == pytest.approx(expected, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(members, st.randoms(use_true_random=False), st.sampled_from([0.0, 5.0]))
def test_the_order_of_the_rules_does_not_matter(pairs, random, credit):
    mixed = list(pairs)
    random.shuffle(mixed)
    assert answer_of(mixed, credit=credit) == pytest.approx(
        answer_of(pairs, credit=credit), abs=1e-5
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(base_weights, min_size=1, max_size=5).filter(any))
def test_all_holding_is_exactly_zero(weights):
    assert answer_of([(0.0, w) for w in weights]) == 0.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.0, 300.0), st.floats(0.0, 1.0))
def test_learned_weights_stay_on_the_simplex_above_the_floor(seed, credit, floor):
    base = np.array([0.5, 0.3, 0.2])
    law = blend(UP, DOWN, rules.trend(), weights=base, credit=credit, floor=floor)
    _, state = run_rule(law, random_stream(seed, 60))
    weights = np.asarray(state.weights)
    assert weights.sum() == pytest.approx(1.0, abs=1e-5)
    assert (weights >= floor * base - 1e-6).all()
    assert (np.abs(state.blend_credit) <= 1.0).all()


OPTIONS = [
    {},
    {"credit": 10.0},
    {"credit": 100.0, "credit_decay": 0.9, "trace_decay": 0.5, "floor": 0.2},
    {"credit": 3.0, "trace_decay": 0.0, "floor": 0.0},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_agrees_with_its_twin(options):
    stream = random_stream(20)
    law = blend(
        rules.trend(),
        rules.variance(),
        rules.plateau(patience=5, cooldown=5),
        rules.reward(),
        weights=(4, 2, 1, 1),
        **options,
    )
    deltas, state = run_rule(law, stream)
    weights_seen = []
    members = [
        twins.trend,
        twins.variance,
        functools.partial(twins.plateau, patience=5, cooldown=5),
        twins.reward,
    ]
    expected = list(
        twins.blend(
            records(stream),
            members,
            [0.5, 0.25, 0.125, 0.125],
            **options,
            weights_seen=weights_seen,
        )
    )
    np.testing.assert_allclose(deltas, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(state.weights, weights_seen[-1], rtol=0, atol=1e-5)
    moved = np.ptp(weights_seen, axis=0).max()
    assert moved > 0.01 if options else moved == 0.0


def test_three_ways_to_say_the_same():
    a, b = says(1.0), says(0.0)
    laws = [
        blend(a, b, weights=(3, 1)),
        blend([a, b], weights=[3, 1]),
        blend((a, b), weights=np.array([3.0, 1.0])),
        blend({"a": a, "b": b}, weights={"b": 1, "a": 3}),
    ]
    for law in laws:
        assert float(law.update(one_step(), law.init())[0]) == 0.75


def test_one_rule_is_itself():
    law = blend(says(0.1))
    assert law.update(one_step(), law.init())[0] == np.float32(0.1)


def test_a_rule_that_breaks_is_ignored():
    law = blend(says(math.nan), says(0.5))
    assert float(law.update(one_step(), law.init())[0]) == 0.25


def good_or_bad(t, better):
    """Trend z that rises for the ten steps after step t, or falls."""
    z = np.zeros(40)
    z[t : t + 10] = np.linspace(0, 4, 10) * (1 if better else -1)
    return z


# UP speaks on even steps and has most of the weight; here it moves the gain at step 0.
@pytest.mark.parametrize("better", [True, False])
def test_credit_goes_to_the_rule_whose_move_helped(better):
    law = blend(UP, says(-0.01), weights=(0.8, 0.2), credit=20.0)
    stream = steps(10, count=np.zeros(10), loss__trend=good_or_bad(0, better)[:10])
    _, state = run_rule(law, stream)
    up, down = np.asarray(state.weights) - np.asarray(law.init().weights)
    assert (up > 0) == better and (down < 0) == better


def test_a_steady_trend_credits_no_one():
    law = blend(UP, DOWN, credit=100.0)
    _, state = run_rule(law, steps(400, loss__trend=5.0))
    np.testing.assert_allclose(state.weights, 0.5, atol=0.02)


def test_instability_falls_back_to_the_base_weights():
    law = blend(UP, says(-0.01), weights=(0.5, 0.5), credit=50.0, floor=0.0)
    z = good_or_bad(0, better=True)[:10]
    _, calm = run_rule(law, steps(10, count=np.zeros(10), loss__trend=z))
    fields = {"count": np.zeros(10), "loss__trend": z, "loss__variance_ratio": 1e4}
    _, unstable = run_rule(law, steps(10, **fields))
    assert abs(float(calm.weights[0]) - 0.5) > 0.05
    np.testing.assert_allclose(unstable.weights, 0.5, atol=1e-3)


def test_a_restore_starts_the_weights_again():
    law = blend(UP, DOWN, credit=20.0)
    _, state = run_rule(law, random_stream(21, 50, restores=0.0))
    assert not np.array_equal(state.weights, law.init().weights)
    restored = one_step(standing__restored=True, loss__trend=5.0)
    _, after = law.update(restored, state)
    for field in ("weights", "blend_credit", "blend_votes", "blend_trend"):
        np.testing.assert_array_equal(getattr(after, field), getattr(law.init(), field))


def test_fixed_weights_never_move():
    law = blend(UP, DOWN, weights=(2, 1))
    _, state = run_rule(law, random_stream(22, 100))
    np.testing.assert_array_equal(state.weights, law.init().weights)


def test_blends_nest():
    law = blend(blend(says(1.0), says(0.0)), says(0.0), weights=(1, 3))
    assert float(law.update(one_step(), law.init())[0]) == 0.125


def test_huge_credit_stays_finite_with_a_weight_of_zero():
    law = blend(UP, DOWN, says(0.01), weights=(1, 0, 1), credit=1e6)
    deltas, state = run_rule(law, random_stream(23, 200))
    assert np.isfinite(deltas).all() and np.isfinite(state.weights).all()
    assert float(state.weights[1]) == 0.0


def test_huge_base_weights_do_not_overflow():
    law = blend(says(1.0), says(0.0), weights=(1e308, 1e308))
    assert law.init().weights.tolist() == [0.5, 0.5]


def test_weights_may_be_traced():
    def first(weights):
        return blend(UP, DOWN, weights=weights, credit=weights[0]).init().weights

    np.testing.assert_allclose(jax.jit(first)(jnp.array([3.0, 1.0])), [0.75, 0.25])


BAD = [
    ((), {}, ValueError, r"at least one rule, got none; try blend\("),
    (([],), {}, ValueError, "at least one rule"),
    (({},), {}, ValueError, "at least one rule"),
    ((rules.trend,), {}, TypeError, "takes rules, got <function trend"),
    (("trend",), {}, TypeError, "takes rules, got 'trend'"),
    (([UP, 3],), {}, TypeError, r"takes rules, got 3; try blend\("),
    ((UP, DOWN), {"weights": (1,)}, ValueError, r"each of 2 rules, got \(1,\)"),
    ((UP, DOWN), {"weights": 0.5}, ValueError, "each of 2 rules, got 0.5"),
    ((UP, DOWN), {"weights": (1, -2)}, ValueError, r"`weights\[1\]` .* got -2"),
    ((UP, DOWN), {"weights": (math.nan, 1)}, ValueError, r"\[0\]` must be finite"),
    ((UP, DOWN), {"weights": (math.inf, 1)}, ValueError, "finite, got inf"),
    ((UP, DOWN), {"weights": (0, 0)}, ValueError, r"not all be 0, got \(0, 0\)"),
    ((UP, DOWN), {"weights": "ab"}, TypeError, "must be a number, got 'a'"),
    ((UP,), {"weights": {"up": 1}}, ValueError, "'up' but the rules are unnamed"),
    (({"a": UP},), {"weights": {"b": 1}}, ValueError, "'b' but the rules are 'a'"),
    ((UP,), {"credit": -1}, ValueError, "`credit` must lie in .* got -1"),
    ((UP,), {"credit": "on"}, TypeError, "`credit` must be a number, got 'on'"),
    ((UP,), {"credit_decay": 1.0}, ValueError, "`credit_decay` must .* got 1.0"),
    ((UP,), {"trace_decay": -0.1}, ValueError, "`trace_decay` must .* got -0.1"),
    ((UP,), {"floor": 1.5}, ValueError, "`floor` must lie in .* got 1.5"),
]


@pytest.mark.parametrize("members, options, error, message", BAD)
def test_bad_input_is_quoted(members, options, error, message):
    with pytest.raises(error, match=message):
        blend(*members, **options)
