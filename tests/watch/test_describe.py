"""A transformation in words."""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest

import adaptive_optax as ao

MATRIX = {"w": jax.ShapeDtypeStruct((512, 512), jnp.float32)}
WORDS = {
    "default": (
        ao.adaptive_scheduler(functools.partial(optax.adamw, weight_decay=0.1), 3e-4),
        [
            "adamw (a factory",
            "0.0003",
            'as mode="nudge"',
            "freezing: off",
            "start: the rate rises over 20",
            "average: kept",
            "means of the loss: over 10 steps, and over 50 (ema_decay=0.9)",
        ],
    ),
    "built, without parts": (
        ao.adaptive_scheduler(optax.sgd(0.1), recovery=False, average=False),
        ["built: its output is scaled", "recovery: off", "average: off"],
    ),
    "all on": (
        ao.adaptive_adam(
            optax.constant_schedule(1e-3),
            momentum_rule=ao.rules.trend(),
            sigma=1e-3,
            freeze_threshold=0.1,
            total_steps=1000,
            recovery=ao.Recovery(dtype=jnp.bfloat16, inner=False),
            ema_decay=0.98,
        ),
        [
            "a schedule, which the loop multiplies",
            "the last 30% of 1000 steps",
            "momentum: from 0.9, moved by a rule",
            "dither: from sigma 0.001",
            "below 0.1 (absolute)",
            "the last good parameters in bfloat16",
            "over 50 steps, and over 250 (ema_decay=0.98)",
        ],
    ),
    "parts of the law off": (
        ao.adaptive_scheduler(
            optax.sgd, 0.1, law=ao.Law(skip=None, audit=None, search=None)
        ),
        ["start: not audited", "nudge, then settle", "batches: none is skipped but"],
    ),
    "a stream": (
        ao.online_sgd(0.1),
        ["counts by its norm, up to 1.5 deviations", "batches: none", "average: off"],
    ),
    "own rule": (
        ao.adaptive_scheduler(optax.sgd, 0.1, rule=ao.rules.trend()),
        ["one of your own"],
    ),
    "safe": (ao.restore_on_divergence(optax.sgd(0.1)), ["safe, it is lowered only"]),
    "observe": (
        ao.adaptive_scheduler(optax.sgd, 0.1, mode="observe"),
        ["the law only watches", "plain optimizer's"],
    ),
    "an axis": (
        ao.adaptive_scheduler(optax.sgd, 0.1, axis_name="data"),
        ["averaged over data"],
    ),
}


@pytest.mark.parametrize("name", WORDS)
def test_what_is_on_and_off_is_said(name):
    tx, words = WORDS[name]
    told = ao.describe(tx)
    for word in words:
        assert word in told


def test_the_memory_is_that_of_the_parameters():
    told = ao.describe(WORDS["default"][0], MATRIX).splitlines()[-1]
    assert told.startswith("memory in bytes a parameter: inner 8, ")
    assert "copy 12" in told


@pytest.mark.parametrize(
    "other",
    [optax.adam(0.1), optax.chain(ao.adaptive_sgd(0.1)), ao.add_dither(0.1), None],
    ids=["adam", "chain", "part", "None"],
)
def test_others_are_refused(other):
    with pytest.raises(TypeError, match="what adaptive_scheduler made.*ao.describe"):
        ao.describe(other)


def test_a_traced_rate_is_said_to_be_one():
    said = []

    @jax.jit
    def build(rate, trust):
        tx = ao.adaptive_scheduler(optax.sgd, rate, mode=trust)
        said.append(ao.describe(tx))
        return rate

    build(0.1, 3.0)
    assert "base rate: a traced number" in said[0]
