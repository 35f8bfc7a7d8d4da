"""Parameters and gradients as users have them, and trees that do not fit."""

import collections
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao

LEAN = {"average": False, "recovery": False}
MAKERS = {
    "adaptive_scheduler": lambda: ao.adaptive_scheduler(optax.adam, 0.1),
    "without copies": lambda: ao.adaptive_adam(0.1, **LEAN),
    "freezing": lambda: ao.adaptive_adam(0.1, freeze_threshold=1e-3, **LEAN),
    "dither": lambda: ao.adaptive_adam(0.1, sigma=1e-3, **LEAN),
    "freeze_by_grad_norm": lambda: ao.freeze_by_grad_norm(1e-3, optax.adam(0.1)),
    "average_params": lambda: optax.chain(optax.sgd(0.1), ao.average_params()),
    "scale_by_rule": lambda: optax.chain(
        optax.sgd(0.1), ao.scale_by_rule(ao.rules.trend())
    ),
    "add_dither": lambda: optax.chain(optax.sgd(0.1), ao.add_dither(1e-3)),
    "filters.adam": lambda: ao.filters.adam(0.1),
}


def step(tx, params, grads, state=None, **extra):
    tx = optax.with_extra_args_support(tx)
    state = tx.init(params) if state is None else state
    return tx.update(grads, state, params, value=1.0, **extra)


@pytest.fixture(params=MAKERS)
def tx(request):
    return MAKERS[request.param]()


@pytest.mark.parametrize("number", [2.0, np.float32(2.0)], ids=["Python", "NumPy"])
def test_numbers_are_parameters(tx, number):
    params = {"a": number, "b": [number]}
    updates, state = step(tx, params, jax.tree.map(lambda x: x, params))
    moved = optax.apply_updates(params, updates)
    assert moved["a"] < 2.0
    step(tx, params, params, state)


def test_what_has_no_gradient_is_left_out(tx):
    # As `equinox.filter_grad` gives it: None where a parameter is not trained.
    trained = {"w": jnp.ones((3, 2)), "index": None}
    every = {"w": trained["w"], "index": jnp.array([0, 1])}
    state = tx.init(trained)
    for _ in range(2):
        updates, state = step(tx, every, trained, state)
    assert updates["index"] is None and jnp.any(updates["w"] != 0)


def test_boolean_leaves_are_left_alone():
    params = {"w": jnp.ones(3), "keep": jnp.array([True, False])}
    grads = {"w": jnp.ones(3), "keep": jnp.zeros(2, bool)}
    tx = ao.adaptive_scheduler(optax.sgd, 0.1)
    updates, _ = step(tx, params, grads)
    moved = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(moved["keep"], params["keep"])


def test_a_defaultdict_under_a_partition():
    params = collections.defaultdict(
        dict, a={"w": jnp.ones((4, 4))}, b={"w": jnp.ones(3)}
    )
    step(ao.adaptive_scheduler(optax.contrib.muon, 0.1), params, params)


@functools.partial(jax.tree_util.register_dataclass)
@dataclasses.dataclass
class Net:
    w: object
    b: object

    def __call__(self, x):
        return x @ self.w + self.b


def test_a_callable_tree_is_a_tree():
    params = Net(jnp.ones((4, 4)), jnp.zeros(4))
    labels = ao.block_labels(params)
    loss = lambda p: jnp.mean((p(jnp.ones((8, 4))) - 1) ** 2)  # noqa: E731
    value, grads = ao.frozen_value_and_grad(loss, labels)(params, Net(True, False))
    assert not grads.w.any() and grads.b.any()
    freeze = ao.Freeze(1e-3, groups=labels)
    tx = ao.adaptive_adam(1e-2, freeze=freeze, **LEAN)
    tx.update(grads, tx.init(params), params, value=value)


@pytest.mark.parametrize("how", ["scheduler", "hold_frozen"])
def test_lbfgs_with_frozen_leaves(how):
    params = {"a": jnp.ones(3), "b": jnp.ones(2)}

    def loss(p):
        return jnp.sum((p["a"] - 2) ** 2) + jnp.sum(p["b"] ** 4)

    grads = jax.grad(loss)(params)
    extra = {"grad": grads, "value_fn": loss}
    tx = ao.adaptive_scheduler(optax.lbfgs(), freeze_threshold=1e-6, **LEAN)
    if how == "hold_frozen":
        tx, extra["frozen"] = ao.hold_frozen(optax.lbfgs()), {"a": True, "b": False}
    updates, _ = step(tx, params, grads, **extra)
    assert jnp.any(updates["a"] != 0) == (how == "scheduler")
    assert jnp.any(updates["b"] != 0)


