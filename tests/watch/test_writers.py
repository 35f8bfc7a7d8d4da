"""What is written is read back: files, TensorBoard, and loggers by their method."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptive_optax as ao
from adaptive_optax.watch import files

RUN = {
    "steps": np.array([10, 11, 12]),
    "loss": np.array([3.0, np.nan, 1.0]),
    "weights": np.array([[0.25, 0.75]] * 3),
    "encoder/learning_rate": np.array([0.1, 0.2, np.inf]),
}


EVENT = (
    '{"events": [{"step": %s, "kind": "SKIPPED", "figure": 1, "bound": 1, "before": 1, '
    '"after": 1, "last": 1, "times": 1}]}'
)


class Log:
    def __init__(self):
        self.rows = []

    def log(self, data, *, step):
        self.rows.append((step, data))


class Metrics:
    def __init__(self):
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, metrics))


@pytest.mark.parametrize("suffix", files.FORMATS)
def test_a_file_is_read_back(suffix, tmp_path):
    path = tmp_path / f"run{suffix}"
    ao.History.from_stacked(RUN).save(path)
    loaded = ao.History.load(path)
    assert set(loaded.as_dict()) == set(RUN)
    for key, column in RUN.items():
        np.testing.assert_array_equal(loaded[key], column)
        assert loaded[key].dtype.kind == column.dtype.kind


@pytest.mark.parametrize("suffix", files.FORMATS)
def test_events_are_read_back(suffix, tmp_path):
    path = tmp_path / f"run{suffix}"
    history = ao.History.from_stacked(RUN)
    skipped = ao.Event(11, ao.EventKind.SKIPPED, 9.0, 2.5, 0.1, 0.1, 12, 2)
    diverged = ao.Event(
        11, ao.EventKind.RESTORED_NONFINITE, np.inf, 0.0, 0.1, 0.1, 11, 1, "encoder/"
    )
    history._log.events += [skipped, diverged]
    history.save(path)
    loaded = ao.History.load(path)
    assert loaded.events == [skipped, diverged]
    assert set(loaded.as_dict()) == set(RUN)


def test_a_table_of_another_origin(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text('{"loss": 2, "epoch": 1}\n\n{"loss": 1.5}\n')
    loaded = ao.History.load(path)
    np.testing.assert_array_equal(loaded["loss"], [2.0, 1.5])
    np.testing.assert_array_equal(loaded["epoch"], [1.0, np.nan])
    path.write_text('{"loss": "high"}\n')
    with pytest.raises(ValueError, match="column 'loss' holds something that is no"):
        ao.History.load(path)
    path.write_text("")
    assert len(ao.History.load(path)) == 0
    with pytest.raises(ValueError, match=r"got 'run.txt'; try history.load"):
        ao.History.load("run.txt")


@pytest.mark.parametrize("kind", [Log, Metrics])
def test_loggers_get_a_row_a_step(kind):
    logger = kind()
    ao.History.from_stacked(RUN).write_to(logger, since=1)
    weights = {"adaptive/weights/0": 0.25, "adaptive/weights/1": 0.75}
    assert logger.rows == [
        (11, {**weights, "adaptive/encoder/learning_rate": 0.2}),
        (12, {"adaptive/loss": 1.0, **weights}),
    ]


def test_something_that_is_no_writer():
    with pytest.raises(TypeError, match="log_metrics.*got object; try history.write"):
        ao.History.from_stacked(RUN).write_to(object())
    with pytest.raises(TypeError, match="got object"):
        ao.log_every(object())
    with pytest.raises(ValueError, match="`every` must be at least 1, got 0"):
        ao.log_every(Log(), 0)
    with pytest.raises(TypeError, match="`prefix` must be text, got 3; try"):
        ao.log_every(Log(), prefix=3)
    with pytest.raises(ValueError, match="`since` must be at least 0, got -1; try"):
        ao.History.from_stacked(RUN).write_to(Log(), since=-1)


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("run.npz", "hello", "it is no NPZ archive"),
        ("run.jsonl", '{"loss": 1', "line 1 is cut off or no JSON .Expecting ',' del"),
        ("run.jsonl", "[1, 2]", r"row 1 is \[1, 2\], and no table of names"),
        ("run.jsonl", '{"events": [{"kind": "NOPE"}]}', "is no event that is known"),
        ("run.jsonl", EVENT % '"x"', "is no event that is known"),
        ("run.csv", "loss,step\n1,2\n1,2,3\n", "row 2 has more entries than there"),
        ("run.csv", "\x00\ud800", "codec can't decode"),
    ],
)
def test_a_file_that_holds_no_run_is_named(name, text, message, tmp_path):
    (tmp_path / name).write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(ValueError, match=f"{name}' holds no run that .*{message}"):
        ao.History.load(tmp_path / name)


@pytest.mark.parametrize(
    "places, number",
    [((6, 8), 1), ((8, 10), 99)],
    ids=["encrypted", "compressed by no known method"],
)
def test_an_archive_that_zipfile_does_not_open_is_named(places, number, tmp_path):
    path = tmp_path / "run.npz"
    np.savez(path, loss=np.ones(3))
    content = bytearray(path.read_bytes())
    for head, place in zip((b"PK\3\4", b"PK\1\2"), places, strict=True):
        at = content.find(head) + place
        content[at : at + 2] = number.to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(ValueError, match="run.npz' holds no run that"):
        ao.History.load(path)


def test_a_table_that_a_spreadsheet_wrote(tmp_path):
    # The mark in front of the first name was part of the name.
    (tmp_path / "run.csv").write_text("loss,steps\n1.5,2\n", encoding="utf-8-sig")
    assert set(ao.History.load(tmp_path / "run.csv").as_dict()) == {"loss", "steps"}


def test_an_integer_beyond_64_bits_is_a_float(tmp_path):
    (tmp_path / "run.csv").write_text(f"tokens\n{10**30}\n")
    assert ao.History.load(tmp_path / "run.csv")["tokens"].tolist() == [1e30]


def test_tensorboard_reads_it_back(tmp_path):
    tensorboard = pytest.importorskip("tensorboardX")
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        ao.History.from_stacked(RUN).write_to(writer)
    found = reader.EventAccumulator(str(tmp_path))
    found.Reload()
    assert "adaptive/weights/1" in found.Tags()["scalars"]
    losses = found.Scalars("adaptive/loss")
    assert [(x.step, x.value) for x in losses] == [(10, 3.0), (12, 1.0)]


def test_the_callback_fetches_every_so_many_steps():
    logger = Log()
    with ao.log_every(logger, every=3) as log:
        for i in range(7):
            log({"loss": jnp.float32(i)})
            assert len(logger.rows) == 3 * ((i + 1) // 3)
    rows = [(i + 1, {"adaptive/loss": float(i)}) for i in range(7)]
    assert logger.rows == rows
    np.testing.assert_array_equal(log.history["loss"], np.arange(7.0))


def test_the_callback_keeps_the_events():
    tx, params = ao.adaptive_sgd(0.1), {"w": jnp.ones(2)}
    state = tx.init(params)
    whole = ao.History()
    with ao.log_every(Log(), every=2) as log:
        for loss in (1.0, np.nan, 1.0, np.nan, np.nan):
            _, state = update(tx, params, state, loss)
            log(state)
            whole.append(state)
    assert log.history.events == whole.events
    assert [event.times for event in whole.events] == [3]


@functools.partial(jax.jit, static_argnums=0)
def update(tx, params, state, loss):
    return tx.update(params, state, params, value=loss)


def test_the_callback_writes_the_last_steps_of_a_run_that_failed():
    logger = Log()
    with pytest.raises(RuntimeError, match="out of data"):
        with ao.log_every(logger) as log:
            log({"loss": jnp.float32(1.0)})
            raise RuntimeError("out of data")
    assert logger.rows == [(1, {"adaptive/loss": 1.0})]
