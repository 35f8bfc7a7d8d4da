"""Steps compiled for their frozen set: which one runs, and what it computes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from tests.freeze.losses import inputs, layers, unrolled


def masks(*frozen):
    tree = jax.tree.map(lambda _: jnp.asarray(False), layers())
    for name in frozen:
        part = tree["blocks"][int(name)] if name.isdigit() else tree[name]
        found = jax.tree.map(lambda _: jnp.asarray(True), part)
        if name.isdigit():
            tree["blocks"][int(name)] = found
        else:
            tree[name] = found
    return tree


def train_step():
    """A step, and the list of the masks it has been traced with."""
    vg = ao.frozen_value_and_grad(unrolled, min_flops=0.0)
    tx = ao.hold_frozen(optax.adam(1e-2))
    traced = []

    def step(frozen, params, state, x):
        traced.append(sum(map(bool, jax.tree.leaves(frozen))))
        loss, grads = vg(params, frozen, x)
        updates, state = tx.update(grads, state, params, frozen=frozen)
        return ao.apply_updates(params, updates, frozen), state, loss

    return step, tx, traced


def test_equals_the_dynamic_step_and_donates():
    step, tx, traced = train_step()
    staged = ao.StagedStep(step, donate_argnums=(1, 2), patience=0)
    ours = theirs = layers(), tx.init(layers())
    for frozen in (masks(), masks("0"), masks("0", "embed"), masks("0"), masks()):
        before = ours[0]
        *theirs, want = masked(tx, frozen, *theirs)
        *ours, loss = staged(frozen, *ours, inputs())
        np.testing.assert_allclose(loss, want, rtol=1e-6)
        assert before["head"].is_deleted()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        ours,
        theirs,
    )
    assert traced == [0, 2, 3]  # each set once


def masked(tx, frozen, params, state):
    loss, grads = jax.value_and_grad(unrolled)(params, inputs())
    grads = jax.tree.map(lambda f, g: jnp.where(f, 0 * g, g), frozen, grads)
    updates, state = tx.update(grads, state, params, frozen=frozen)
    return ao.apply_updates(params, updates, frozen), state, loss


class Clock:
    """Compiling takes 10 seconds and a step one, less what is frozen."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(
            "adaptive_optax.freeze.staged_step.time.perf_counter", lambda: self.now
        )

    def step(self, frozen, x):
        # Runs while tracing only: the time of a compilation.
        self.now += 10.0
        return x + sum(map(bool, jax.tree.leaves(frozen)))


def run(staged, clock, frozen, times):
    """Call it; the number of frozen leaves that it ran with."""
    ran = []
    for _ in range(times):
        ran.append(int(staged(frozen, jnp.zeros((), jnp.int32))))
        clock.now += 1.0 - ran[-1] / 10
    return ran


def flags(*values):
    return [jnp.asarray(bool(v)) for v in values]


def test_a_set_is_compiled_once_it_has_stood_and_would_pay(monkeypatch):
    clock = Clock(monkeypatch)
    staged = ao.StagedStep(clock.step, patience=5)
    assert run(staged, clock, flags(0, 0, 0, 0), 10) == [0] * 10
    # Half of the leaves: a guessed .375 of a second a step, so 27 steps for 10 seconds.
    ran = run(staged, clock, flags(1, 1, 0, 0), 40)
    assert ran.index(2) == 26
    # A probe and a thaw are served at once; the set is there when they are over.
    assert run(staged, clock, flags(0, 0, 0, 0), 1) == [0]
    assert run(staged, clock, flags(1, 1, 0, 0), 1) == [2]
    assert run(staged, clock, flags(1, 0, 0, 0), 3) == [0] * 3
    # A larger set runs as the smaller until it has stood itself.
    ran = run(staged, clock, flags(1, 1, 1, 0), 3)
    assert ran == [2] * 3
    shares = [row["frozen_share"] for row in staged.report()]
    assert sorted(shares) == [0.0, 0.5]
    half = max(staged.report(), key=lambda row: row["frozen_share"])
    assert half["compile_seconds"] == 10.0
    assert half["step_seconds"] == pytest.approx(0.8)
    assert half["break_even_steps"] == pytest.approx(10 / 0.2)


