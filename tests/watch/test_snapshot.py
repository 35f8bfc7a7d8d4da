import csv

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from adaptive_optax.watch import snapshot as watching
from adaptive_optax.watch.history import History
from adaptive_optax.watch.snapshot import snapshot
from tests.helpers import few

PARAMS = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(3)}
BARE = {"average": False, "recovery": False}
SCHEDULER_KEYS = {
    "learning_rate",
    "lr_scale",
    "momentum",
    "sigma",
    "frozen_fraction",
    "loss",
    "loss_fast",
    "loss_trend",
    "loss_variance_ratio",
    "success",
    "reward",
    "reward_trend",
    "grad_norm",
    "grad_norm_z",
    "alignment",
    "alignment_mean",
    "alignment_sem",
    "dog_step_size",
    "steps",
    "fed",
    "nonfinite_values",
    "nonfinite_rewards",
    "nonfinite_gradients",
    "nonfinite_steps",
    "lost_parameters",
    "restores",
    "strikes",
    "audit_left",
    "audit_failures",
    "skipped",
    "average_count",
    "event_count",
    "event_observed",
}


def scheduler(**options):
    return ao.adaptive_scheduler(
        optax.adam, **{"learning_rate": 0.1, "momentum": 0.8, **options}
    )


def loss_fn(params):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))


def train(tx, steps=3, params=PARAMS, **feedback):
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, state = tx.update(grads, state, params, **{"value": loss, **feedback})
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def test_keys_and_values_of_a_scheduler():
    _, state = train(scheduler(), reward=2.5)
    shot = snapshot(state)
    assert set(shot) == SCHEDULER_KEYS
    assert shot["steps"] == 3
    assert shot["learning_rate"] == pytest.approx(0.1 * 4 / 20)  # it warms up
    assert shot["lr_scale"] == 1.0
    assert shot["momentum"] == jnp.float32(0.8)
    assert shot["reward"] == 2.5
    assert shot["loss"] == state.readings[0, 0] < loss_fn(PARAMS)
    assert shot["grad_norm"] > 0
    assert shot["success"] == 1.0  # of the loss; a reward that stays has none
    assert all(isinstance(x, jax.Array) for x in shot.values())
    assert all(np.isfinite(float(x)) for x in shot.values())  # a logger wants numbers
    tables = {key: x.shape for key, x in shot.events.items()}
    assert tables == {"event_runs": (8, 4), "event_figures": (8, 4)}


def test_a_snapshot_goes_through_transformations_with_its_events():
    _, state = train(scheduler())
    shot = snapshot(state)
    chex.assert_trees_all_equal(jax.jit(snapshot)(state), shot)
    assert isinstance(jax.tree.map(lambda x: x, shot), ao.Snapshot)
    (many,) = jax.lax.scan(lambda _, x: (None, (snapshot(state),)), None, jnp.ones(3))[
        1
    ]
    assert many["loss"].shape == (3,) and many.events["event_runs"].shape == (3, 8, 4)
    paths = jax.tree_util.tree_flatten_with_path(shot)[0]
    names = {jax.tree_util.keystr(path) for path, _ in paths}
    assert "['loss']" in names and ".events['event_runs']" in names
    assert "event_runs" not in {**shot, "epoch": 1}


def test_all_is_unpacked_in_one_dispatch():
    # Entry by entry it took fifty times as long.
    _, state = train(scheduler())
    held = {id(leaf) for leaf in jax.tree.leaves(state)}
    assert {id(x) for x in watching._fields(state).values()} <= held


