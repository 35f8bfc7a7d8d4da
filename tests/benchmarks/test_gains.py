"""The benchmark of the mechanisms: its works, its runs and its intervals."""

import jax
import numpy as np
import pytest

from benchmarks.gains import arms, command, train, work

WORKS = {**work.LONGER_MEMORY, **work.SADDLES, **work.MINIBATCHES}


@pytest.mark.parametrize("name", WORKS)
def test_a_work_is_what_it_says(name):
    one = WORKS[name]()
    key = jax.random.key(0)

    def first(key):
        params = one.init(key)
        return (
            one.metric(params),
            jax.grad(one.loss)(params, key),
            one.loss(params, jax.random.key(1)),
        )

    metric, grads, loss = jax.jit(first)(key)
    assert np.isfinite(metric) and np.isfinite(loss) and metric > one.floor
    if "zero" in name:
        assert not any(np.any(np.asarray(g)) for g in jax.tree.leaves(grads))


def test_finals_are_ratios_of_the_same_runs():
    one = work.bowl(10.0, 30)
    found = train.finals(one, "sgd", {}, momenta=(0.0, 0.9), seeds=3)
    again = train.finals(one, "sgd", {"momentum_rule": None}, momenta=(0.9,), seeds=3)
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found[1], again[0], rtol=1e-5)


def test_the_interval_is_of_the_mean_over_seeds():
    logs = np.log(np.array([[0.5, 0.5, 0.5], [2.0, 2.0, 2.0]]))
    same = command.ratio(logs)
    assert (same.value, same.low, same.high) == pytest.approx((1.0, 1.0, 1.0))
    apart = command.ratio(np.log(np.array([0.5, 1.0, 2.0])))
    assert apart.low < 1.0 < apart.high


def test_every_study_has_a_run_without():
    for study in arms.STUDIES:
        assert study.arms[arms.WITHOUT] == {}
        assert len(study.arms) > 1
