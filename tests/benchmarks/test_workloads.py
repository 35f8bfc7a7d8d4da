"""The judge's workloads: the registry, the contract, and what each claims to be."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import workloads
from benchmarks.contract import EVALUATIONS
from benchmarks.workloads import (
    _data,
    bandit,
    cartpole,
    char_transformer,
    cnn,
    drift,
    factorization,
    label_noise,
    shift,
    spikes,
)
from tests.helpers import few

HELD_OUT = "label_noise cnn vae rnn tabular cartpole drift mixer".split()
INNER = {"sgd", "adam", "adamw", "adagrad", "rmsprop", "lion", "muon"}


@pytest.fixture(autouse=True, scope="module")
def compile_quickly():
    """Each program runs once, so what counts is how long it takes to compile."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def test_every_file_is_in_the_split_and_the_held_out_ones_stay_so():
    folder = pathlib.Path(workloads.__file__).parent
    files = {path.stem for path in folder.glob("*.py") if path.stem[0] != "_"}
    assert files == set(workloads.NAMES)
    assert [name for name, split in workloads.SPLIT.items() if split == "held_out"] == (
        HELD_OUT
    )


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="'quadratc'.*mean 'quadratic'.*rosenbrock"):
        workloads.get("quadratc")


def test_a_development_workload_goes_with_another_optimizer():
    varied, own = workloads.get("digits_mlp/lion"), workloads.get("digits_mlp")
    assert (varied.name, varied.optimizer) == ("digits_mlp/lion", "lion")
    assert own.optimizer == "adam" and varied.loss is own.loss


@pytest.mark.parametrize(
    "name, optimizer", [("digits_mlp@80", "adam"), ("digits_mlp@80/lion", "lion")]
)
def test_a_development_workload_may_be_shorter(name, optimizer):
    varied = workloads.get(name)
    assert (varied.name, varied.optimizer, varied.horizon) == (name, optimizer, 80)
    assert workloads.own_name(name) == "digits_mlp"
    assert workloads.get("shift@80").disturbed_at is None
    assert workloads.get("shift@1200").disturbed_at == 600


@pytest.mark.parametrize(
    "name, message",
    [
        ("cnn/lion", "only development workloads are varied, got 'cnn/lion'"),
        ("cnn@80", "only development workloads are varied, got 'cnn@80'"),
        ("digits/lion", "only development workloads.*digits_mlp@80/lion"),
        ("digits_mlp/lyon", "no optimizer is called 'lyon'.*known are.*lion"),
        ("digits_mlp/", "no optimizer is called ''"),
        ("digits_mlp@81", "multiple of 40 steps, got '81'"),
        ("digits_mlp@080", "multiple of 40 steps, got '080'"),
        ("digits_mlp@0", "multiple of 40 steps, got '0'"),
        ("digits_mlp@", "multiple of 40 steps, got ''"),
    ],
)
def test_nothing_else_is_varied(name, message):
    with pytest.raises(ValueError, match=message):
        workloads.get(name)


def test_a_workload_is_built_once():
    assert workloads.get("quadratic") is workloads.get("quadratic")


def test_a_file_that_contradicts_the_split_is_refused(monkeypatch):
    monkeypatch.setitem(workloads.SPLIT, "rosenbrock", "held_out")
    with pytest.raises(RuntimeError, match="'rosenbrock' as 'held_out'"):
        workloads.get.__wrapped__("rosenbrock")


def equal(one, other) -> bool:
    return all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


# One of each kind: one batch for all steps, minibatches, a large model, a reward, and a
# stream that changes.
KINDS = ("quadratic", "digits_mlp", "char_transformer", "bandit", "drift")


@pytest.mark.parametrize("name", few(workloads.NAMES, KINDS))
def test_a_workload_keeps_the_contract(name):
    workload = workloads.get(name)
    assert workload.optimizer in INNER
    assert workload.horizon % EVALUATIONS == 0
    assert workload.disturbed_at is None or 0 < workload.disturbed_at < workload.horizon
    keys = jax.random.split(jax.random.key(0))
    params = jax.jit(jax.vmap(workload.init))(keys)
    steps = jax.vmap(workload.batch, (None, 0))
    batches = jax.jit(jax.vmap(steps, (0, None)))(keys, jnp.array([0, 0, 1]))
    batch, again, after = (
        jax.tree.map(lambda x, i=i: x[:, i], batches) for i in range(3)
    )

    @jax.jit
    @jax.vmap
    def first_step(params, batch, key):
        gradient = jax.value_and_grad(workload.loss, has_aux=True)
        return gradient(params, batch, key), workload.metric(params, jnp.int32(0))

    ((loss, reward), grads), metric = first_step(params, batch, keys)

    for leaf in jax.tree.leaves((params, grads)):
        assert leaf.dtype == jnp.float32
        assert np.isfinite(leaf).all()
    assert loss.shape == metric.shape == (2,)
    assert loss.dtype == metric.dtype == jnp.float32
    assert np.isfinite(loss).all() and (metric > workload.floor).all()
    assert (reward is not None) == (name in ("bandit", "cartpole"))

    assert equal(batch, again)
    assert equal(batch, after) == (workload.batch_size == 0)
    first, second = (jax.tree.map(lambda x, i=i: x[i], batch) for i in range(2))
    assert equal(first, second) == (workload.batch_size == 0)