def test_nonfinite_feedback_is_counted_by_its_kind():
    tx = scheduler(**BARE)
    state, update = tx.init(PARAMS), jax.jit(tx.update)
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    nans = jax.tree.map(lambda x: x * jnp.nan, PARAMS)
    for grads, feedback in [
        (zeros, {"value": jnp.nan}),
        (zeros, {"value": jnp.inf}),
        (zeros, {"value": 1.0, "reward": jnp.nan}),
        (nans, {"value": 1.0}),
    ]:
        _, state = update(grads, state, PARAMS, **feedback)
    shot = snapshot(state)
    assert shot["nonfinite_values"] == 2
    assert shot["nonfinite_rewards"] == 1
    assert shot["nonfinite_gradients"] == 1
    assert shot["loss"] == 1.0


WRAPPERS = {
    "chain": lambda tx: optax.chain(optax.clip_by_global_norm(1.0), tx),
    "named_chain": lambda tx: optax.named_chain(("clip", optax.clip(1)), ("loop", tx)),
    "masked": lambda tx: optax.masked(tx, {"w": True, "b": False}),
    "partition": lambda tx: optax.partition(
        {"loop": tx, "rest": optax.sgd(0.1)}, {"w": "loop", "b": "rest"}
    ),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 1).gradient_transformation(),
    "finite": lambda tx: optax.apply_if_finite(tx, 3),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_found_inside_before_the_first_step(wrapper):
    shot = snapshot(WRAPPERS[wrapper](scheduler()).init(PARAMS))
    assert set(shot) == SCHEDULER_KEYS
    assert shot["steps"] == 0 and shot["learning_rate"] == np.float32(0.1)


@pytest.mark.parametrize("wrapper", few(WRAPPERS, ("chain", "partition")))
def test_found_inside(wrapper):
    _, state = train(WRAPPERS[wrapper](scheduler()), steps=2)
    shot = snapshot(state)
    assert set(shot) == SCHEDULER_KEYS
    assert shot["steps"] == 2
    assert shot["loss"] > 0


def test_found_in_an_nnx_optimizer():
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, scheduler(), wrt=nnx.Param)
    grads = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    optimizer.update(model, grads, value=jnp.float32(4.5))
    shot = snapshot(optimizer.opt_state)
    assert set(shot) == SCHEDULER_KEYS
    assert shot["loss"] == 4.5
    assert all(type(x) is type(jnp.ones(())) for x in shot.values())


@pytest.mark.parametrize(
    ("tx", "expected"),
    [
        (ao.add_dither(0.1), {"dither_count": 3}),
        (ao.average_params(every=1), {"average_count": 3}),
        (ao.freeze_by_grad_norm(1e9, warmup=0, min_dwell=0), {"frozen_leaves": 1.0}),
        (
            ao.freeze_by_grad_norm(0.0, optax.adam(0.1)),
            {"frozen_leaves": 0.0},
        ),
        (
            ao.scale_by_rule(ao.rules.trend()),
            {"steps": 3, "nonfinite_values": 0},
        ),
        (
            ao.restore_on_divergence(optax.sgd(0.1)),
            {"restores": 0, "audit_failures": 0, "steps": 3},
        ),
    ],
    ids=["dither", "average", "freeze", "freeze_inner", "rule", "restore"],
)
def test_parts_by_themselves(tx, expected):
    _, state = train(optax.chain(optax.identity(), tx))
    shot = snapshot(state)
    for key, value in expected.items():
        assert shot[key] == value


def test_parts_side_by_side_are_read_together():
    tx = optax.chain(optax.adam(0.1), ao.add_dither(1e-3), ao.average_params())
    assert set(snapshot(tx.init(PARAMS))) == {"dither_count", "average_count"}


def test_weights_of_every_blend():
    law = ao.blend(ao.rules.trend(), ao.rules.variance(), weights=(3, 1))
    tx = scheduler(rule=law, momentum_rule=law)
    shot = snapshot(tx.init(PARAMS))
    np.testing.assert_allclose(shot["weights"], [0.75, 0.25])
    np.testing.assert_allclose(shot["momentum_weights"], [0.75, 0.25])
    assert "sigma_weights" not in shot


