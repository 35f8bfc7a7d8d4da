"""Every rule agrees with its slow twin in plain Python, step by step."""

import functools

import numpy as np
import pytest

from adaptive_optax import rules
from adaptive_optax.law import Law, Settle
from tests.rules import prior_twins, twins
from tests.rules.signal_streams import random_stream, records, run_rule

TWINS = {**vars(twins), **vars(prior_twins)}
CASES = [
    ("trend", {}),
    ("trend", {"up": 1.1, "down": 0.7, "deadzone": 3.0}),
    ("reward", {}),
    ("reward", {"up": 1.3, "down": 0.9, "deadzone": 2.0}),
    ("variance", {}),
    ("variance", {"strength": 0.3, "deadzone": 0.5}),
    ("grad_norm", {}),
    ("grad_norm", {"threshold": 1.0, "strength": 0.2, "up": 1.5}),
    ("cyclical", {"period": 48}),
    ("cyclical", {"amplitude": 2.0, "period": 7, "shape": "sine"}),
    ("plateau", {"patience": 5, "cooldown": 10}),
    ("plateau", {"patience": 1, "cooldown": 0, "rtol": 2.0, "deadzone": 0.0}),
    ("plateau", {"patience": 3, "cooldown": 4, "rtol": 0.0, "atol": 0.1}),
    ("success", {}),
    ("success", {"low": 0.7, "calm": 1.0, "deadzone": 2.0, "rising": 1.0}),
    ("momentum", {"opposed": 2}),
    ("momentum", {"agreement": 0.1, "opposed": 3}),
    ("kick", {"patience": 1}),
    ("kick", {"patience": 2}),
    ("settle", {}),
    ("settle", {"power": 0.5}),
    ("settle", {"trust": 1.5}),
    ("literal", {}),
    ("literal", {"damping": 0.0, "up": 1.5}),
    ("literal", {"control": "momentum", "step": 0.01}),
    ("literal", {"control": "sigma", "calm": 1.2, "low": 0.5}),
]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name, options", CASES)
def test_rule_agrees_with_its_twin(name, options, seed):
    stream = random_stream(seed)
    given = dict(options)
    if name == "settle":
        trust = given.pop("trust", 6.0)
        given = {"law": Law(trust, settle=Settle(**given))}
    deltas, _ = run_rule(getattr(rules, name)(**given), stream)
    twin = functools.partial(TWINS[name], **options)
    expected = np.array(list(twin(records(stream))))
    assert np.count_nonzero(expected) > 0, "the stream never moved this rule"
    np.testing.assert_allclose(deltas, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(deltas == 0.0, np.float32(expected) == 0.0)
