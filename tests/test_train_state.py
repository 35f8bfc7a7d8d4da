import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from adaptive_optax.watch.snapshot import snapshot

pytest.importorskip("flax")
import flax.linen as nn
from flax import nnx
from flax.training import train_state as flax_train_state

from adaptive_optax.train_state import TrainState

MODEL, BATCH = nn.Dense(2), jnp.arange(12.0).reshape(4, 3) / 12
PARAMS = MODEL.init(jax.random.key(0), BATCH)["params"]


def loss_fn(params):
    return jnp.mean(MODEL.apply({"params": params}, BATCH) ** 2)


def adaptive(**options):
    options = {"average": False, "recovery": False} | options
    return ao.adaptive_scheduler(optax.adam, learning_rate=0.01, **options)


def create(cls, tx, params=PARAMS, **fields):
    return cls.create(apply_fn=MODEL.apply, params=params, tx=tx, **fields)


def test_feedback_arrives():
    state = create(TrainState, adaptive())
    loss, grads = jax.value_and_grad(loss_fn)(PARAMS)
    state = jax.jit(
        lambda state: state.apply_gradients(grads=grads, value=loss, reward=0.5)
    )(state)
    shot = snapshot(state.opt_state)
    assert shot["loss"] == loss
    assert shot["reward"] == 0.5
    assert state.step == 1


def test_the_step_is_the_optimizers():
    tx = adaptive()
    state = create(TrainState, tx)
    loss, grads = jax.value_and_grad(loss_fn)(PARAMS)
    updates, opt_state = tx.update(grads, tx.init(PARAMS), PARAMS, value=loss)
    after = state.apply_gradients(grads=grads, value=loss)
    jax.tree.map(
        np.testing.assert_array_equal,
        (after.params, after.opt_state),
        (optax.apply_updates(PARAMS, updates), opt_state),
    )


def test_jitted_loop_is_traced_once_and_learns():
    traces = 0

    @jax.jit
    def step(state):
        nonlocal traces
        traces += 1
        loss, grads = jax.value_and_grad(loss_fn)(state.params)
        return state.apply_gradients(grads=grads, value=loss), loss

    tx = adaptive()
    state = create(TrainState, tx)
    state = state.replace(step=jnp.zeros((), jnp.int32))
    _, first = step(state)
    for _ in range(30):
        state, loss = step(state)
    assert traces == 1
    assert loss < first
    assert state.tx is tx
    assert snapshot(state.opt_state)["steps"] == 30


@pytest.mark.parametrize("feedback", [{}, {"value": 1.0}, {"reward": 1.0}])
def test_plain_optimizers_work_as_in_flax(feedback):
    grads = jax.grad(loss_fn)(PARAMS)
    ours = create(TrainState, optax.adam(0.1)).apply_gradients(grads=grads, **feedback)
    theirs = create(flax_train_state.TrainState, optax.adam(0.1))
    theirs = theirs.apply_gradients(grads=grads)
    jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)


def test_subclasses_and_replaced_fields():
    class WithEpoch(TrainState):
        epoch: int = 0

    other = optax.sgd(1.0)
    state = create(WithEpoch, adaptive())
    grads = jax.grad(loss_fn)(PARAMS)
    after = state.apply_gradients(grads=grads, value=1.0, epoch=3, tx=other)
    assert isinstance(after, WithEpoch)
    assert after.epoch == 3
    assert after.tx is other


def test_overwritten_with_gradient():
    from flax.linen.fp8_ops import OVERWRITE_WITH_GRADIENT as OVERWRITE

    params = {"params": PARAMS, OVERWRITE: {"scale": jnp.ones(1)}}
    state = create(TrainState, adaptive(), params=params)
    grads = {"params": jax.grad(loss_fn)(PARAMS), OVERWRITE: {"scale": 7 * jnp.ones(1)}}
    state = state.apply_gradients(grads=grads, value=2.0)
    assert state.params[OVERWRITE]["scale"] == 7.0
    assert snapshot(state.opt_state)["loss"] == 2.0


def test_nnx_optimizer_passes_the_loss_on():
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, adaptive(average=True), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        loss, grads = nnx.value_and_grad(lambda m: jnp.mean(m(BATCH) ** 2))(model)
        optimizer.update(model, grads, value=loss)
        return loss, snapshot(optimizer.opt_state)

    losses = []
    for _ in range(30):
        loss, shot = step(model, optimizer)
        losses.append(float(loss))
        assert shot["loss"] == loss
    assert losses[-1] < losses[0]
    params = nnx.state(model, nnx.Param)
    averaged = ao.eval_params(optimizer.opt_state, params)
    assert jax.tree.structure(averaged) == jax.tree.structure(params)
