"""Do weights that shift beat every rule, and every fixed blend of them?

A linear regression, one row a step. For 500 steps its target drifts and there is little
noise, so that a high rate is good; for the next 500 the target rests and there is much
noise, so that a low one is. A rule that is good in one phase is bad in the other.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adaptive_optax as ao
from adaptive_optax._types import Rule
from benchmarks import markdown

SIZE, STEPS, PHASE, SEEDS = 20, 3000, 500, 8
RATES = (0.003, 0.01, 0.03)
CREDITS = (3.0, 10.0, 30.0)


def rules() -> dict[str, Rule]:
    """The rules, and their blends: with fixed weights, and with shifting ones."""
    members = {
        "alignment": ao.rules.alignment(),
        "settle": ao.rules.settle(),
        "variance": ao.rules.variance(),
        "cyclical": ao.rules.cyclical(period=200),
    }
    return {
        "held": ao.rules.cyclical(amplitude=0.0),
        **members,
        "blend": ao.blend(members),
        **{f"credit {c:g}": ao.blend(members, credit=c) for c in CREDITS},
    }


def error(rule: Rule, rate: jax.Array, key: jax.Array) -> jax.Array:
    """Mean squared distance from the target over the run, halved."""
    tx = optax.chain(optax.sgd(rate), ao.scale_by_rule(rule, bounds=(1e-3, 1e3)))

    def step(carry, t):
        x, state, target = carry
        drift, row, noise = jax.random.split(jax.random.fold_in(key, t), 3)
        drifts = (t // PHASE) % 2 == 0
        moved = jax.random.normal(drift, (SIZE,))
        target = target + jnp.where(drifts, 0.1, 0.0) * moved
        a = jax.random.normal(row, (SIZE,))
        y = a @ target + jnp.where(drifts, 0.1, 3.0) * jax.random.normal(noise)
        loss, grads = jax.value_and_grad(lambda x: 0.5 * (a @ x - y) ** 2)(x)
        updates, state = tx.update(grads, state, x, value=loss)
        far = 0.5 * jnp.sum((x - target) ** 2)
        return (optax.apply_updates(x, updates), state, target), far

    start = jnp.zeros(SIZE)
    carry = start, tx.init(start), start
    return jnp.mean(jax.lax.scan(step, carry, jnp.arange(STEPS))[1][100:])


def stream() -> None:
    """Print the error of each rule and blend at three base rates."""
    rates = jnp.asarray(RATES, jnp.float32)
    keys = jax.random.split(jax.random.key(0), SEEDS)
    rows = []
    for name, rule in rules().items():
        one = jax.vmap(lambda rate, key, rule=rule: error(rule, rate, key), (None, 0))
        found = np.asarray(jax.jit(jax.vmap(one, (0, None)))(rates, keys))
        rows.append((name, *(f"{x:.3g}" for x in np.median(found, axis=1))))
    print(markdown.table(("rule", *(f"rate {rate:g}" for rate in RATES)), rows))
