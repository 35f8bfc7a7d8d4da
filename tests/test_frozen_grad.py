"""The gradient that skips: masking's numbers, and work that is truly not done."""

import functools
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental import io_callback
from jax.extend import core as jex
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adaptive_optax as ao
from adaptive_optax._trees import over
from tests.frozen_models import (
    LAYERS,
    inputs,
    layers,
    models,
    random_mask,
    scanned,
    stacked_layers,
    unrolled,
)

MODELS = models()
EVERY = {"min_flops": 0.0}  # a conditional around whatever can be skipped
# Fused into one loop a multiplication and an addition are rounded once, else twice, and
# what is fused differs between any two programs. Unfused, only the rewrite is left.
UNFUSED = {"xla_disable_hlo_passes": "fusion"}
FAST = {"xla_backend_optimization_level": 0}


def masking(fun, has_aux=False):
    """What it all has to equal."""
    plain = jax.value_and_grad(fun, has_aux=has_aux)

    def vg(params, frozen, *args, **kwargs):
        value, grads = plain(params, *args, **kwargs)
        zero = jax.tree.map(
            lambda f, g: jnp.where(over(f, g), jnp.zeros_like(g), g), frozen, grads
        )
        return value, zero

    return vg


def without_keys(tree):
    return jax.tree.map(
        lambda x: (
            jax.random.key_data(x)
            if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
            else x
        ),
        tree,
    )


def assert_close(got, want, rtol=1e-6):
    got, want = without_keys(got), without_keys(want)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype
        a, b = (np.asarray(x, np.float64) for x in (a, b))
        eps = 1e-2 if jax.tree.leaves(got)[0].dtype == jnp.bfloat16 else rtol
        np.testing.assert_allclose(a, b, rtol=eps, atol=eps * np.max(np.abs(b)))


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_every_construct(name):
    model, rng, x = MODELS[name](), np.random.default_rng(0), inputs()
    quick = functools.partial(jax.jit, compiler_options=FAST)
    want = quick(masking(model.loss, model.has_aux))
    vg = ao.frozen_value_and_grad(
        model.loss, ao.block_labels(model.params), has_aux=model.has_aux, **EVERY
    )
    ours = quick(vg)
    for share in (0.0, 0.5, 0.5, 0.8, 0.8, 1.0):
        mask = random_mask(model, rng, share)
        assert_close(ours(model.params, mask, x), want(model.params, mask, x))
    assert ours._cache_size() == 1, "compiled again for another mask"
    # Known while tracing: nothing is left to decide.
    known = jax.tree.map(np.asarray, random_mask(model, rng, 0.3))
    static = quick(lambda params, x: vg(params, known, x))
    assert_close(static(model.params, x), want(model.params, known, x))


# XLA sums the batched products of attention in another order inside a conditional, on
# the CPU: 6e-6 of a parameter after a hundred steps.
ROUNDED = {"attention and gather"}


