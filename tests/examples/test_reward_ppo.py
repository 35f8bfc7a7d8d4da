import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("tyro")

from examples import reward_ppo  # noqa: E402
from examples.reward_ppo import DISCOUNT, LAMBDA, Config  # noqa: E402

SMALL = Config(
    rates=(1.0,),
    seeds=2,
    updates=3,
    episodes=4,
    epochs=2,
    batches=2,
    length=20,
    goal=12.0,
    width=4,
)


def test_a_small_run_prints(capsys):
    medians = reward_ppo.main(SMALL)
    assert set(medians) == {(1.0, arm) for arm in reward_ppo.ARMS}
    assert medians[1.0, "constant"] <= 12  # a goal that chance reaches
    assert capsys.readouterr().out.count("median") == 2


def test_advantages_are_the_sum_of_what_surprises():
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 3, 6))
    alive = np.arange(6) < np.array([[6], [4], [1]])
    found = reward_ppo.advantages(*map(jnp.asarray, (rewards, values, alive)))
    for episode, length in enumerate((6, 4, 1)):
        later = np.append(values[episode, 1:length], 0.0)
        surprise = (1 - DISCOUNT) * rewards[episode, :length]
        surprise += DISCOUNT * later - values[episode, :length]
        for t in range(length):
            weights = (DISCOUNT * LAMBDA) ** np.arange(length - t)
            assert found[episode, t] == pytest.approx(weights @ surprise[t:], rel=1e-4)
    assert not np.any(found[~alive])


def test_each_epoch_goes_once_over_every_step():
    shape = SMALL.episodes, SMALL.length
    numbered = jnp.arange(shape[0] * shape[1], dtype=jnp.float32).reshape(shape)
    seen = jnp.stack([numbered, jnp.zeros(shape)], -1)
    params = {
        name: reward_ppo.network(jax.random.key(0), 2, 4, outputs)
        for name, outputs in (("policy", 2), ("value", 1))
    }
    episodes = seen, jnp.zeros(shape, int), numbered, jnp.ones(shape, bool)
    (taken, *_) = reward_ppo.batches_of(SMALL, params, episodes, jax.random.key(1))
    assert taken.shape == (4, 40, 2)
    for epoch in (taken[:2], taken[2:]):
        np.testing.assert_array_equal(np.sort(epoch[..., 0].ravel()), numbered.ravel())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Config(epochs=0), "--epochs must be at least 1, got 0"),
        (Config(rates=(0.0,)), "--rates must be positive, got 0.0"),
        (Config(mode="foo"), "--mode must be nudge, search or safe, got 'foo'"),
        (Config(episodes=1, length=2), "--batches 4 exceeds the 2 steps"),
    ],
)
def test_bad_settings(config, message):
    with pytest.raises(ValueError, match=message):
        reward_ppo.main(config)
