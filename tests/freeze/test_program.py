"""The program that skips: what is inside a conditional, and what is not."""

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptive_optax as ao
from adaptive_optax.freeze.backward import liveness, program
from tests.freeze.losses import (
    LAYERS,
    inputs,
    layers,
    scanned,
    stacked_layers,
    unrolled,
)
from tests.freeze.masking import EVERY, assert_close, masking


def conditional_dots(compiled):
    """(dots outside of conditionals, dots inside) in compiled HLO."""
    bodies, name = {}, None
    for line in compiled.as_text().splitlines():
        head = re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line)
        if head:
            name = head[1]
            bodies[name] = []
        elif name and line.startswith("}"):
            name = None
        elif name:
            bodies[name].append(line)
    text = compiled.as_text()
    entry = re.search(r"^ENTRY %?([\w.\-]+)", text, re.MULTILINE)[1]
    outside, inside = [], []

    def visit(name, conditional):
        for line in bodies[name]:
            if re.search(r"= \S+ dot\(", line):
                (inside if conditional else outside).append(line)
            under = conditional or " conditional(" in line
            called = re.findall(
                r"(?:calls|to_apply|body|condition|true_computation|false_computation)"
                r"=%?([\w.\-]+)|branch_computations=\{([^}]*)\}",
                line,
            )
            for one, many in called:
                for callee in [one] if one else re.findall(r"[\w.\-]+", many):
                    visit(callee, under)

    visit(entry, False)
    return len(outside), len(inside)


@pytest.mark.parametrize("stacked", [False, True])
def test_a_frozen_matmul_sits_inside_a_conditional(stacked):
    params = stacked_layers() if stacked else layers()
    loss = scanned if stacked else unrolled
    frozen = jax.tree.map(lambda _: jnp.asarray(True), params)
    forward = jax.jit(loss).lower(params, inputs()).compile()
    plain = jax.jit(jax.value_and_grad(loss)).lower(params, inputs()).compile()
    vg = ao.frozen_value_and_grad(loss, **EVERY)
    ours = jax.jit(vg).lower(params, frozen, inputs()).compile()
    needed, none = conditional_dots(forward)
    every, none_either = conditional_dots(plain)
    outside, inside = conditional_dots(ours)
    assert none == none_either == 0
    assert outside == needed < every  # the loss alone is always computed
    assert inside >= every - needed


def test_a_known_mask_leaves_no_conditional_and_no_work():
    params, x = layers(), inputs()
    frozen = jax.tree.map(lambda _: True, params)
    frozen["head"] = False
    vg = ao.frozen_value_and_grad(unrolled, **EVERY)
    step = jax.jit(lambda params, x: vg(params, frozen, x))
    text = jax.make_jaxpr(step)(params, x).pretty_print()
    assert "cond[" not in text
    # Forward once through, and one product for the gradient of the head.
    assert text.count("dot_general[") == LAYERS + 2 + 1


def test_layers_of_a_scan_are_skipped_one_by_one():
    # The runtime is asked: a callback in the backward pass of each layer.
    ran = []

    @jax.custom_vjp
    def product(x, w, i):
        return x @ w

    def backward(residuals, g):
        x, w, i = residuals
        dw = jax.pure_callback(
            lambda g, i: ran.append(int(i)) or np.asarray(g),
            jax.ShapeDtypeStruct(w.shape, w.dtype),
            x.T @ g,
            i,
        )
        return g @ w.T, dw, np.zeros((), jax.dtypes.float0)

    product.defvjp(lambda x, w, i: (x @ w, (x, w, i)), backward)

    def loss(params, x):
        x, _ = jax.lax.scan(
            lambda x, p: (jnp.tanh(product(x, *p)), None),
            x,
            (params["w"], jnp.arange(LAYERS)),
        )
        return jnp.mean(x)

    params = {"w": stacked_layers()["blocks"]["w"]}
    vg = jax.jit(ao.frozen_value_and_grad(loss, **EVERY))
    for mask in ([0, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]):
        ran.clear()
        jax.block_until_ready(vg(params, {"w": jnp.asarray(mask, bool)}, inputs()))
        assert sorted(ran) == [i for i in range(LAYERS) if not mask[i]]


def test_small_work_is_not_worth_a_conditional():
    params = layers()
    frozen = jax.tree.map(lambda _: jnp.asarray(True), params)
    vg = ao.frozen_value_and_grad(unrolled)  # at its default of 2e6 FLOPs
    text = jax.make_jaxpr(vg)(params, frozen, inputs()).pretty_print()
    assert "cond[" not in text
    assert_close(
        jax.jit(vg)(params, frozen, inputs()),
        jax.jit(masking(unrolled))(params, frozen, inputs()),
    )


@pytest.mark.parametrize(
    "params",
    [
        {"num_consts": 2, "num_carry": 1},
        {"ft_in": SimpleNamespace(unpack=lambda: ([0, 0], [0], [0, 0, 0]))},
    ],
    ids=["JAX 0.10", "JAX 0.11"],
)
def test_a_scan_tells_its_operands_apart(params):
    assert program.scan_counts(SimpleNamespace(params=params)) == (2, 1)


def test_a_scan_of_an_unknown_kind_is_left_to_the_mask():
    with pytest.raises(program.UnsupportedEquation, match="scan .*KeyError"):
        program.scan_counts(SimpleNamespace(params={"length": 3}))


@pytest.mark.parametrize(
    "function, by_row",
    [
        (lambda x: jnp.sin(2 * x), True),
        (lambda x: jnp.broadcast_to(x[:, None], (4, 4)), True),
        (lambda x: jnp.broadcast_to(x, (4, 4)), False),
        (lambda x: jnp.cumsum(jnp.sin(x)), False),
    ],
    ids=["elementwise", "a row each", "every row the same", "sums of rows"],
)
def test_a_row_serves_its_own_row_only_where_nothing_mixes_them(function, by_row):
    # Or the gradient of a live layer would be computed without what it needs.
    flat = program.flatten(jax.make_jaxpr(function)(jnp.arange(4.0)))
    live = liveness.sweep(flat, [frozenset({0})], [True])
    assert live.rows[flat.inputs[0]] == by_row
