"""Every peer trains; what is ported or configured does what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import peers
from benchmarks.peers import ours, schedules
from benchmarks.peers.averaging import without_momentum
from benchmarks.peers.inner import OPTIMIZERS
from benchmarks.peers.loss_driven import greedy_lr
from tests.helpers import few

CURVATURE = jnp.array([1.0, 0.3, 0.1])


def loss(params):
    return 0.5 * jnp.sum(CURVATURE * (params["w"] @ jnp.ones(2) - 1.0) ** 2)


def train(peer, inner, rates, steps=60):
    """Losses of the evaluated parameters at each rate, of the first, and the traces."""

    def lane(rate, start):
        params = {"w": jnp.full((3, 2), start)}
        tx = peer.make(inner, rate, steps)

        def body(carry, _):
            params, state = carry
            value, grads = jax.value_and_grad(loss)(params)
            updates, state = tx.update(grads, state, params, value=value, reward=-value)
            traced = peer.trace(state) if peer.trace else {}
            return (optax.apply_updates(params, updates), state), traced

        (params, state), traced = jax.lax.scan(
            body, (params, tx.init(params)), length=steps
        )
        best = peer.eval_params(state, params) if peer.eval_params else params
        return loss({"w": jnp.full((3, 2), start)}), loss(best), traced

    starts = jnp.array([1.0, 1.5])
    lanes = jax.vmap(jax.vmap(lane, in_axes=(None, 0)), in_axes=(0, None))
    # These runs are short: compiling is what takes the time.
    quickly = {"xla_backend_optimization_level": 0}
    return jax.jit(lanes, compiler_options=quickly)(rates, starts)


def test_the_registry_is_keyed_by_name():
    assert all(peers.get(name) is peer for name, peer in peers.PEERS.items())
    assert all(name == peer.name for name, peer in peers.PEERS.items())
    assert all(peer.source for peer in peers.PEERS.values())
    assert "crippled" not in peers.PEERS and peers.get("crippled").ours


def test_an_unknown_peer_is_told_the_known_ones():
    with pytest.raises(ValueError, match=r"did you mean 'prodigy'.*constant, cosine"):
        peers.get("prodgy")


@pytest.mark.parametrize(
    "name", few(peers.PEERS, ("nudge", "cosine", "prodigy", "schedule_free"))
)
def test_every_peer_learns_under_vmap_and_scan_with_a_traced_rate(name):
    peer = peers.get(name)
    scale = jnp.array([0.1, 1.0, 10.0]) * (1.0 if peer.free else 0.03)
    first, last, traced = train(peer, optax.adam, scale)
    assert last.shape == (3, 2)
    assert np.nanmin(last / first) < 0.6
    if peer.trace:
        rate = traced["learning_rate"]
        assert rate.dtype == jnp.float32 and rate.shape == (3, 2, 60)
        if peer.knows_horizon:
            assert jnp.all(rate[..., -1] < 0.1 * rate.max(axis=-1))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", ["greedy_lr", "schedule_free", "mechanic", "nudge"])
def test_wrappers_build_around_every_inner_optimizer(name, optimizer):
    peer, inner = peers.get(name), OPTIMIZERS[optimizer]
    params = {"w": jnp.ones((3, 2))}

    def step(rate):
        tx = peer.make(inner.factory, rate, 100)
        state = tx.init(params)
        value, grads = jax.value_and_grad(loss)(params)
        updates, new = tx.update(grads, state, params, value=value)
        return updates, state, new

    updates, state, new = jax.eval_shape(step, jnp.float32(inner.default_rate))
    assert jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), state) == (
        jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), new)
    )
    assert updates["w"].shape == (3, 2)


def test_schedule_free_takes_an_optimizer_without_momentum():
    for name in ("sgd", "lion", "muon"):
        grads, params = {"w": jnp.ones((3, 2))}, {"w": jnp.zeros((3, 2))}
        tx = without_momentum(OPTIMIZERS[name].factory)(0.1)
        state = tx.init(params)
        _, state = tx.update(grads, state, params)
        again, _ = tx.update(jax.tree.map(lambda g: -g, grads), state, params)
        assert jnp.all(again["w"] > 0), name  # nothing of the first gradient is left


@pytest.mark.parametrize("horizon", [20, 1000])
def test_schedules_warm_up_fully_and_end_at_zero(horizon):
    counts = jnp.arange(horizon + 1)
    for shape in (schedules.cosine_shape, schedules.trapezoid_shape):
        height = jax.vmap(shape(horizon))(counts)
        assert height[0] == 0 and height[-1] == pytest.approx(0, abs=1e-6)
        assert height[-2] < 0.2
        assert height[horizon // 20] == height.max() == 1
    flat = jax.vmap(schedules.trapezoid_shape(horizon))(counts)
    assert flat[horizon * 7 // 10] == 1 and flat[horizon * 85 // 100] == 0.5
    cosine = jax.vmap(schedules.cosine_shape(horizon))(counts)
    assert cosine[horizon // 20 + horizon * 19 // 40] == pytest.approx(0.5, abs=0.05)


def test_nadamw_takes_the_published_numbers():
    assert schedules.NADAMW["learning_rate"] == 0.0017486387539278373
    assert schedules.NADAMW["b1"] == pytest.approx(0.93266073836)
    assert schedules.NADAMW["b2"] == 0.9955159689799007
    assert schedules.NADAMW["weight_decay"] == 0.08121616522670176
    _, _, traced = train(peers.get("nadamw"), optax.sgd, jnp.array([1.0, 2.0]), 100)
    rate = traced["learning_rate"][:, 0]
    np.testing.assert_allclose(rate[:, 2], [0.00174863875, 0.0034972775], rtol=1e-5)
    np.testing.assert_allclose(rate[:, 1], rate[:, 2] / 2, rtol=1e-6)  # 2 % warm-up


def greedy_twin(values, rate, patience, window, reset_after, factor=0.95):
    """GreedyLR as its authors' code reads, one rate after each value."""
    first, low, best = rate, rate / 20, np.inf
    good = bad = 0
    left, recent, rates = reset_after, [], []
    for value in values:
        recent = [*recent, value][-window:]
        mean = sum(recent) / len(recent)
        if mean < best - 1e-6:
            best, good, bad = mean, good + 1, 0
        else:
            good, bad = 0, bad + 1
        if good > patience:
            rate = max(rate, min(rate / factor, 1.0))
            good, left = 0, reset_after
        elif bad > patience:
            rate, bad = max(rate * factor, low), 0
            if rate == low:
                left -= 1
                if left <= 0:
                    rate, best, good, bad = first, np.inf, 0, 0
                    left, recent = reset_after, []
        rates.append(rate)
    return rates


