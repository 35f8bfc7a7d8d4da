"""`rules.alignment`, `rules.settle` and `rules.search` agree with their slow twins."""

import functools
import math

import numpy as np
import pytest

from adaptive_optax import rules
from adaptive_optax.law import Law, Nudge, Search, Settle
from adaptive_optax.rules.search import prior
from tests.rules import prior_twins as twins
from tests.rules.signal_streams import random_stream, records, replaced, run_rule

CASES = {
    "alignment": (rules.alignment(), twins.alignment),
    "alignment, eager": (
        rules.alignment(Law(nudge=Nudge(rate=0.1)), up_evidence=0.5),
        functools.partial(twins.alignment, rate=0.1, up_evidence=0.5),
    ),
    "search": (
        rules.search(law=Law(trust=2.0)),
        functools.partial(twins.search, evidence=2.0),
    ),
    "search, slow": (
        rules.search(law=Law(trust=1.0, search=Search(rate=0.01))),
        functools.partial(twins.search, evidence=1.0, rate=0.01),
    ),
    "prior": (prior(Law(trust=1.0)), functools.partial(twins.prior, strength=1.0)),
}


def with_a_climb(seed):
    """A stream with agreement for a while, so that a climb begins before it ends."""
    stream = random_stream(seed)
    early = np.arange(500) < 90
    return replaced(
        stream,
        alignment__mean=np.where(early, np.float32(0.3), stream.alignment.mean),
        alignment__slow=np.where(early, np.float32(0.3), stream.alignment.slow),
        loss__trend=np.where(early, np.abs(stream.loss.trend), stream.loss.trend),
        standing__log_scale=np.where(early, np.float32(0.5), stream.standing.log_scale),
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", CASES)
def test_the_law_agrees_with_its_twin(name, seed):
    rule, twin = CASES[name]
    stream = with_a_climb(seed)
    deltas, _ = run_rule(rule, stream)
    expected = np.array(list(twin(records(stream))))
    assert (expected > 0).any() and (expected < 0).any()
    np.testing.assert_allclose(deltas, expected, rtol=0, atol=1e-5)


def test_each_condition_of_the_law_decides_somewhere():
    rule, twin = CASES["prior"]
    seen = twins.DEFAULT_LAW
    seen.forget()
    for seed in range(40):
        stream = random_stream(seed) if seed % 2 else with_a_climb(seed)
        if seed > 5:  # counts that begin again, and a search that goes on meanwhile
            t = np.arange(500)
            stream = replaced(
                stream,
                alignment__count=t % 40,
                alignment__mean=np.where(t < 200, 0.05, stream.alignment.mean),
                loss__count=t % 40,
                loss__drop=stream.loss.drop * (1 if seed % 2 else 5),
                loss__trend=np.where(t < 200, 0.0, stream.loss.trend),
                standing__warming=t < 2,
                standing__failures=(t > 10) * (seed % 3),
            )
        deltas, _ = run_rule(rule, stream)
        expected = np.array(list(twin(records(stream))))
        np.testing.assert_allclose(deltas, expected, rtol=0, atol=1e-5)
    assert len(seen.asked) > 40 and seen.asked == seen.decided, (
        seen.asked - seen.decided
    )


def test_infinite_trust_never_moves():
    # Below the trusted coordinate, if only by a rounding, it rose all the same.
    deltas, _ = run_rule(prior(Law(trust=math.inf)), random_stream(3))
    np.testing.assert_array_equal(deltas, 0.0)


BAD = [
    (
        rules.alignment,
        {"law": Law(nudge=Nudge(rate=0.0))},
        ValueError,
        r"`rate` must lie in \(0, .* got 0.0",
    ),
    (rules.alignment, {"up_evidence": -1}, ValueError, "`up_evidence` .* got -1"),
    (
        rules.alignment,
        {"up_evidence": math.nan},
        ValueError,
        "`up_evidence` .* got nan",
    ),
    (rules.alignment, {"up_evidence": "3"}, TypeError, "`up_evidence`.*'3'"),
    (
        rules.settle,
        {"law": Law(settle=Settle(power=-1.0))},
        ValueError,
        r"`power` must lie in .* got -1.0",
    ),
    (
        rules.settle,
        {"law": Law(settle=Settle(power=math.inf))},
        ValueError,
        "`power` must be finite, got inf",
    ),
    (
        rules.settle,
        {"law": Law(settle=Settle(power=None))},
        TypeError,
        "`power` must be a number, got None",
    ),
    (
        rules.settle,
        {"law": Settle(power=1.0)},
        TypeError,
        "`law` must be a Law, got Settle.*try Law.settle=Settle",
    ),
    (rules.alignment, {"law": 0.02}, TypeError, "got 0.02; try Law.trust=3.0"),
    (rules.settle, {"law": Law(trust=-1)}, ValueError, "`law.trust` .* got -1"),
    (
        rules.search,
        {"law": Law(search=Search(rate=-0.1))},
        ValueError,
        "`rate` must lie in .* got -0.1",
    ),
    (rules.search, {"law": Law(trust=-1)}, ValueError, "`law.trust` .* got -1"),
    (rules.search, {"law": Law(trust="6")}, TypeError, "`law.trust`.*'6'"),
    (
        rules.search,
        {"then": rules.trend},
        TypeError,
        "`then` must be a Rule, got <func",
    ),
    (prior, {"law": Law(trust=-1.0)}, ValueError, "got -1.0"),
    (prior, {"law": Law(trust=math.nan)}, ValueError, "got nan"),
]


@pytest.mark.parametrize("make, options, error, message", BAD)
def test_bad_input_is_quoted(make, options, error, message):
    with pytest.raises(error, match=message):
        make(**options)
