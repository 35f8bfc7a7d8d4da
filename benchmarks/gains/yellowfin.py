"""YellowFin: momentum and rate of SGD from the curvatures that the gradients show.

With g the gradient and E a debiased mean over some 1 / (1 - beta) steps::

    h_max, h_min   exp E log of the largest and smallest |g|^2 of the last 20 steps
    C              E |g|^2 - |E g|^2, the variance of the gradient
    D              E (E |g| / E |g|^2), the distance to the optimum
    mu, alpha      of least mu D^2 + alpha^2 C, where alpha = (1 - sqrt mu)^2 / h_min
                   and sqrt mu >= (sqrt(h_max / h_min) - 1) / (sqrt(h_max / h_min) + 1)
    v             <- mu v - f min(1, (t + 1) / 200) alpha g

f is a factor on its own rate, 1 for the method as published.

The closed loop of the paper corrects mu by the difference between it and the momentum
that the steps show. Only stale gradients make such a difference, and here none is
stale: in these runs the closed loop is the open one.

Zhang and Mitliagkas, YellowFin and the art of momentum tuning, 2019, algorithms 1 to 4,
with the limits on exploding gradients of section 3.3. As in the authors' program, mu
and alpha are not smoothed once more after the means that they come from, and the
gradient that is measured is limited to ten times what the step may take.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

WINDOW = 20
SLOW_START = 10 * WINDOW
MEASURED = 10.0  # what is measured, in multiples of the limit on the step
TINY = 1e-12


class YellowFinState(NamedTuple):
    """State of `yellowfin`."""

    yellowfin_count: jax.Array  # i32[]
    window: jax.Array  # f32[20] latest |g|^2, NaN where there is none yet
    means: dict[str, jax.Array]  # f32[] each, before debiasing
    mean_gradient: Any  # like the parameters, before debiasing
    velocity: Any  # like the parameters
    yellowfin_momentum: jax.Array  # f32[] mu of the last step
    yellowfin_rate: jax.Array  # f32[] alpha of the last step, with f and slow start


def single_step(
    h_max: jax.Array, h_min: jax.Array, variance: jax.Array, distance: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(mu, alpha) of the least expected square distance after one step.

    Without the bound x = sqrt(mu) solves p x = (1 - x)^3, p = D^2 h_min^2 / 2 C. The
    formula of Cardano gives it; two steps of Newton repair what float32 loses there.

    Args:
      h_max: Largest curvature, >= h_min.
      h_min: Smallest curvature, > 0.
      variance: C, >= 0.
      distance: D, >= 0.
    """
    p = (distance * h_min) ** 2 / (2 * jnp.maximum(variance, TINY))
    p = jnp.clip(p, TINY, 1 / TINY)
    root = jnp.cbrt(-p * (1 + jnp.sqrt(1 + 4 / 27 * p)) / 2)
    x = jnp.clip(root - p / (3 * root) + 1, 0.0, 1.0)
    for _ in range(2):
        x -= (p * x - (1 - x) ** 3) / (p + 3 * (1 - x) ** 2)
    ratio = jnp.sqrt(jnp.maximum(h_max / h_min, 1.0))
    x = jnp.maximum(jnp.clip(x, 0.0, 1.0), (ratio - 1) / (ratio + 1))
    return x**2, (1 - x) ** 2 / h_min


def yellowfin(
    factor: float | jax.Array = 1.0, beta: float = 0.999
) -> optax.GradientTransformation:
    """SGD that sets its own rate and momentum.

    Args:
      factor: On its own rate, > 0.
      beta: Decay of all its means, in (0, 1).
    """

    def init(params):
        zero = jnp.zeros((), jnp.float32)
        names = ("log_max", "log_min", "norm", "square", "distance")
        return YellowFinState(
            yellowfin_count=jnp.zeros((), jnp.int32),
            window=jnp.full(WINDOW, jnp.nan, jnp.float32),
            means=dict.fromkeys(names, zero),
            mean_gradient=jax.tree.map(jnp.zeros_like, params),
            velocity=jax.tree.map(jnp.zeros_like, params),
            yellowfin_momentum=zero,
            yellowfin_rate=zero,
        )

    def update(grads, state, params=None):
        del params
        count, old = state.yellowfin_count, state.means
        weight = 1 - beta ** (count + 1.0)
        before = jnp.where(count > 0, 1 - beta ** (1.0 * count), 1.0)
        limit = jnp.where(count > 0, jnp.exp(old["log_max"] / before / 2), jnp.inf)
        grads, norm = _limited(grads, MEASURED * limit)
        window = state.window.at[count % WINDOW].set(norm**2)

        def mean(name, value):
            return beta * old[name] + (1 - beta) * value

        means = {
            "log_max": mean("log_max", jnp.log(jnp.nanmax(window) + TINY)),
            "log_min": mean("log_min", jnp.log(jnp.nanmin(window) + TINY)),
            "norm": mean("norm", norm),
            "square": mean("square", norm**2),
        }
        distance = means["norm"] / (means["square"] + TINY)
        means["distance"] = mean("distance", distance)
        gradient = optax.tree.update_moment(grads, state.mean_gradient, beta, 1)
        level = optax.tree.norm(gradient, squared=True) / weight**2
        mu, alpha = single_step(
            jnp.exp(means["log_max"] / weight),
            jnp.exp(means["log_min"] / weight),
            jnp.maximum(means["square"] / weight - level, 0.0),
            means["distance"] / weight,
        )
        rate = factor * jnp.minimum(1.0, (count + 1) / SLOW_START) * alpha
        taken, _ = _limited(grads, limit)
        velocity = jax.tree.map(lambda v, g: mu * v - rate * g, state.velocity, taken)
        return velocity, YellowFinState(
            count + 1, window, means, gradient, velocity, mu, rate
        )

    return optax.GradientTransformation(init, update)


def _limited(grads: Any, limit: jax.Array) -> tuple[Any, jax.Array]:
    """Gradients of a norm of at most ``limit``, and that norm."""
    norm = optax.tree.norm(grads)
    share = jnp.where(norm > limit, limit / (norm + TINY), 1.0)
    return jax.tree.map(lambda g: share * g, grads), share * norm
