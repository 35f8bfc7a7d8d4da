"""Every peer trains; what is ported or configured does what it says."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import peers
from benchmarks.peers import ours
from benchmarks.peers.averaging import without_momentum
from benchmarks.peers.inner import OPTIMIZERS
from tests.helpers import few

WRAPPERS = [name for name, peer in peers.PEERS.items() if not peer.own_optimizer]
CHOSEN = {
    (name, optimizer)
    for name in ("nudge", "adalrs", "gala", "mechanic_cosine", "schedule_free_warm_up")
    for optimizer in ("sgd", "adafactor")
}
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
    with pytest.raises(ValueError, match=r"mean 'prodigy'.*constant, constant_w"):
        peers.get("prodgy")


@pytest.mark.parametrize(
    "name", few(peers.PEERS, ("nudge", "cosine", "adalrs", "prodigy", "schedule_free"))
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
        # A warm-up that is a share of the run needs the horizon as well.
        if peer.knows_horizon and not name.startswith("schedule_free"):
            assert jnp.all(rate[..., -1] < 0.1 * rate.max(axis=-1))


@pytest.mark.parametrize(
    ("name", "optimizer"), few(itertools.product(WRAPPERS, OPTIMIZERS), CHOSEN)
)
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
