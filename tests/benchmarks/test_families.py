"""The judge's families: the registry, the contract, and what each claims to be."""

import collections
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import families
from benchmarks.contract import EVALUATIONS, Shape
from benchmarks.families import _data, bandit, cartpole, conv, shift, transformer
from benchmarks.peers.inner import OPTIMIZERS
from tests.helpers import few

# One of each kind: one batch for all steps, minibatches, a large model, a reward, and a
# stream that changes.
KINDS = ("quadratic", "label_noise", "transformer", "bandit", "shift")


def test_every_file_is_a_family():
    folder = pathlib.Path(families.__file__).parent
    files = {path.stem for path in folder.glob("[a-z]*.py")}
    assert files == set(families.NAMES)


def test_a_name_says_how_it_was_drawn():
    assert families.draws(7, 2, ("conv", "vae")) == (
        "conv@7.0", "conv@7.1", "vae@7.0", "vae@7.1",
    )  # fmt: skip
    assert families.parsed("conv@7.1") == ("conv", 7, 1)
    assert families.get("quadratic@7.1") is families.get("quadratic@7.1")
    for wrong in ("quadratic", "quadratic@", "quadratic@1", "quadratic@-1.0"):
        with pytest.raises(ValueError, match="named family@seed.index"):
            families.get(wrong)
    with pytest.raises(ValueError, match="'quadratik'.*Did you mean 'quadratic'"):
        families.get("quadratik@0.0")


def test_another_seed_draws_other_shapes_and_worlds():
    drawn = {str(families.get(f"quadratic@{seed}.0").shape) for seed in range(12)}
    assert len(drawn) > 3
    first, second = families.instances("quadratic@1.0", 2)
    assert first != second
    assert families.instances("quadratic@2.0", 2) != (first, second)


def test_optimizers_are_dealt_in_proportion_of_their_use():
    counted = collections.Counter(
        name for seed in range(40) for name in families.dealt(seed, 0).values()
    )
    for name, share in families.USE.items():
        assert counted[name] / counted.total() == pytest.approx(share, abs=0.03), name
    for seed in range(5):
        for name, optimizer in families.dealt(seed, 1).items():
            uses = families.family(name).optimizers or tuple(families.USE)
            assert optimizer in uses and optimizer in OPTIMIZERS


def test_trades_are_those_of_the_design():
    trades = collections.Counter(families.family(name).trade for name in families.NAMES)
    assert len(trades) == 16 and max(trades.values()) <= 3


def test_a_horizon_that_cannot_be_evaluated_is_refused(monkeypatch):
    family = families.family("quadratic")

    def build(shape: Shape):
        return family.build(shape)._replace(horizon=EVALUATIONS * 8 + 1)

    monkeypatch.setattr(families, "family", lambda name: family._replace(build=build))
    with pytest.raises(RuntimeError, match="horizon of 'quadratic@3.0', 81"):
        families.get.__wrapped__("quadratic@3.0")


def equal(one, other) -> bool:
    return all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


@pytest.mark.parametrize("name", few(families.NAMES, KINDS))
def test_a_problem_keeps_the_contract(name):
    """Two worlds and seeds: everything is finite, and the same when drawn again."""
    problem = families.get(f"{name}@1.0").problem
    keys = jax.random.split(jax.random.key(0))

    @jax.jit
    @jax.vmap
    def begin(world_key, key):
        world = problem.world(world_key)
        params = problem.init(key, world)
        batches = [problem.batch(key, jnp.int32(step), world) for step in (0, 0, 1)]
        gradient = jax.value_and_grad(problem.loss, has_aux=True)
        found = gradient(params, batches[0], key)
        return params, batches, found, problem.metric(params, jnp.int32(0), world)

    params, (batch, again, after), found, metric = begin(keys, keys)
    (loss, reward), grads = found
    for leaf in jax.tree.leaves((params, grads)):
        assert leaf.dtype == jnp.float32
        assert np.isfinite(leaf).all()
    assert loss.shape == metric.shape == (2,)
    assert loss.dtype == metric.dtype == jnp.float32
    assert np.isfinite(loss).all() and (metric > problem.floor).all()
    assert problem.floor > 0
    assert (reward is not None) == (name in ("bandit", "cartpole"))
    assert equal(batch, again)
    assert problem.batch_size == 0 or not equal(batch, after)


def test_the_transformer_sees_only_the_past():
    params = transformer.init(jax.random.key(0), length=12, width=8)
    text = jnp.arange(12)[None] % 20
    both = jnp.concatenate([text, text.at[0, 8].set(30)])
    before, after = jax.jit(transformer.logits)(params, both)
    np.testing.assert_allclose(before[:8], after[:8], atol=1e-5)
    assert not np.allclose(before[8:], after[8:], atol=1e-3)


def test_the_text_is_prose_and_its_ends_do_not_overlap():
    text = _data.text()
    prose = "".join(_data.ALPHABET[i] for i in text.train[:5000])
    assert " the " in prose
    assert len(text.test) == (len(text.train) + len(text.test)) // 10
    assert np.mean(text.train == len(_data.ALPHABET) - 1) < 0.05