def test_a_set_waits_for_its_patience_where_it_would_pay_before(monkeypatch):
    clock = Clock(monkeypatch)
    staged = ao.StagedStep(clock.step, patience=40)
    run(staged, clock, flags(0, 0, 0, 0), 2)
    assert run(staged, clock, flags(1, 1, 0, 0), 50).index(2) == 39


def test_a_probe_does_not_start_the_wait_anew_and_a_thaw_does(monkeypatch):
    clock = Clock(monkeypatch)
    staged = ao.StagedStep(clock.step, patience=5)
    run(staged, clock, flags(0, 0), 2)
    ran = []
    for _ in range(6):
        ran += run(staged, clock, flags(1, 1), 5) + run(staged, clock, flags(0, 0), 10)
    assert 2 in ran
    other = ao.StagedStep(clock.step, patience=5)
    run(other, clock, flags(0, 0), 2)
    ran = []
    for _ in range(6):
        ran += run(other, clock, flags(1, 1), 5) + run(other, clock, flags(0, 0), 11)
    assert 2 not in ran


def test_flapping_masks_compile_nothing(monkeypatch):
    clock = Clock(monkeypatch)
    staged = ao.StagedStep(clock.step, patience=3)
    for t in range(60):
        run(staged, clock, flags(t % 2, 1 - t % 2), 1)
    assert len(staged.report()) == 1


def test_the_least_recently_used_variant_goes():
    step, tx, traced = train_step()
    staged = ao.StagedStep(step, patience=0, max_variants=2)
    params, state = layers(), tx.init(layers())
    for names in ((), ("0",), ("1",), ("0",), ("2",), ("0",), (), ("1",)):
        staged(masks(*names), params, state, inputs())
    assert len(traced) == 5  # nothing, 0, 1, 2, and 1 again
    assert len(staged.report()) == 3


def test_layers_of_a_stacked_leaf():
    staged = ao.StagedStep(lambda frozen, x: x + np.sum(frozen["w"]), patience=0)
    assert staged({"w": jnp.asarray([True, False, True])}, jnp.zeros(())) == 2.0


def test_follows_the_law_and_its_probes():
    vg = ao.frozen_value_and_grad(unrolled, min_flops=0.0)
    tx = ao.freeze_by_grad_norm(
        1e9, optax.adam(1e-2), warmup=3, min_dwell=2, probe_every=4
    )
    skipped = []

    def step(frozen, params, state, x):
        skipped.append(sum(map(bool, jax.tree.leaves(frozen))))
        _, grads = vg(params, frozen, x)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    staged = ao.StagedStep(step, patience=0)
    params, state = layers(), tx.init(layers())
    with pytest.warns(UserWarning, match="everything is frozen"):
        for _ in range(10):
            params, state = staged(ao.skip_mask(state, params), params, state, inputs())
    assert skipped == [0, len(jax.tree.leaves(params))]


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"step": 3}, TypeError, "`step`.*got 3.*StagedStep\\(train_step"),
        ({"max_variants": 0}, ValueError, "`max_variants`.*0"),
        ({"patience": -1}, ValueError, "`patience`.*-1"),
        ({"patience": 1.5}, TypeError, "`patience`.*1.5"),
        ({"donate_argnums": 0}, ValueError, "give the mask away"),
    ],
)
def test_bad_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        ao.StagedStep(**{"step": lambda frozen: frozen, **arguments})


def test_masks_must_be_boolean():
    staged = ao.StagedStep(lambda frozen, x: x, patience=0)
    with pytest.raises(TypeError, match="booleans, got float32.*skip_mask"):
        staged([jnp.ones(())], 0)
