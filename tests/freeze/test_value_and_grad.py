"""The gradient that skips, as a function: what goes in, comes out, and is refused."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import io_callback
from jax.extend import core as jex

import adaptive_optax as ao
from tests.freeze.losses import LAYERS, inputs, layers, unrolled
from tests.freeze.masking import EVERY, assert_close, masking


def test_arguments_and_results_are_those_of_value_and_grad():
    params = {"w": jnp.ones(3), "n": jnp.arange(3), "weak": jnp.asarray(2.0)}

    def loss(params, x, mode, *, scale, flag=True):
        assert mode == "sum" and flag is True  # still a string and a Python bool
        value = jnp.sum(params["w"] * x * params["n"]) * scale * params["weak"]
        return value, {"n": 3, "name": "aux", "none": None, "x": (x, params["n"])}

    frozen = {
        "w": jnp.asarray(False),
        "n": jnp.asarray(True),
        "weak": jnp.asarray(True),
    }
    vg = ao.frozen_value_and_grad(loss, has_aux=True, allow_int=True)
    (value, aux), grads = vg(params, frozen, jnp.ones(3), "sum", scale=2.0)
    plain = jax.value_and_grad(loss, has_aux=True, allow_int=True)
    (want, want_aux), want_grads = plain(params, jnp.ones(3), "sum", scale=2.0)
    assert value == want
    assert aux["name"] == "aux" and aux["none"] is None and aux["n"] == 3
    assert jax.tree.structure(aux) == jax.tree.structure(want_aux)
    np.testing.assert_array_equal(grads["w"], want_grads["w"])
    assert grads["weak"] == 0.0
    assert grads["n"].dtype == jax.dtypes.float0 == want_grads["n"].dtype
    with pytest.raises(TypeError, match="allow_int"):
        ao.frozen_value_and_grad(loss, has_aux=True)(
            params, frozen, jnp.ones(3), "sum", scale=2.0
        )


def test_it_can_be_transformed():
    params, x = layers(), inputs()
    frozen = jax.tree.map(lambda _: jnp.asarray(False), params)
    frozen["blocks"][0]["w"] = jnp.asarray(True)
    vg, plain = ao.frozen_value_and_grad(unrolled, **EVERY), masking(unrolled)

    # A mask for every example of a batch: right, though it saves nothing.
    batch = jax.tree.map(lambda f: jnp.stack([f, ~f]), frozen)
    mapped = jax.jit(jax.vmap(vg, (None, 0, None)))(params, batch, x)
    assert_close(mapped, jax.vmap(plain, (None, 0, None))(params, batch, x))

    # Differentiated again.
    def norm(vg, params):
        return optax.tree.norm(vg(params, frozen, x)[1])

    second = jax.jit(jax.grad(functools.partial(norm, vg)))(params)
    assert_close(
        second, jax.jit(jax.grad(functools.partial(norm, plain)))(params), 1e-5
    )

    # In a scan, and without jit.
    _, values = jax.lax.scan(lambda c, _: (c, vg(params, frozen, x)[0]), 0, length=2)
    value, grads = vg(params, frozen, x)
    np.testing.assert_allclose(values, [value, value], rtol=1e-6)
    assert_close(grads, plain(params, frozen, x)[1])


def test_an_ordered_effect_falls_back_to_masking_and_says_so_once():
    seen = []

    def loss(params, x):
        io_callback(lambda v: seen.append(float(v)), None, jnp.mean(x), ordered=True)
        return unrolled(params, x)

    params, x = layers(), inputs()
    frozen = jax.tree.map(lambda f: jnp.asarray(f.ndim == 1), params)
    vg = ao.frozen_value_and_grad(loss, **EVERY)
    with pytest.warns(UserWarning, match="io_callback.*OrderedIOEffect.*masked"):
        got = jax.jit(vg)(params, frozen, x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.jit(lambda *a: vg(*a))(params, frozen, x)
    jax.effects_barrier()
    assert len(seen) == 2
    assert_close(got, jax.jit(masking(unrolled))(params, frozen, x))


def test_a_primitive_that_cannot_be_evaluated_anew_falls_back():
    from jax.interpreters import ad, mlir

    stubborn = jex.Primitive("stubborn")
    stubborn.def_impl(lambda x: x)
    stubborn.def_abstract_eval(lambda x: x)
    ad.deflinear2(stubborn, lambda ct, x: [stubborn.bind(ct)])
    mlir.register_lowering(stubborn, lambda ctx, x: [x])

    def refuse(params):
        raise NotImplementedError("no parameters to bind")

    stubborn.get_bind_params = refuse
    params, x = layers(), inputs()
    frozen = jax.tree.map(lambda f: jnp.asarray(f.ndim == 2), params)
    vg = ao.frozen_value_and_grad(lambda p, x: unrolled(p, stubborn.bind(x)), **EVERY)
    with pytest.warns(UserWarning, match="rewritten around stubborn"):
        got = jax.jit(vg)(params, frozen, x)
    assert_close(got, jax.jit(masking(unrolled))(params, frozen, x))


def test_effects_that_may_be_reordered_are_not_skipped():
    seen = []

    @jax.custom_vjp
    def watched(x):
        return x

    def backward(_, g):
        jax.debug.callback(lambda g: seen.append(np.asarray(g)), g)
        return (g,)

    watched.defvjp(lambda x: (x, None), backward)
    params, x = layers(), inputs()
    frozen = jax.tree.map(lambda _: jnp.asarray(True), params)
    loss = functools.partial(unrolled, layer=lambda x, p: watched(x @ p["w"]))
    jax.block_until_ready(
        jax.jit(ao.frozen_value_and_grad(loss, **EVERY))(params, frozen, x)
    )
    jax.effects_barrier()
    assert len(seen) == LAYERS
    assert all(np.any(g != 0) for g in seen)  # and what they show is true


def test_freezing_everything_is_allowed_and_said_once():
    params = layers()
    vg = ao.frozen_value_and_grad(unrolled)
    frozen = jax.tree.map(lambda _: True, params)
    with pytest.warns(UserWarning, match="everything is frozen") as caught:
        for _ in range(3):
            _, grads = vg(params, frozen, inputs())
    assert len(caught) == 1
    assert not any(np.any(g) for g in jax.tree.leaves(grads))


PARAMS = {"a": {"w": jnp.ones((3, 2))}, "b": jnp.ones(2)}
LIVE = {"a": {"w": jnp.asarray(False)}, "b": jnp.asarray(False)}


def quadratic(params):
    return jnp.sum(params["a"]["w"] ** 2) + jnp.sum(params["b"] ** 2)


@pytest.mark.parametrize(
    ("frozen", "error", "match"),
    [
        ({"a": {"w": True}}, ValueError, "`frozen`.*lacks 'b'.*tree.map"),
        ({**LIVE, "c": True}, ValueError, "has 'c', which `params` have not"),
        ({"a": {"v": True}, "b": True}, ValueError, "'a/v'"),
        (True, ValueError, "`frozen` must have the structure of `params`"),
        ({**LIVE, "b": 1}, TypeError, "'b' must be boolean, got 1"),
        ({**LIVE, "b": jnp.ones(2)}, TypeError, "'b' must be boolean"),
        ({**LIVE, "b": np.zeros(3, bool)}, ValueError, r"'b'.*\(2,\), got \(3,\)"),
        (
            {**LIVE, "a": {"w": np.zeros((3, 2), bool)}},
            ValueError,
            r"'a/w' must have shape \(\) or.*\(3,\), got \(3, 2\)",
        ),
    ],
)
def test_masks_that_do_not_fit(frozen, error, match):
    with pytest.raises(error, match=match):
        ao.frozen_value_and_grad(quadratic)(PARAMS, frozen)


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"labels": {"a": "x"}}, ValueError, "`labels`"),
        ({"labels": {**LIVE, "z": "x"}}, ValueError, "`labels`.*has 'z'"),
        ({"labels": {"a": {"w": {1}}, "b": "x"}}, TypeError, "'a/w'.*hashable"),
        ({"labels": lambda path: [path]}, TypeError, r"'a/w'.*hashable.*\['a/w'\]"),
        ({"min_flops": -1.0}, ValueError, "`min_flops`.*-1.0"),
    ],
)
def test_bad_settings(settings, error, match):
    with pytest.raises(error, match=match):
        ao.frozen_value_and_grad(quadratic, **settings)(PARAMS, LIVE)


def test_fun_must_be_a_function():
    with pytest.raises(TypeError, match="frozen_value_and_grad\\(loss_fn\\)"):
        ao.frozen_value_and_grad(jnp.ones(3))
