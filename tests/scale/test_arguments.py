"""Swapped arguments are named, with the call that is right."""

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import SingleDeviceSharding

import adaptive_optax as ao

TX, PARAMS = ao.adaptive_adam(1e-3), {"w": jnp.ones(3)}
STATE = TX.init(PARAMS)
PLACES = {"w": SingleDeviceSharding(jax.devices()[0])}
SWAPPED = {
    "params, tx": ((PARAMS, TX), "`params` must be .* a transformation: .*swapped"),
    "tx, state": ((TX, STATE), "`params` must be the parameters, got an optimizer's"),
    "tx, nothing": ((TX, None), "`params` must be the parameters, got None"),
    "tx, shardings": ((TX, PLACES), "`params` must be .* got their shardings"),
    "factory": ((optax.adam, PARAMS), r"got adam; build it first, adam\(\.\.\.\), and"),
    "state, params": ((STATE, PARAMS), "got AdaptiveSchedulerState; then"),
}
CALLS = {
    "state_bytes": (ao.state_bytes, "state_bytes.tx, params, shardings"),
    "state_shardings": (ao.state_shardings, "state_shardings.tx, params, shardings"),
    "load_state": (lambda *given: ao.load_state(*given, STATE), "load_state.tx, param"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("swapped", SWAPPED)
def test_what_is_no_transformation_or_no_parameters_is_named(call, swapped):
    (function, right), (given, message) = CALLS[call], SWAPPED[swapped]
    with pytest.raises(TypeError, match=f"{message}.* call {right}"):
        function(*given)


@pytest.mark.parametrize("held", [None, PARAMS, {"state": {"learning_rate": 1.0}}])
def test_what_holds_no_state_is_named(held):
    with pytest.raises(ValueError, match="`held` holds nothing of .*tx, params, held"):
        ao.load_state(TX, PARAMS, held)


def test_what_is_like_a_transformation_is_one():
    steps = optax.MultiSteps(TX, 2)
    assert ao.state_bytes(steps, PARAMS)["law"] > 0
    assert ao.load_state(steps, PARAMS, steps.init(PARAMS)).mini_step == 0