@pytest.mark.parametrize("seed", range(3))
def test_greedy_lr_agrees_with_a_slow_twin(seed):
    noise = np.random.default_rng(seed).normal(size=600) * [0.02, 0.2, 1.0][seed]
    values = 1e3 * np.exp(-np.arange(600) / 20) + 5 + noise  # falls, then only noise
    options = {"patience": 1, "window": 4, "reset_after": 3}
    tx = greedy_lr(0.7, **options)

    def step(state, value):
        updates, state = tx.update(jnp.ones(()), state, value=value)
        return state, (updates, state.greedy_rate)

    init = tx.init(jnp.ones(()))
    _, (scale, rates) = jax.lax.scan(step, init, jnp.asarray(values, jnp.float32))
    expected = greedy_twin(values, 0.7, **options)
    np.testing.assert_allclose(rates, expected, rtol=2e-5)
    np.testing.assert_allclose(scale, rates / 0.7, rtol=1e-6)
    assert max(expected) > 0.9 and min(expected) == pytest.approx(0.035)
    assert 0.7 in expected[300:]  # the fresh start was reached


def test_a_configuration_is_read_from_text():
    peer = peers.get("ours(mode=search, slew=0.1, momentum_rule=alignment)")
    assert peer.ours and not peer.knows_horizon
    assert peer.name == "ours(mode=search, slew=0.1, momentum_rule=alignment)"
    assert ours.configured("mode='search',mu_bounds=(0, 0.99)").eval_params
    assert ours.configured("average=False").eval_params is None
    assert ours.configured("total_steps=True").knows_horizon


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sleew=0.1", r"unknown option 'sleew' \(did you mean 'slew'\?\).*lr_bounds"),
        ("rule=trand", r"unknown rule 'trand' \(did you mean 'trend'\?\)"),
        ("slew=1+", "got 'slew=1\\+'; try"),
        ("search", "option=value pairs, got 'search'"),
        ("slew=max(1, 2)", r"literal, got 'max\(1, 2\)'"),
        ("mode=serch", "must be one of.*got 'serch'"),
        ("slew=-1", "slew.*-1"),
    ],
)
def test_a_bad_configuration_is_told_early(text, message):
    with pytest.raises(ValueError, match=message):
        ours.configured(text)


@pytest.mark.slow
def test_the_crippled_controller_goes_nowhere():
    rates = jnp.array([0.03])
    first, last, traced = train(peers.get("crippled"), optax.adam, rates)
    assert jnp.all(last / first > 0.8)
    np.testing.assert_allclose(traced["learning_rate"][..., -1], 0.03e-6, rtol=1e-4)
