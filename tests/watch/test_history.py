"""A history: what it takes, how it reads, and what it refuses."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adaptive_optax.watch.history import History
from tests.watch.training import PARAMS, scheduler


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