class TestInfinities:
    """A causal mask among the parameters: -inf for good, with a gradient of zero."""

    params = {
        "w": jnp.ones(4),
        "mask": jnp.where(jnp.tril(jnp.ones((4, 4))) > 0, 0.0, -jnp.inf),
    }

    def run(self, tx, steps, poison=()):
        def loss(p):
            attention = jax.nn.softmax(jax.lax.stop_gradient(p["mask"]), -1)
            return jnp.sum(attention @ p["w"] ** 2) + 1

        @jax.jit
        def one(p, s, factor):
            value, grads = jax.value_and_grad(loss)(p)
            updates, s = tx.update(grads, s, p, value=value * factor)
            return optax.apply_updates(p, updates), s

        p, s = self.params, tx.init(self.params)
        for t in range(steps):
            p, s = one(p, s, jnp.float32(jnp.nan if t in poison else 1.0))
        return p, s

    def test_a_restore_leaves_them_and_the_average_goes_on(self):
        tx = ao.restore_on_divergence(
            optax.with_extra_args_support(optax.adam(0.01)), average=True
        )

        def poisoned(updates, state, params, *, value):
            bad = jax.tree.map(
                lambda g: jnp.where(jnp.isnan(value), jnp.nan, g), updates
            )
            return tx.update(bad, state, params, value=value)

        loop = optax.GradientTransformationExtraArgs(tx.init, poisoned)
        params, state = self.run(loop, 100, poison=range(80, 90))
        assert ao.snapshot(state)["restores"] > 0
        np.testing.assert_array_equal(params["mask"], self.params["mask"])
        assert jnp.isfinite(params["w"]).all()
        assert ao.snapshot(state)["average_count"] > 0
        mean = ao.eval_params(state, params)
        np.testing.assert_array_equal(mean["mask"], self.params["mask"])
        assert (mean["w"] < 1).all() and (mean["w"] > params["w"]).all()

    def test_what_becomes_finite_is_averaged_from_there(self):
        tx = ao.average_params(every=1)
        for start in (jnp.inf, -jnp.inf):
            state = tx.init({"best": jnp.array([0.0])})
            for value in (start, start, 2.0, 2.0):
                params = {"best": jnp.array([value])}
                _, state = tx.update(params, state, params)
            np.testing.assert_array_equal(ao.eval_params(state, params)["best"], 2.0)

    def test_the_average_still_waits_for_what_diverges(self):
        tx = ao.average_params()
        state = tx.init({"w": jnp.ones(2)})
        for value in (1.0, 1.0, jnp.inf, jnp.inf):
            params = {"w": jnp.full(2, value)}
            _, state = tx.update(params, state, params)
        np.testing.assert_array_equal(ao.eval_params(state, params)["w"], 1.0)

    def test_dither(self):
        tx = ao.add_dither(1e-3)
        zeros = jax.tree.map(jnp.zeros_like, self.params)
        updates, _ = tx.update(zeros, tx.init(self.params), self.params)
        moved = optax.apply_updates(self.params, updates)
        assert not jnp.isnan(moved["mask"]).any()


TX = ao.adaptive_scheduler(optax.adam, 1e-3)
P = {"w": jnp.ones(3), "b": jnp.zeros(())}
S = TX.init(P)
W = {"w": P["w"]}
WRONG = {
    "a leaf of the gradient is missing": (lambda: TX.update(W, S, P), "lacks 'b'"),
    "a gradient of something else": (
        lambda: TX.update({**P, "c": P["b"]}, S, P),
        "has 'c', which `params` have not",
    ),
    "both are of another model": (
        lambda: TX.update(W, S, W),
        "adaptive_scheduler was initialised with: their tree lacks 'b'",
    ),
    "no gradient for what was to be trained": (
        lambda: TX.update({"w": P["w"], "b": None}, S, P),
        "lacks 'b'.*tx.init",
    ),
    "a gradient of another shape": (
        lambda: TX.update({**P, "w": jnp.ones(4)}, S, P),
        r"'w' has shape \(4,\), its parameter \(3,\)",
    ),
    "a schedule before the optimizer": (
        lambda: ao.adaptive_scheduler(optax.constant_schedule(1e-3), optax.adam),
        "optimizer comes first",
    ),
    "state and params swapped": (lambda: TX.update(P, P, S), "swapped"),
    "a state restored into a dict": (
        lambda: TX.update(P, S._asdict(), P),
        "must be the AdaptiveSchedulerState.*got dict",
    ),
    "the rate before the optimizer": (
        lambda: ao.adaptive_scheduler(1e-3, optax.adam),
        r"optimizer comes first.*adaptive_scheduler\(optax.adamw",
    ),
    "two optimizers": (
        lambda: ao.adaptive_scheduler(optax.adam, optax.adam(1e-3)),
        "optimizer comes first",
    ),
    "loss and aux": (
        lambda: TX.update(P, S, P, value=(1.0, {})),
        r"tuple of 2.*has_aux=True.*value\[0\]",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_said(name):
    call, message = WRONG[name]
    with pytest.raises((TypeError, ValueError), match=message):
        call()