def test_patches_times_a_matrix_are_a_convolution():
    key = jax.random.key(0)
    x = jax.random.normal(key, (2, 7, 7, 3))
    kernel = jax.random.normal(key, (3, 3, 3, 5))
    ours = conv.patches(x, size=3, stride=2) @ kernel.reshape(27, 5)
    theirs = jax.lax.conv_general_dilated(
        x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_labels_are_wrong_in_the_share_that_the_world_draws():
    from benchmarks.families import label_noise

    shape = {"width": 8, "depth": 1, "batches": (8, 80)}
    problem = label_noise.build(shape)
    worlds = jax.vmap(problem.world)(jax.random.split(jax.random.key(0), 40))
    wrong = (worlds.labels != _data.digits().labels).mean(axis=1)
    assert 0.03 < wrong.min() < 0.12 and 0.33 < wrong.max() < 0.43


def test_the_stream_shifts_when_it_says():
    shape = {"shifts": 2, "spoilt": False, "width": 16, "batch": 8, "horizon": 400}
    problem = shift.build(shape)
    world = problem.world(jax.random.key(3))
    first, second = (int(np.ceil(at)) for at in world.shifts)
    assert 0 < first < second < 400
    phase = lambda step: shift.present(world, jnp.int32(step))  # noqa: E731
    assert equal(phase(0), phase(first - 1))
    assert not equal(phase(first - 1), phase(first))
    assert equal(phase(first), phase(second - 1))
    assert not equal(phase(second - 1), phase(second))


def test_cartpole_solves_the_equations_of_motion():
    rng = np.random.default_rng(0)
    states = rng.uniform(-1.0, 1.0, (50, 4)).astype(np.float32)
    forces = rng.choice([-10.0, 10.0], 50).astype(np.float32)
    world = cartpole.World(9.8, 10.0, 0.1, 0.5, 1.0)
    ours = cartpole.physics(world, states, forces)
    for state, force, after in zip(states, forces, ours, strict=True):
        _, velocity, angle, spin = (float(value) for value in state)
        # Newton for cart and pole together, and the pole's torque about its pivot, in
        # the two accelerations; a rod of half length l has the moment m l² 4/3.
        matrix = [[1.1, 0.05 * np.cos(angle)], [np.cos(angle), 0.5 * 4.0 / 3.0]]
        right = [force + 0.05 * spin**2 * np.sin(angle), 9.8 * np.sin(angle)]
        acceleration, spin_rate = np.linalg.solve(matrix, right)
        rates = np.array([velocity, acceleration, spin, spin_rate])
        np.testing.assert_allclose(after, state + 0.02 * rates, rtol=1e-4, atol=1e-5)


def test_the_bandits_gradient_is_that_of_the_expected_pay():
    shape = {"arms": 4, "width": 8, "depth": 1, "batch": 16, "horizon": 80}
    problem = bandit.build(shape)
    world = problem.world(jax.random.key(1))
    params = problem.init(jax.random.key(0), world)
    x = jax.random.normal(jax.random.key(1), (16, bandit.CONTEXT))

    def expected(params):
        policy = jax.nn.softmax(bandit._layers.mlp(params, x, jnp.tanh))
        return jnp.mean(jnp.sum(policy * world.unit * bandit.chances(world, x), 1))

    def sampled(key):
        _, pick, pays = problem.batch(key, jnp.int32(0), world)
        # The same contexts each time, with the luck of this batch.
        luck = jax.random.uniform(key, (16, 1))
        pays = world.unit * (luck < bandit.chances(world, x))
        return jax.grad(problem.loss, has_aux=True)(params, (x, pick, pays), key)

    grads, rewards = jax.jit(jax.vmap(sampled))(
        jax.random.split(jax.random.key(2), 4000)
    )
    # A baseline of the same batch shrinks the gradient by 1 - 1/n.
    exact = jax.grad(expected)(params)
    for leaf, true in zip(jax.tree.leaves(grads), jax.tree.leaves(exact), strict=True):
        error = 5 * np.asarray(leaf).std(0) / 4000**0.5 + 1e-6
        assert (np.abs(leaf.mean(0) + (1 - 1 / 16) * true) < error).all()
    np.testing.assert_allclose(
        rewards.mean(), expected(params), rtol=0.02, atol=0.01 * world.unit
    )


def test_a_short_training_lowers_the_metric():
    problem = families.get("logistic@1.0").problem
    tx = optax.adam(0.03)

    @jax.jit
    def train(key):
        world = problem.world(key)
        params = problem.init(key, world)

        def step(carry, t):
            params, state = carry
            batch = problem.batch(key, t, world)
            grads, _ = jax.grad(problem.loss, has_aux=True)(params, batch, key)
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        (end, _), _ = jax.lax.scan(step, (params, tx.init(params)), jnp.arange(100))
        return [problem.metric(p, jnp.int32(0), world) for p in (params, end)]

    before, after = train(jax.random.key(0))
    assert after < 0.7 * before