@pytest.mark.parametrize("name", MODELS)
def test_a_hundred_steps_are_those_of_masking_to_the_bit(name):
    model, x, steps = MODELS[name](), inputs(), 100
    rng = np.random.default_rng(1)
    # A mask stands for five steps; leaves and layers freeze and revive all the time.
    masks = [random_mask(model, rng) for _ in range(steps // 5)]
    masks = jax.tree.map(lambda *m: jnp.repeat(jnp.stack(m), 5, axis=0), *masks)
    tx = ao.hold_frozen(optax.adam(1e-2))

    def run(vg):
        def step(carry, now):
            params, state = carry
            value, grads = vg(params, now[0], now[1])
            updates, state = tx.update(grads, state, params, frozen=now[0])
            params = ao.apply_updates(params, updates, now[0])
            return (params, state), (value, grads)

        noise = jax.random.normal(jax.random.key(2), (steps, *x.shape))
        carry = model.params, tx.init(model.params)
        run = jax.jit(
            lambda c: jax.lax.scan(step, c, (masks, x + noise)),
            compiler_options=UNFUSED,
        )
        return run(carry)

    vg = ao.frozen_value_and_grad(
        model.loss, has_aux=model.has_aux, recompute=False, **EVERY
    )
    ours, theirs = run(vg), run(masking(model.loss, model.has_aux))
    if name in ROUNDED:
        assert_close(ours, theirs, rtol=1e-4)
    else:
        ours, theirs = without_keys(ours), without_keys(theirs)
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


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


@st.composite
def graphs(draw):
    """A random DAG: every node mixes earlier ones by a weight, shared or its own."""
    n_weights = draw(st.integers(1, 4))
    nodes = []
    for i in range(draw(st.integers(2, 7))):
        earlier = st.integers(0, i)
        nodes.append(
            (
                draw(st.sampled_from(["dot", "add", "gate", "remat", "scale"])),
                draw(earlier),
                draw(earlier),
                draw(st.integers(0, n_weights - 1)),
            )
        )
    masks = draw(st.lists(st.booleans(), min_size=n_weights, max_size=n_weights))
    labels = draw(st.lists(st.integers(0, 2), min_size=n_weights, max_size=n_weights))
    return n_weights, nodes, masks, labels, draw(st.booleans())


@settings(max_examples=30, deadline=None)
@given(graphs())
def test_random_graphs_and_masks(graph):
    n_weights, nodes, masks, labels, recompute = graph
    params = [
        0.5 * jax.random.normal(jax.random.key(i), (8, 8)) for i in range(n_weights)
    ]

    def loss(params, x):
        values = [x]
        for kind, a, b, w in nodes:
            first, second, weight = values[a], values[b], params[w]
            values.append(
                {
                    "dot": lambda x, y, w: jnp.tanh(x @ w) + y,
                    "add": lambda x, y, w: x + y + w[0],
                    "gate": lambda x, y, w: x * jax.nn.sigmoid(y @ w),
                    "remat": jax.checkpoint(lambda x, y, w: jnp.sin(x @ w) * y),
                    "scale": lambda x, y, w: x * w.mean() - y,
                }[kind](first, second, weight)
            )
        return jnp.mean(jnp.square(values[-1]))

    vg = ao.frozen_value_and_grad(loss, labels, recompute=recompute, **EVERY)
    frozen = [jnp.asarray(mask) for mask in masks]
    quick = functools.partial(jax.jit, compiler_options=FAST)
    got = quick(vg)(params, frozen, inputs())
    assert_close(got, quick(masking(loss))(params, frozen, inputs()), rtol=2e-6)


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


def collectives_outside(compiled):
    """Kinds of the collectives that run whatever the mask is, sorted."""
    text, found, inside = compiled.as_text(), [], False
    branches = set(
        re.findall(
            r"[\w.\-]+",
            " ".join(
                re.findall(
                    r"(?:branch_computations=\{|(?:true|false)_computation=)([^,}]*[^}]*)",
                    text,
                )
            ),
        )
    )
    for line in text.splitlines():
        head = re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line)
        if head:
            inside = head[1] in branches
        kind = re.search(
            r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)"
            r"(-start)?\(",
            line,
        )
        if kind and not inside:
            found.append(kind[1])
    return sorted(found)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_eight_devices(kind):
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind))
    params, x = layers(), jnp.tile(inputs(), (2, 1))
    frozen = jax.tree.map(lambda _: jnp.asarray(False), params)
    frozen["blocks"][0] = jax.tree.map(lambda _: jnp.asarray(True), frozen["blocks"][0])
    frozen["embed"] = jnp.asarray(True)
    want = jax.jit(masking(unrolled))(params, frozen, x)
    auto = kind == AxisType.Auto
    specs = jax.tree.map(
        lambda p: P(None, "model") if auto and p.ndim == 2 else P(), params
    )
    put = functools.partial(
        jax.tree.map, lambda v, s: jax.device_put(v, NamedSharding(mesh, s))
    )
    arguments = (
        put(params, specs),
        put(frozen, jax.tree.map(lambda _: P(), frozen)),
        jax.device_put(x, NamedSharding(mesh, P("data"))),
    )
    with jax.set_mesh(mesh):
        vg = ao.frozen_value_and_grad(unrolled, ao.block_labels(params), **EVERY)
        ours = jax.jit(vg).lower(*arguments).compile()
        theirs = jax.jit(masking(unrolled)).lower(*arguments).compile()
        got = ours(*arguments)
    assert_close(jax.tree.map(np.asarray, got), jax.tree.map(np.asarray, want), 1e-5)
    left, all_of_them = collectives_outside(ours), collectives_outside(theirs)
    assert all(left.count(k) <= all_of_them.count(k) for k in set(left))
    assert len(left) < len(all_of_them) or not auto


def test_inside_shard_map():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    params, x = layers(), jnp.tile(inputs(), (2, 1))
    frozen = jax.tree.map(lambda f: jnp.asarray(f.ndim == 2), params)

    def step(vg, params, frozen, x):
        value, grads = vg(params, frozen, x)
        return jax.lax.pmean((value, grads), "data")

    def on_all(vg):
        return jax.jit(
            jax.shard_map(
                functools.partial(step, vg),
                mesh=mesh,
                in_specs=(P(), P(), P("data")),
                out_specs=P(),
            )
        )

    got = on_all(ao.frozen_value_and_grad(unrolled, **EVERY))(params, frozen, x)
    assert_close(got, on_all(masking(unrolled))(params, frozen, x), 1e-5)


def test_flops_of_a_multilayer_perceptron():
    def loss(params, x):
        for w in params:
            x = x @ w
        return jnp.sum(x)

    params = [jnp.ones((16, 16)) for _ in range(3)]
    x = jnp.ones((4, 16))
    product = 2 * 4 * 16 * 16
    count = ao.frozen_value_and_grad(loss, **EVERY).flops(params, x)
    assert count.forward == pytest.approx(3 * product, rel=0.05)
    assert count.backward == pytest.approx(5 * product, rel=0.2)
    each = count.saved_by_each()
    # The first layer alone saves its weight gradient and what leads only there.
    assert each["0"] == pytest.approx(2 * product, rel=0.2)
    assert each["1"] == each["2"] == pytest.approx(product, rel=0.3)
    assert count.saved("0", "1") == pytest.approx(4 * product, rel=0.2)
    assert count.saved("0", "1", "2") == pytest.approx(count.backward, rel=0.1)
    assert count.saved() == 0.0
    share = count.share([True, True, jnp.asarray(False)], ["0", "1", "2"])
    assert share == pytest.approx(count.saved("0", "1") / count.backward)


def test_flops_see_into_a_scan():
    flat = ao.frozen_value_and_grad(
        unrolled, ao.block_labels(layers(), depth=1), **EVERY
    ).flops(layers(), inputs())
    params = stacked_layers()
    scan = ao.frozen_value_and_grad(
        scanned, ao.block_labels(params, depth=1), **EVERY
    ).flops(params, inputs())
    for labels in (["blocks"], ["blocks", "embed"]):
        assert scan.saved(*labels) == pytest.approx(flat.saved(*labels), rel=0.2)


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
