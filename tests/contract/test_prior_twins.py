"""`rules.alignment` and `rules.search` agree with slow twins that read like them."""

import functools
import math

import numpy as np
import pytest

from adaptive_optax import rules
from adaptive_optax.rules.search import prior
from tests.rules.signal_streams import random_stream, records, run_rule


def alignment(steps, rate=0.02, up_evidence=3.0, down_evidence=1.0, down_trend=-1.0):
    for s in steps:
        votes = s.has_alignment and s.alignment_count > 3
        if not votes or s.auditing or s.restored:
            yield 0.0
            continue
        needed = min(up_evidence, 1) if s.coordinate < s.trusted else up_evidence
        pace = 0.1 * rate if s.coordinate > s.ceiling else rate
        z_up = (s.alignment_slow - 0.01) / s.alignment_slow_sem
        z_down = (-0.03 - s.alignment_mean) / s.alignment_sem
        up = down = 0.0
        if z_up > needed and s.alignment_mean > 0.01:
            up = pace * min(z_up / 2, 1)
        if z_down > down_evidence and s.loss_trend < down_trend:
            down = rate * min(z_down / 2, 1)
        yield up - down


def search(steps, then=alignment, evidence=6.0, rate=0.06):
    steps = list(steps)
    searching, quiet, lagged, proven = True, 0, 0.0, 0.0
    for s, nudge in zip(steps, list(then(steps)), strict=True):
        m = s.coordinate
        quiet = 0 if s.auditing else quiet + 1
        waiting = searching and (s.auditing or (quiet < 20 and s.failures == 0))
        if (s.has_value and s.loss_trend > 1) or s.restored:
            proven_next = m
        else:
            proven_next = proven
        ready = searching and not waiting and s.has_alignment and s.alignment_count > 5
        delta = 0.0
        if not searching:
            delta = nudge
        elif ready and (s.alignment_mean < -s.alignment_sem or s.loss_trend < -4):
            back = max(min(lagged, m), m - 15 * rate)
            landing = min(max(s.trusted, back - 1.2), back)
            delta, searching = landing - m, False
        elif ready and s.alignment_slow - 0.01 > evidence * s.alignment_slow_sem:
            delta = rate
        if m >= proven_next + 2.3:
            delta = min(delta, 0.0)
        if waiting or s.restored:
            delta = 0.0
        proven = proven_next
        lagged = m if s.restored else lagged + (m + delta - lagged) / 15
        yield delta


def nudge_after(up_evidence):
    return functools.partial(alignment, up_evidence=up_evidence)


CASES = {
    "alignment": (rules.alignment(), alignment),
    "alignment, eager": (
        rules.alignment(rate=0.1, up_evidence=0.5, down_evidence=0.0, down_trend=1.0),
        functools.partial(
            alignment, rate=0.1, up_evidence=0.5, down_evidence=0.0, down_trend=1.0
        ),
    ),
    "search": (rules.search(evidence=2.0), functools.partial(search, evidence=2.0)),
    "search, slow": (
        rules.search(evidence=1.0, rate=0.01),
        functools.partial(search, evidence=1.0, rate=0.01),
    ),
    "prior": (
        prior(1.0),
        functools.partial(search, evidence=1.0, then=nudge_after(0.5)),
    ),
}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", CASES)
def test_the_law_agrees_with_its_twin(name, seed):
    rule, twin = CASES[name]
    stream = random_stream(seed)
    # Agreement for a while, so that a climb begins before it is called off.
    early = np.arange(500) < 90
    stream = stream._replace(
        ceiling=stream.coordinate + np.float32(np.where(early, np.inf, -0.1)),
        alignment_mean=np.where(early, np.float32(0.3), stream.alignment_mean),
        alignment_slow=np.where(early, np.float32(0.3), stream.alignment_slow),
        loss_trend=np.where(early, np.abs(stream.loss_trend), stream.loss_trend),
        coordinate=np.where(early, np.float32(0.5), stream.coordinate),
    )
    deltas, _ = run_rule(rule, stream)
    expected = np.array(list(twin(records(stream))))
    assert (expected > 0).any() and (expected < 0).any()
    np.testing.assert_allclose(deltas, expected, rtol=0, atol=1e-5)


def test_infinite_trust_never_moves():
    # Below the trusted coordinate, if only by a rounding, it rose all the same.
    deltas, _ = run_rule(prior(math.inf), random_stream(3))
    np.testing.assert_array_equal(deltas, 0.0)


BAD = [
    (rules.alignment, {"rate": 0.0}, ValueError, r"`rate` must lie in \(0, .* got 0.0"),
    (rules.alignment, {"up_evidence": -1}, ValueError, "`up_evidence` .* got -1"),
    (
        rules.alignment,
        {"up_evidence": math.nan},
        ValueError,
        "`up_evidence` .* got nan",
    ),
    (rules.alignment, {"down_evidence": -2}, ValueError, "`down_evidence` .* got -2"),
    (rules.alignment, {"up_evidence": "3"}, TypeError, "`up_evidence`.*'3'"),
    (rules.search, {"rate": -0.1}, ValueError, "`rate` must lie in .* got -0.1"),
    (rules.search, {"evidence": -1}, ValueError, "`evidence` .* got -1"),
    (rules.search, {"evidence": "6"}, TypeError, "`evidence`.*'6'"),
    (
        rules.search,
        {"then": rules.trend},
        TypeError,
        "`then` must be a Rule, got <func",
    ),
    (prior, {"strength": -1.0}, ValueError, "got -1.0"),
    (prior, {"strength": math.nan}, ValueError, "got nan"),
]


@pytest.mark.parametrize("make, options, error, message", BAD)
def test_bad_input_is_quoted(make, options, error, message):
    with pytest.raises(error, match=message):
        make(**options)