def test_two_schedulers_are_told_apart():
    tx = optax.partition(
        {"slow": scheduler(learning_rate=0.1), "fast": scheduler(learning_rate=0.2)},
        {"w": "slow", "b": "fast"},
    )
    shot = snapshot(tx.init(PARAMS))
    assert shot["slow/learning_rate"] == jnp.float32(0.1)
    assert shot["fast/learning_rate"] == jnp.float32(0.2)
    assert len(shot) == 2 * len(SCHEDULER_KEYS)


@pytest.mark.parametrize("state", [optax.adam(0.1).init(PARAMS), PARAMS, None, ()])
def test_no_adaptive_state_shows_the_call(state):
    with pytest.raises(ValueError, match=r"snapshot\(opt_state\).*adaptive_scheduler"):
        snapshot(state)


def test_the_state_may_be_donated_afterwards():
    tx = scheduler(**BARE)
    state = tx.init(PARAMS)
    history = History()
    step = jax.jit(
        lambda state: tx.update(PARAMS, state, PARAMS, value=1.0)[1],
        donate_argnums=0,
    )
    for _ in range(3):
        history.append(state)
        state = step(state)
    np.testing.assert_array_equal(history["steps"], [0, 1, 2])


def test_nothing_waits_for_the_device():
    # A transfer would raise; the arguments of the first call are made outside.
    tx = scheduler(**BARE)
    _, state = train(tx)
    history = History()
    history.append(state)
    with jax.transfer_guard_device_to_host("disallow"):
        history.append(state)
        history.append(snapshot(state), extra=state.learning_rate)
    assert len(history) == 3


def test_scan_and_vmap():
    tx = scheduler(**BARE)

    def run(scale):
        def step(carry, _):
            params, state = carry
            loss, grads = jax.value_and_grad(loss_fn)(params)
            updates, state = tx.update(grads, state, params, value=loss)
            params = optax.apply_updates(params, updates)
            return (params, state), snapshot(state)

        params = jax.tree.map(lambda x: scale * x, PARAMS)
        return jax.lax.scan(step, (params, tx.init(params)), length=4)

    (_, state), stacked = jax.jit(run)(1.0)
    _, loop_state = train(tx, steps=4)
    history = History.from_stacked(stacked)
    assert len(history) == 4
    np.testing.assert_array_equal(history["steps"], [1, 2, 3, 4])
    np.testing.assert_allclose(history["loss"][-1], snapshot(loop_state)["loss"])

    (_, states), stacked = jax.jit(jax.vmap(run))(jnp.array([1.0, 2.0]))
    assert snapshot(states)["loss"].shape == (2,)
    np.testing.assert_allclose(
        snapshot(states)["loss"][0], snapshot(state)["loss"], rtol=1e-6
    )


