"""Learning-rate free: the scale comes from distances, gradients or the loss itself.

With x the parameters, x0 the first, g the gradient, D = max |x - x0| so far, and f a
factor (1 is the method as its authors left it)::

    prodigy      Adam at f d, d = max of sum w <g, x0 - x> / |sum w g|_1
    .._linear    the same at f d (1 - t), t the share of the horizon that has passed
    dadapt       Adam at f d, a lower bound on |x0 - x*| of the same kind
    dog          f D / sqrt(sum |g|^2)
    dowg         f D^2 / sqrt(sum D^2 |g|^2)
    cocob        a bet per coordinate, at first f/alpha of the wealth
    momo         momentum at min(f r, (averaged loss - 0 + ...) / |averaged g|^2)
    momo_adam    likewise, in Adam's metric
    mechanic     s times the summed updates of the inner optimizer at rate f, s learnt
    .._cosine    the same, its inner optimizer at f times a cosine with warm-up

All but Mechanic replace the inner optimizer, so the rate that suits it says nothing to
them. That holds of MoMo's cap r as well, hence a factor of its own default there too.
Mechanic starts from s = 1e-6 and asks for a rate of 1: at Adam's 1e-3 its first steps
are lost in float32 beside parameters of order 1, and s never grows.
"""

import jax.numpy as jnp
import optax
from optax import contrib

from benchmarks.contract import Peer
from benchmarks.peers.recording import recorded, trace
from benchmarks.peers.schedules import cosine_shape, linear_shape

COCOB_ALPHA = 100.0
DOG_EPS, DOWG_EPS = 1e-8, 1e-4  # Optax's defaults; the recorded rate needs them


def _scheduled(rate, shape, horizon):
    """What the optimizer is handed, and the rate at a step; shape None: constant."""
    if shape is None:
        return rate, lambda count: rate
    height = shape(horizon)

    def schedule(count):
        return rate * height(count)

    return schedule, schedule


def _estimated(factory, shape=None):
    """Adam at the distance that `optax.contrib.prodigy` or `dadapt_adamw` estimates."""

    def make(inner, rate, horizon):
        del inner
        given, at = _scheduled(rate, shape, horizon)
        tx = factory(learning_rate=given)
        return recorded(tx, lambda state, count: at(count) * state.estim_lr)

    return make


def _dog(inner, rate, horizon):
    del inner, horizon

    def now(state, _):
        dog = state[1]
        return rate * dog.max_dist / jnp.sqrt(dog.sum_sq_norm_grads + DOG_EPS)

    return recorded(contrib.dog(learning_rate=rate, eps=DOG_EPS), now)


def _dowg(inner, rate, horizon):
    del inner, horizon

    def now(state, _):
        dowg = state[1]
        root = jnp.sqrt(dowg.weighted_sq_norm_grads)
        return rate * dowg.estim_sq_dist / (root + DOWG_EPS)

    return recorded(contrib.dowg(learning_rate=rate, eps=DOWG_EPS), now)


def _cocob(inner, rate, horizon):
    del inner, horizon
    # Bets do not change with the gradient's scale, which is what `learning_rate`
    # would multiply there; alpha divides the first ones.
    return optax.with_extra_args_support(contrib.cocob(alpha=COCOB_ALPHA / rate))


def _polyak(factory, own_rate):
    def make(inner, rate, horizon):
        del inner, horizon
        return factory(learning_rate=own_rate * rate)

    return make


def _mechanic(shape=None):
    def make(inner, rate, horizon):
        # The base rate that its documentation asks for is 1, times the factor.
        given, at = _scheduled(rate, shape, horizon)
        tx = contrib.mechanize(inner(given))
        return recorded(tx, lambda state, count: at(count) * jnp.sum(state.s))

    return make


PEERS = (
    Peer(
        "prodigy",
        _estimated(contrib.prodigy),
        free=True,
        own_optimizer=True,
        trace=trace,
        source="Mishchenko, Defazio 2023 (arXiv 2306.06101); Optax's defaults",
    ),
    Peer(
        "prodigy_linear",
        _estimated(contrib.prodigy, linear_shape),
        free=True,
        knows_horizon=True,
        own_optimizer=True,
        trace=trace,
        source="as prodigy, with the linear decay from 1 to 0 that the documentation "
        "of optax.contrib.prodigy recommends; of its 0 to 20 % of warm-up, none",
    ),
    Peer(
        "dadapt",
        _estimated(contrib.dadapt_adamw),
        free=True,
        own_optimizer=True,
        trace=trace,
        source="Defazio, Mishchenko 2023 (arXiv 2301.07733); Optax's defaults",
    ),
    Peer(
        "dog",
        _dog,
        free=True,
        own_optimizer=True,
        trace=trace,
        source="Ivgi et al. 2023 (arXiv 2302.12022); defaults of optax.contrib.dog",
    ),
    Peer(
        "dowg",
        _dowg,
        free=True,
        own_optimizer=True,
        trace=trace,
        source="Khaled et al. 2023 (arXiv 2305.16284); defaults of optax.contrib.dowg",
    ),
    Peer(
        "cocob",
        _cocob,
        free=True,
        own_optimizer=True,
        source="Orabona, Tommasi 2017 (arXiv 1705.07795); alpha 100 as in Optax",
    ),
    Peer(
        "momo",
        _polyak(contrib.momo, 1.0),
        free=True,
        own_optimizer=True,
        source="Schaipp et al. 2023 (arXiv 2305.07583); rate 1, momentum .9 and lower "
        "bound 0 as in optax.contrib.momo",
    ),
    Peer(
        "momo_adam",
        _polyak(contrib.momo_adam, 1e-2),
        free=True,
        own_optimizer=True,
        source="as momo; rate .01 as in optax.contrib.momo_adam",
    ),
    Peer(
        "mechanic",
        _mechanic(),
        free=True,
        trace=trace,
        source="Cutkosky et al. 2023 (arXiv 2306.00144); defaults and base rate 1 of "
        "optax.contrib.mechanize",
    ),
    Peer(
        "mechanic_cosine",
        _mechanic(cosine_shape),
        free=True,
        knows_horizon=True,
        trace=trace,
        source="as mechanic, around the warm-up and cosine with peak 1 that the "
        "documentation of optax.contrib.mechanize shows; 5 % warm-up as cosine",
    ),
)
