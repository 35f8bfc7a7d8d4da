"""A rule driven by hand: what it answers to signals that are written down."""

import math

import numpy as np

from tests.rules.signal_streams import run_rule, steps


def moves(rule, length=1, state=None, **fields):
    deltas, _ = run_rule(rule, steps(length, **fields), state)
    return deltas


def autocorrelated(seed, length, memory=0.9):
    rng = np.random.default_rng(seed)
    z = np.zeros(length)
    for t, shock in enumerate(rng.normal(size=length)):
        z[t] = memory * z[t - 1] + math.sqrt(1 - memory**2) * shock
    return z