@pytest.mark.parametrize(
    ("name", "rate", "steps", "share"),
    [
        ("quadratic", 0.3, 200, 0.5),
        ("logistic", 0.03, 100, 0.5),
        ("shift", 0.1, 100, 1),
    ],
)
def test_a_short_training_lowers_the_metric(name, rate, steps, share):
    workload = workloads.get(name)
    optimizer = optax.sgd(rate, momentum=0.9)

    @jax.jit
    def train(start, key):
        def step(carry, count):
            params, state = carry
            batch = workload.batch(key, count)
            gradient = jax.grad(workload.loss, has_aux=True)
            grads, _ = gradient(params, batch, jax.random.fold_in(key, count))
            updates, state = optimizer.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        carry = (start, optimizer.init(start))
        (params, _), _ = jax.lax.scan(step, carry, jnp.arange(steps))
        return workload.metric(start, jnp.int32(0)), workload.metric(
            params, jnp.int32(steps)
        )

    key = jax.random.key(1)
    before, after = train(workload.init(key), key)
    assert after < share * before


def test_factorization_starts_at_a_saddle():
    workload = workloads.get("factorization")
    params = workload.init(jax.random.key(0))
    batch = workload.batch(jax.random.key(0), jnp.int32(0))
    grads, _ = jax.grad(workload.loss, has_aux=True)(params, batch, None)
    assert optax.tree.norm(grads) < 0.05
    np.testing.assert_allclose(workload.metric(params, jnp.int32(0)), 1.0, atol=1e-3)
    assert np.linalg.matrix_rank(factorization.truth()) == factorization.RANK