class TestHistory:
    def test_missing_keys_read_nan(self):
        history = History()
        history.append({"loss": 2.0})
        history.append({"loss": 1.0}, accuracy=0.5)
        history.extend({"loss": np.array([0.5, 0.25])})
        history.append(accuracy=0.75)
        assert len(history) == 5
        np.testing.assert_array_equal(history["loss"], [2.0, 1.0, 0.5, 0.25, np.nan])
        np.testing.assert_array_equal(
            history["accuracy"], [np.nan, 0.5, np.nan, np.nan, 0.75]
        )

    def test_reading_in_between_changes_nothing(self):
        whole, looked_at = History(), History()
        for i in range(2500):  # beyond what waits on the device
            for history in (whole, looked_at):
                history.append({"i": i, "v": np.array([i, -i])})
            if i % 700 == 0:
                assert len(looked_at["i"]) == i + 1
        np.testing.assert_array_equal(whole["i"], np.arange(2500))
        for key, column in whole.as_dict().items():
            np.testing.assert_array_equal(looked_at[key], column)
        assert whole["v"].shape == (2500, 2)

    def test_few_steps_wait_on_the_device(self):
        history = History()
        for i in range(3000):
            history.append({"i": i})
        assert len(history._pending) < 1100

    def test_extras_win(self):
        history = History()
        history.append({"loss": 2.0}, loss=3.0)
        assert history["loss"] == 3.0

    def test_empty(self):
        assert len(History()) == 0
        assert History().as_dict() == {}
        with pytest.raises(KeyError, match="'loss'; there are none"):
            History()["loss"]
        with pytest.raises(ValueError, match=r"history.append\(opt_state\)"):
            History().append()

    def test_unequal_lengths(self):
        with pytest.raises(ValueError, match="same number of steps.*'b': 3"):
            History().extend({"a": np.ones(2), "b": np.ones(3)})
        with pytest.raises(ValueError, match="same number of steps"):
            History().extend({"a": 1.0})

    def test_tracers_are_refused(self):
        history = History()

        @jax.jit
        def step(x):
            history.append({"x": x})

        with pytest.raises(TypeError, match=r"return snapshot\(opt_state\)"):
            step(1.0)
        assert len(history) == 0

    def test_a_named_chain_is_a_state(self):
        history = History()
        history.append(optax.named_chain(("loop", scheduler())).init(PARAMS))
        assert history["learning_rate"] == np.float32(0.1)

    def test_npz(self, tmp_path):
        history = self.filled()
        history.save(tmp_path / "run.npz")
        loaded = History.load(tmp_path / "run.npz")
        assert len(loaded) == 3
        for key, column in history.as_dict().items():
            np.testing.assert_array_equal(loaded[key], column)

    def test_csv(self, tmp_path):
        self.filled().save(tmp_path / "run.csv")
        with open(tmp_path / "run.csv") as file:
            rows = list(csv.DictReader(file))
        assert [float(row["loss"]) for row in rows] == [0.0, 1.0, 2.0]
        assert [float(row["weights/1"]) for row in rows] == [0.75] * 3

    def test_unknown_suffix(self, tmp_path):
        with pytest.raises(ValueError, match=r"\.csv or \.jsonl, got .*run\.txt"):
            self.filled().save(tmp_path / "run.txt")

    def test_writer(self):
        written = []

        class Writer:
            def add_scalar(self, tag, value, step):
                written.append((tag, value, step))

        history = self.filled()
        history.append({"steps": 13, "loss": np.nan, "weights": np.array([0.5, 0.5])})
        history.write_to(Writer(), prefix="train/", since=2)
        assert written == [
            ("train/loss", 2.0, 12),
            ("train/weights/0", 0.25, 12),
            ("train/weights/0", 0.5, 13),
            ("train/weights/1", 0.75, 12),
            ("train/weights/1", 0.5, 13),
        ]

    def test_without_a_count_steps_are_written_from_one_on(self):
        written = []

        class Writer:
            def add_scalar(self, tag, number, step):
                written.append((tag, number, step))

        history = History.from_stacked({"loss": np.array([3.0, 2.0])})
        history.write_to(Writer())
        assert written == [("adaptive/loss", 3.0, 1), ("adaptive/loss", 2.0, 2)]

    def test_tensorboard(self, tmp_path):
        tensorboard = pytest.importorskip("tensorboardX")
        with tensorboard.SummaryWriter(str(tmp_path)) as writer:
            self.filled().write_to(writer)
        (events,) = tmp_path.iterdir()
        assert b"adaptive/weights/1" in events.read_bytes()

    @staticmethod
    def filled():
        history = History()
        for i in range(3):
            history.append(
                {
                    "steps": 10 + i,
                    "loss": jnp.bfloat16(i),
                    "weights": np.array([0.25, 0.75]),
                }
            )
        return history


def test_a_copy_keeps_the_events():
    shot = ao.Snapshot({"loss": jnp.ones(())}, {"event_runs": jnp.zeros((8, 4))})
    assert shot.copy().events.keys() == shot.events.keys()
