"""`python -m adaptive_optax`: what a user types, and what comes back."""

import subprocess
import sys

import numpy as np
import pytest

import adaptive_optax as ao
from adaptive_optax.watch import doctor

pytest.importorskip("tyro")


def command(monkeypatch, *arguments):
    from adaptive_optax import __main__

    monkeypatch.setattr(sys, "argv", ["adaptive_optax", *map(str, arguments)])
    __main__.main()


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "run.csv"
    steps = np.arange(1, 61)
    columns = {"steps": steps, "loss": 2.0 / steps, "learning_rate": 1e-3 * steps}
    ao.History.from_stacked(columns).save(path)
    return path


def test_plot(run, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    command(monkeypatch, "plot", run, "-o", tmp_path / "loop.svg", "--title", "a run")
    assert "a run" in (tmp_path / "loop.svg").read_text()
    assert "loop.svg" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".npz"])
def test_explain(suffix, tmp_path, monkeypatch, capsys):
    path = tmp_path / f"run{suffix}"
    columns = {
        "steps": np.arange(1, 31),
        "loss": 2.0 / np.arange(1, 31),
        "lr_scale": np.ones(30),
        "event_count": np.ones(30, int),
        "event_observed": np.zeros(30),
    }
    history = ao.History.from_stacked(columns)
    history._log.events.append(
        ao.Event(12, ao.EventKind.SKIPPED, 9.0, 2.5, 0.1, 0.1, 12, 1)
    )
    history.save(path)
    command(monkeypatch, "explain", path)
    assert capsys.readouterr().out.startswith("step 12: skipped 1 batch whose loss")


def test_explain_without_events(run, monkeypatch):
    with pytest.raises(SystemExit, match="no events of adaptive_scheduler in it"):
        command(monkeypatch, "explain", run)


def test_a_mistake_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="No such file or directory: '.*run.csv'"):
        command(monkeypatch, "plot", tmp_path / "run.csv")
    with pytest.raises(SystemExit, match="suffix of a picture, got 'loop'; try -o lo"):
        command(monkeypatch, "plot", tmp_path / "run.csv", "-o", "loop")
    with pytest.raises(SystemExit, match="must end in .npz, .csv or .jsonl, got"):
        command(monkeypatch, "plot", tmp_path / "run.txt")


@pytest.mark.parametrize("text", ["", "loss,steps\n"])
@pytest.mark.parametrize("what", ["explain", "plot"])
def test_an_empty_file_is_named(what, text, tmp_path, monkeypatch):
    (tmp_path / "run.csv").write_text(text)
    with pytest.raises(SystemExit, match="run.csv' holds no step; write it after"):
        command(monkeypatch, what, tmp_path / "run.csv")


def test_a_table_without_a_loss_is_no_picture(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    (tmp_path / "run.csv").write_text("epoch,seed\n1,2\n")
    with pytest.raises(SystemExit, match="a loss and gains, got only epoch, seed"):
        command(monkeypatch, "plot", tmp_path / "run.csv", "-o", tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_doctor(monkeypatch, capsys):
    monkeypatch.setitem(doctor.TRIALS, "a copy on the host", lambda: "yes")
    command(monkeypatch, "doctor")
    told = capsys.readouterr().out
    assert "training               works: the loss fell from 3 to" in told
    assert "jaxlib" in told and "cpu" in told


def test_doctor_fails_with_what_fails(monkeypatch, capsys):
    def broken():
        raise RuntimeError("no memory of that kind")

    monkeypatch.setattr(doctor, "TRIALS", {"a copy on the host": broken})
    with pytest.raises(SystemExit):
        command(monkeypatch, "doctor")
    assert "FAILS: RuntimeError: no memory of that kind" in capsys.readouterr().out


def test_without_tyro_the_extra_is_named():
    code = "import sys; sys.modules['tyro'] = None; import adaptive_optax.__main__"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert told.returncode == 1
    assert 'pip install "adaptive_optax[cli]"' in told.stderr