def test_the_transformer_sees_only_the_past():
    params = char_transformer.init(jax.random.key(0))
    tokens = jnp.arange(char_transformer.LENGTH)[None] % 20
    changed = tokens.at[0, 10].set(30)
    both = jnp.concatenate([tokens, changed])
    before, after = jax.jit(char_transformer.logits)(params, both)
    np.testing.assert_allclose(before[:10], after[:10], atol=1e-5)
    assert not np.allclose(before[10:], after[10:], atol=1e-3)


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
    ours = cnn.patches(x, size=3, stride=2) @ kernel.reshape(27, 5)
    theirs = jax.lax.conv_general_dilated(
        x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_fifth_of_the_labels_is_wrong():
    labels = np.arange(1000) % 10
    wrong = label_noise.corrupted(labels)
    assert np.mean(wrong != labels) == label_noise.SHARE
    assert set(wrong) == set(range(10))


def test_the_stream_shifts_in_loss_and_in_distribution_but_not_in_metric():
    workload = workloads.get("shift")
    assert workload.disturbed_at == shift.SHIFT == workload.horizon // 2
    noise = np.random.default_rng(0).normal(size=(4096, shift.INPUTS))
    noise = noise.astype(np.float32)
    (x0, y0), (x1, y1), (x2, y2) = (
        shift.examples(jnp.int32(step), noise)
        for step in (0, shift.SHIFT - 1, shift.SHIFT)
    )
    assert equal((x0, y0), (x1, y1))
    assert not np.allclose(x1, x2) and abs(np.corrcoef(y1, y2)[0, 1]) < 0.5
    np.testing.assert_allclose(np.std(y2) / np.std(y1), 4.0, rtol=0.1)
    # A model that says nothing is as bad before as after.
    nothing = jax.tree.map(jnp.zeros_like, workload.init(jax.random.key(0)))
    for step in (shift.SHIFT - 1, shift.SHIFT):
        assert 0.9 < workload.metric(nothing, jnp.int32(step)) < 1.5


def test_spikes_come_at_their_steps_and_at_no_other():
    workload = workloads.get("spikes")
    x, labels = jax.jit(jax.vmap(workload.batch, (None, 0)))(
        jax.random.key(0), jnp.arange(workload.horizon)
    )
    x = np.asarray(x)
    missing = np.isnan(x).any((1, 2))
    assert tuple(np.flatnonzero(missing)) == spikes.NOT_A_NUMBER
    large = np.nanmax(x, (1, 2)) > 1.0
    assert tuple(np.flatnonzero(large)) == spikes.INFLATED
    assert workload.disturbed_at == spikes.INFLATED[0]
    clean_x, clean_labels = _data.draw(
        jax.random.key(0), 240, spikes.BATCH, _data.digits().x, _data.digits().labels
    )
    np.testing.assert_allclose(x[240], spikes.FACTOR * clean_x)
    np.testing.assert_array_equal(labels[240], (clean_labels + 1) % 10)
    params = workload.init(jax.random.key(0))
    grads, _ = jax.grad(workload.loss, has_aux=True)(
        params, (x[320], labels[320]), jax.random.key(0)
    )
    assert np.isnan(optax.tree.norm(grads))


def test_drift_turns_by_a_quarter_circle_and_spoils_every_90th_batch():
    workload = workloads.get("drift")
    first, last = drift.means(jnp.int32(0)), drift.means(jnp.int32(drift.HORIZON))
    np.testing.assert_allclose(np.sum(first * last, -1), 0.0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(first, axis=-1), drift.RADIUS, rtol=1e-5)
    bad = np.flatnonzero(drift.is_bad(np.arange(drift.HORIZON)))
    np.testing.assert_array_equal(np.diff(bad), drift.BAD_EVERY)
    assert bad[0] == workload.disturbed_at
    # The true posterior is linear in x, so a linear model can tell the metric's zero.
    centres = jnp.asarray(first)
    exact = [{"kernel": centres.T, "bias": -0.5 * jnp.sum(centres**2, -1)}]
    np.testing.assert_allclose(workload.metric(exact, jnp.int32(0)), 0.0, atol=1e-5)


def test_cartpole_solves_the_equations_of_motion():
    rng = np.random.default_rng(0)
    states = rng.uniform(-1.0, 1.0, (50, 4)).astype(np.float32)
    forces = rng.choice([-10.0, 10.0], 50).astype(np.float32)
    ours = cartpole.physics(states, forces)
    for state, force, after in zip(states, forces, ours, strict=True):
        _, velocity, angle, spin = (float(value) for value in state)
        # Newton for cart and pole together, and the pole's torque about its pivot, in
        # the two accelerations; a rod of half length l has the moment m l² 4/3.
        matrix = [[1.1, 0.05 * np.cos(angle)], [np.cos(angle), 0.5 * 4.0 / 3.0]]
        right = [force + 0.05 * spin**2 * np.sin(angle), 9.8 * np.sin(angle)]
        acceleration, spin_rate = np.linalg.solve(matrix, right)
        rates = np.array([velocity, acceleration, spin, spin_rate])
        np.testing.assert_allclose(after, state + 0.02 * rates, rtol=1e-4, atol=1e-5)


def test_cartpole_pays_until_the_pole_falls():
    params = jax.tree.map(
        jnp.zeros_like, workloads.get("cartpole").init(jax.random.key(0))
    )
    # A push to the right for ever: as everybody's CartPole, it falls within ten steps.
    params[-1]["bias"] += 20.0
    start = jnp.zeros((1, 4))
    states, rights, rewards = cartpole.rollout(params, start, jax.random.key(0))
    assert (rights == 1.0).all()
    returns = int(rewards.sum())
    assert 8 <= returns <= 11
    assert rewards[:returns].all() and not rewards[returns:].any()
    assert cartpole.upright(states[returns - 1])
    assert not cartpole.upright(states[returns])


def test_cartpole_reports_the_mean_return_as_its_reward():
    params = cartpole._layers.init_mlp(jax.random.key(0), (4, 16, 1))
    batch, key = cartpole.starts(jax.random.key(1), 8), jax.random.key(2)
    rewards = cartpole.rollout(params, batch, key)[2]
    np.testing.assert_allclose(
        cartpole.loss(params, batch, key)[1], rewards.sum(0).mean(), rtol=1e-6
    )


def test_the_bandits_gradient_is_that_of_the_expected_pay():
    params = bandit.workload().init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (bandit.BATCH, bandit.CONTEXT))

    def expected(params):
        policy = jax.nn.softmax(bandit.logits(params, x))
        return jnp.mean(jnp.sum(policy * bandit.chances(x), 1))

    keys = jax.random.split(jax.random.key(2), 4000)
    gradient = jax.grad(bandit.loss, has_aux=True)
    grads, rewards = jax.jit(jax.vmap(gradient, (None, None, 0)))(params, x, keys)
    # A baseline of the same batch shrinks the gradient by 1 - 1/n.
    share = 1 - 1 / bandit.BATCH
    exact = jax.grad(expected)(params)
    for leaf, true in zip(jax.tree.leaves(grads), jax.tree.leaves(exact), strict=True):
        error = 5 * np.asarray(leaf).std(0) / len(keys) ** 0.5 + 1e-6
        assert (np.abs(leaf.mean(0) + share * true) < error).all()
    np.testing.assert_allclose(rewards.mean(), expected(params), atol=0.01)
