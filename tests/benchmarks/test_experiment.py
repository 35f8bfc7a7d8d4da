"""A cell runs what it says: every rate, instance and seed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import experiment
from benchmarks.contract import EVALUATIONS, Peer, Problem

PLAIN = Peer("plain", lambda inner, rate, horizon: inner(rate))


def toy(**changes) -> Problem:
    """Descend |x|^2 from 1; the metric is the square of the last coordinate."""
    problem = Problem(
        horizon=EVALUATIONS * 2,
        batch_size=0,
        world=lambda key: jax.random.uniform(key),
        init=lambda key, world: jnp.ones(3),
        batch=lambda key, step, world: step,
        loss=lambda params, batch, key: (jnp.sum(params**2) / 2, None),
        metric=lambda params, step, world: params[-1] ** 2,
        metric_name="squared distance",
        floor=1e-9,
    )
    return problem._replace(**changes)


def test_an_experiment_runs_the_recurrence_it_says():
    rates = np.array([[0.1, 0.2], [0.5, 0.3], [0.05, 0.01]])
    curves = experiment.run(toy(), PLAIN, optax.sgd, rates, [4, 5], [0, 1, 2])
    assert curves.last.shape == (3, 2, 3, EVALUATIONS + 1)
    assert curves.learning_rate is None
    steps = 2 * np.arange(EVALUATIONS + 1)
    expected = (1 - rates[..., None, None]) ** (2 * steps)
    np.testing.assert_allclose(
        curves.last, np.broadcast_to(expected, curves.last.shape), rtol=1e-4, atol=1e-30
    )
    np.testing.assert_array_equal(curves.own, curves.last)
    # The average starts with the start and lags behind.
    assert (curves.average[..., 0] == 1.0).all()
    assert (curves.average[0, ..., 3:] > curves.last[0, ..., 3:]).all()


def test_a_world_is_an_instances_own_whatever_the_seed():
    problem = toy(metric=lambda params, step, world: world)
    curves = experiment.run(
        problem, PLAIN, optax.sgd, np.ones((1, 3)), [4, 5, 4], [0, 1]
    )
    first, other, again = curves.last[0, :, :, 0]
    assert (first == again).all() and (first == first[0]).all() and first[0] != other[0]


def test_instances_share_no_initialisation_under_one_seed():
    problem = toy(init=lambda key, world: jnp.full(3, jax.random.normal(key)))
    curves = experiment.run(
        problem, PLAIN, optax.sgd, np.ones((1, 3)), [4, 5, 4], [0, 1]
    )
    first, other, again = curves.last[0, :, :, 0]
    assert (first == again).all()
    assert len({*first, *other}) == 4


def test_a_reward_reaches_the_peer_and_a_bad_batch_ends_no_peer():
    def loss(params, batch, key):
        spoilt = jnp.where(batch == 5, jnp.nan, 2.0)
        return jnp.sum(params**2) / spoilt, jnp.float32(7.0)

    def make(inner, rate, horizon):
        def update(updates, state, params=None, *, value, reward, **rest):
            del params, value, rest
            return updates, reward

        record = optax.GradientTransformationExtraArgs(
            lambda params: jnp.zeros(()), update
        )
        return optax.chain(inner(rate), record)

    peer = Peer("seen", make, trace=lambda state: {"learning_rate": state[1]})
    problem = toy(loss=loss, guarded=True)
    curves = experiment.run(problem, peer, optax.sgd, np.full((1, 1), 0.1), [0], [0])
    assert np.isfinite(curves.last).all()
    assert (curves.learning_rate[0, 0, 0] == [0.0] + [7.0] * EVALUATIONS).all()


def test_accumulated_gradients_are_one_step():
    """Four gradients a step: the rate is used a quarter as often, by their mean."""
    seen = []

    def make(inner, rate, horizon):
        seen.append(horizon)
        return inner(rate)

    problem = toy(horizon=EVALUATIONS * 4, accumulate=4)
    peer = Peer("plain", make)
    curves = experiment.run(problem, peer, optax.sgd, np.full((1, 1), 0.1), [0], [0])
    assert seen == [EVALUATIONS]
    expected = 0.9 ** (2.0 * np.arange(EVALUATIONS + 1))
    np.testing.assert_allclose(curves.last[0, 0, 0], expected, rtol=1e-4)
