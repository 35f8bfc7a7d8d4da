"""W&B, trackio and MLflow themselves: what is written to them is read back.

They are no extras of the package; the tests skip where they are not installed.
"""

import json
import sqlite3
import struct
import time

import numpy as np
import pytest

import adaptive_optax as ao

RUN = {
    "steps": np.array([10, 11, 12]),
    "loss": np.array([3.0, np.nan, 1.0]),
    "weights": np.array([[0.25, 0.75]] * 3),
}
ROWS = {10: (3.0, 0.25), 11: (None, 0.25), 12: (1.0, 0.25)}
NAMES = "adaptive/loss", "adaptive/weights/0"


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_SILENT", "DO_NOT_TRACK", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("as_module", [False, True])
def test_wandb(as_module, tmp_path):
    wandb = pytest.importorskip("wandb")
    records = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    with wandb.init(project="test", dir=tmp_path) as run:
        ao.History.from_stacked(RUN).write_to(wandb if as_module else run)
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    found, over = {}, False
    while not over:  # W&B writes on for a while after the run
        time.sleep(0.1)
        for data in logged(file.read_bytes()):
            record = records.Record.FromString(data)
            over |= record.WhichOneof("record_type") == "exit"
            if record.WhichOneof("record_type") == "history":
                told = {"/".join(x.nested_key) or x.key: x for x in record.history.item}
                numbers = (told[n].value_json if n in told else "null" for n in NAMES)
                found[record.history.step.num] = tuple(map(json.loads, numbers))
    assert found == ROWS


def logged(data, header=7, block=32768):
    """The records of a LevelDB log, which W&B's file is, behind a header of its own."""
    at, record = header, b""
    while at + header <= len(data):
        if block - at % block < header:
            at += block - at % block
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        at += header
        if at + length > len(data):  # not written yet
            return
        record += data[at : at + length]
        at += length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


@pytest.mark.filterwarnings("ignore")
def test_trackio(tmp_path):
    trackio = pytest.importorskip("trackio")
    trackio.init(project="test")
    ao.History.from_stacked(RUN).write_to(trackio)
    trackio.finish()
    with sqlite3.connect(tmp_path / "trackio" / "test.db") as base:
        rows = base.execute("select step, metrics from metrics").fetchall()
    told = {step: json.loads(numbers) for step, numbers in rows}
    assert {step: tuple(map(x.get, NAMES)) for step, x in told.items()} == ROWS


@pytest.mark.filterwarnings("ignore")
def test_mlflow(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
    with mlflow.start_run() as run:
        ao.History.from_stacked(RUN).write_to(mlflow)
    for column, name in enumerate(NAMES):
        told = mlflow.MlflowClient().get_metric_history(run.info.run_id, name)
        wanted = {step: row[column] for step, row in ROWS.items()}
        assert {x.step: x.value for x in told} == {
            step: x for step, x in wanted.items() if x is not None
        }
