"""Control laws, one a file. Each answers a step's signals with a change of one gain."""

from adaptive_optax.rules.alignment import alignment
from adaptive_optax.rules.cyclical import cyclical
from adaptive_optax.rules.grad_norm import grad_norm
from adaptive_optax.rules.kick import kick
from adaptive_optax.rules.literal import literal
from adaptive_optax.rules.momentum import momentum
from adaptive_optax.rules.plateau import plateau
from adaptive_optax.rules.reward import reward
from adaptive_optax.rules.search import search
from adaptive_optax.rules.settle import settle
from adaptive_optax.rules.success import success
from adaptive_optax.rules.trend import trend
from adaptive_optax.rules.variance import variance

__all__ = [
    "alignment",
    "cyclical",
    "grad_norm",
    "kick",
    "literal",
    "momentum",
    "plateau",
    "reward",
    "search",
    "settle",
    "success",
    "trend",
    "variance",
]
