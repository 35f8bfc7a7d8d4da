"""Bad input is quoted, with the call that is right."""

import math

import jax.numpy as jnp
import optax
import pytest

import adaptive_optax as ao
from tests.helpers import always
from tests.loop.running import PARAMS


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
    (
        {"mode": "fast"},
        ValueError,
        "`mode` .* 'nudge', 'search', 'safe', 'observe', got 'fast'",
    ),
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
    ({"sigma_rule": "x", "sigma": 1e-3}, ValueError, "`sigma_rule` must be .* got 'x'"),
    (
        {"momentum_coordinate": "logit"},
        ValueError,
        "`momentum_coordinate` must be one of 'horizon', 'linear', got 'logit'",
    ),
    ({"dither_scale": "rms"}, ValueError, "`dither_scale` must be .* got 'rms'"),
    (
        {"dither_distribution": "normal"},
        ValueError,
        "`dither_distribution` must be one of 'gaussian', 'rademacher', got 'normal'",
    ),
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
        r"`learning_rate\(0\)` must lie in \[0, inf\), got -0.1",
    ),
    ({"recovery": "yes"}, TypeError, "True, False or a Recovery, got 'yes'"),
    ({"average": 10}, TypeError, "`average` must be True or False, got 10"),
    (
        {"recovery": ao.Recovery(dtype=jnp.int8)},
        ValueError,
        "floating-point dtype, got .*int8",
    ),
    (
        {"recovery": ao.Recovery("pinned_host")},
        ValueError,
        "floating-point dtype, got 'pinned_host'; try recovery=ao.Recovery.dtype=",
    ),
    ({"recovery": ao.Recovery(inner=0)}, TypeError, "`recovery.inner` must be True"),
    (
        {"recovery": ao.Recovery(memory="host")},
        ValueError,
        "one of 'device', 'pinned_host', got 'host'; try recovery=ao.Recovery.memory=",
    ),
    ({"total_steps": 1e4}, TypeError, "`total_steps` must be an integer, got 10000.0"),
    ({"ema_decay": 1.0}, ValueError, r"`ema_decay` must lie in \(0, 1\), got 1.0"),
    ({"ema_decay": 0.0}, ValueError, r"`ema_decay` .* got 0.0; try ema_decay=0.9"),
    ({"ema_decay": "fast"}, TypeError, "`ema_decay` must be a number, got 'fast'"),
    ({"ema_decay": jnp.float32(0.9)}, TypeError, "`ema_decay` must be known before"),
    (
        {"law": ao.Law(ema_decay=10)},
        ValueError,
        r"`law.ema_decay` must lie in \(0, 1\), got 10; try ao.Law\(ema_decay=0.9\)",
    ),
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
    ({"law": {"skip": None}}, TypeError, "`law` must be a Law, got .*'skip'"),
    (
        {"law": ao.Law(), "mode": "search"},
        ValueError,
        "`mode`='search' and `law` both say .*law=ao.Law.trust=3.0",
    ),
    (
        {"law": ao.Law(trial=False)},
        TypeError,
        "`law.trial` must be a Trial, or None to",
    ),
    ({"law": ao.Law(skip=ao.law.Trial())}, TypeError, "`law.skip` must be a Skip"),
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
