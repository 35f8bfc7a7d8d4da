"""The loss does not arrive: the user is told once, and never in a run that is right."""

import warnings

import jax
import jax.numpy as jnp
import optax
import pytest

import adaptive_optax as ao
from adaptive_optax import NoFeedbackWarning

pytestmark = pytest.mark.filterwarnings("error::adaptive_optax.NoFeedbackWarning")
PARAMS = {"w": jnp.ones(3)}
MAKERS = {
    "adaptive_scheduler": lambda: ao.adaptive_scheduler(
        optax.sgd, 0.1, average=False, recovery=False
    ),
    "scale_by_rule": lambda: ao.scale_by_rule(ao.rules.trend()),
}


@pytest.fixture(params=MAKERS)
def tx(request):
    return MAKERS[request.param]()


def steps(tx, *fed, state=None):
    state = tx.init(PARAMS) if state is None else state
    for extra in fed:
        _, state = tx.update(PARAMS, state, PARAMS, **extra)
    return state


def test_a_run_without_a_loss_is_told_once(tx):
    with pytest.warns(
        NoFeedbackWarning, match=r"update\(grads, .*value=loss\)"
    ) as all_:
        steps(tx, {}, {}, {})
    assert len(all_) == 1


@pytest.mark.parametrize("name, meant", [("los", "loss"), ("values", "value")])
def test_a_misspelt_loss_is_named(tx, name, meant):
    with pytest.warns(NoFeedbackWarning, match=f"`{name}` for `{meant}`"):
        steps(tx, {name: 1.0})


@pytest.mark.parametrize("fed", [{"value": 1.0}, {"loss": 1.0}, {"reward": 1.0}])
def test_a_run_with_feedback_is_not_disturbed(tx, fed):
    steps(tx, fed, {}, {"other": 1.0})


@pytest.mark.parametrize("name, meant", [("rewrad", "reward"), ("Loss", "loss")])
def test_a_misspelt_feedback_beside_another_is_named(tx, name, meant):
    with pytest.warns(NoFeedbackWarning, match=f"`{name}` for `{meant}`"):
        steps(tx, {"value": 1.0, name: 1.0})


def test_the_warning_points_at_the_call(tx):
    with pytest.warns(NoFeedbackWarning) as told:
        steps(tx, {})
    assert told[0].filename == __file__


def test_none_says_that_there_is_no_loss(tx):
    steps(tx, {"value": None}, {})


def test_a_filter_silences_it(tx):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoFeedbackWarning)
        steps(tx, {})


def test_under_jit_it_is_told_while_tracing(tx):
    with pytest.warns(NoFeedbackWarning):
        jax.eval_shape(lambda s: steps(tx, {}, state=s), tx.init(PARAMS))


def test_flax_states_are_told_how_to_pass_the_loss():
    flax = pytest.importorskip("flax.training.train_state")
    from adaptive_optax.train_state import TrainState

    parts = {"apply_fn": lambda: None, "params": PARAMS}
    tx = MAKERS["adaptive_scheduler"]()
    with pytest.warns(NoFeedbackWarning, match="adaptive_optax.train_state"):
        flax.TrainState.create(tx=tx, **parts).apply_gradients(grads=PARAMS)
    ours = TrainState.create(tx=MAKERS["adaptive_scheduler"](), **parts)
    ours = ours.apply_gradients(grads=PARAMS, value=None)
    with pytest.warns(NoFeedbackWarning):
        state = TrainState.create(tx=MAKERS["adaptive_scheduler"](), **parts)
        state.apply_gradients(grads=PARAMS)


def test_a_loss_of_zero_is_not_no_loss(tx):
    nothing = ao.snapshot(steps(tx, {"value": None}))
    zero = ao.snapshot(steps(tx, {"value": 0.0}))
    assert not nothing["fed"] and zero["fed"]
    assert ao.snapshot(steps(tx, {"reward": 0.0}))["fed"]
