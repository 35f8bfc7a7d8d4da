"""Schedule-Free: averaging in the loop in place of a decaying rate.

With z stepped by the inner optimizer without its momentum, x its running mean weighted
by the squared rate, and b = .9::

    y = (1 - b) z + b x,    the gradient is taken at y, and x is evaluated
"""

import functools
import inspect

import optax
from optax import contrib

from benchmarks.contract import Peer
from benchmarks.peers.recording import recorded, trace

MOMENTUM_OFF = {"momentum": None, "b1": 0.0, "beta": 0.0, "adam_b1": 0.0}
"""What the factories call their momentum, and how it is switched off."""


def without_momentum(inner):
    """The same factory with its momentum switched off, as Schedule-Free asks."""
    known = inspect.signature(inner).parameters
    off = {name: value for name, value in MOMENTUM_OFF.items() if name in known}
    return functools.partial(inner, **off)


def _schedule_free(inner, rate, horizon):
    del horizon
    if inner in (optax.adam, optax.adamw):
        # Optax's shortcut saves the first moment, which is 0 throughout.
        decay = inspect.signature(inner).parameters.get("weight_decay")
        tx = contrib.schedule_free_adamw(
            rate, weight_decay=decay.default if decay else 0.0
        )
    else:
        tx = contrib.schedule_free(without_momentum(inner)(rate), rate)
    return recorded(tx, lambda *_: rate)


PEERS = (
    Peer(
        "schedule_free",
        _schedule_free,
        eval_params=lambda state, params: contrib.schedule_free_eval_params(
            state.recorded_inner, params
        ),
        trace=trace,
        source="Defazio et al. 2024 (arXiv 2405.15682); defaults of "
        "optax.contrib.schedule_free, no warm-up",
    ),
)
