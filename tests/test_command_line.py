"""`python -m adaptive_optax`: what a user types, and what comes back."""

import shlex
import subprocess
import sys
import zipfile

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


def mistake(monkeypatch, capsys, *arguments):
    """The one line that a mistake is answered with."""
    with pytest.raises(SystemExit) as left:
        command(monkeypatch, *arguments)
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("adaptive_optax: ") and told.count("\n") == 1
    return told


def test_explain_without_events(run, monkeypatch, capsys):
    told = mistake(monkeypatch, capsys, "explain", run)
    assert f"'{run}' cannot be explained: there are no events of" in told


# What else is given, so that a picture that is drawn by mistake is not left here.
DRAWN = {"explain": lambda _: (), "plot": lambda folder: ("-o", folder / "a.png")}


@pytest.mark.parametrize("what", DRAWN)
class TestNoRun:
    """A path where no run is: the path is quoted, and the right call shown."""

    def test_a_missing_file(self, what, tmp_path, monkeypatch, capsys):
        # It was "[Errno 2] No such file or directory".
        path = tmp_path / "run.csv"
        told = mistake(monkeypatch, capsys, what, path)
        assert f"there is no file '{path}'; write it after some training, with" in told
        assert f"try python -m adaptive_optax {what} {path}." in told

    @pytest.mark.parametrize("name", ["runs", "run.csv"])
    def test_a_folder(self, what, name, tmp_path, monkeypatch, capsys):
        (tmp_path / name).mkdir()
        told = mistake(monkeypatch, capsys, what, tmp_path / name)
        assert f"'{tmp_path / name}' is a folder; give a file in it" in told
        assert f"adaptive_optax {what} {tmp_path / name / 'run.csv'}." in told

    @pytest.mark.parametrize("name", ["run.txt", "run", "run.csv.gz"])
    def test_another_format(self, what, name, tmp_path, monkeypatch, capsys):
        told = mistake(monkeypatch, capsys, what, tmp_path / name)
        assert f"ends in .npz, .csv or .jsonl, got '{tmp_path / name}'" in told
        assert f"try python -m adaptive_optax {what} run.csv." in told

    @pytest.mark.parametrize(
        "name, text",
        [("run.csv", ""), ("run.csv", "loss,steps\n"), ("run.jsonl", "\n")],
    )
    def test_an_empty_file(self, what, name, text, tmp_path, monkeypatch, capsys):
        (tmp_path / name).write_text(text)
        told = mistake(monkeypatch, capsys, what, tmp_path / name)
        assert f"{name}' holds no step; write it after some training, with" in told

    @pytest.mark.parametrize(
        "name, content, why",
        [
            ("run.npz", b"", "it is no NPZ archive"),
            ("run.npz", b"loss\n1\n", "it is no NPZ archive"),
            ("run.csv", b"\xff\xfe\n1\n", "codec can't decode"),
            ("run.csv", b"loss\nlow\n", "column 'loss' holds something that is no num"),
            ("run.csv", b"loss\n" + b"1" * 140_000, "field larger than field limit"),
            ("run.jsonl", b"[1, 2]\n", "row 1 is [1, 2], and no table of names"),
            ("run.jsonl", b"[" * 100_000, "maximum recursion depth"),
            ("run.jsonl", b'{"loss": 1}\n{"lo', "line 2 is cut off or no JSON (Unterm"),
            ("run.jsonl", b'{"loss": ' + b"9" * 400 + b"}", "'loss' holds something"),
            ("run.csv", b"loss,events\n1,3\n", "'3' in column 'events' is no list"),
            ("run.csv", b"loss,events\n1,x\n", "'x' in column 'events' is no list"),
        ],
        ids=str,
    )
    def test_another_content(
        self, what, name, content, why, tmp_path, monkeypatch, capsys
    ):
        (tmp_path / name).write_bytes(content)
        told = mistake(monkeypatch, capsys, what, tmp_path / name)
        assert f"'{tmp_path / name}' holds no run that `History.save` wrote" in told
        assert why in told

    @pytest.mark.parametrize(
        "columns, why",
        [
            ({"loss": np.ones(3), "steps": np.arange(4)}, "{'loss': 3, 'steps': 4}"),
            ({"loss": np.float32(1)}, "lengths {'loss': None}"),
            ({"loss": np.array(["a"])}, "column 'loss' holds something that is no num"),
        ],
    )
    def test_other_arrays(self, what, columns, why, tmp_path, monkeypatch, capsys):
        np.savez(tmp_path / "run.npz", **columns)
        told = mistake(monkeypatch, capsys, what, tmp_path / "run.npz")
        assert "run.npz' holds no run that" in told and why in told

    def test_another_archive(self, what, tmp_path, monkeypatch, capsys):
        # It was a traceback: 'bytes' object has no attribute 'dtype'.
        with zipfile.ZipFile(tmp_path / "run.npz", "w") as archive:
            archive.writestr("word/document.xml", "<a/>")
        told = mistake(monkeypatch, capsys, what, tmp_path / "run.npz")
        assert "run.npz' holds no run that" in told
        assert "its entry 'word/document.xml' is no array" in told

    def test_a_table_of_thousands_of_columns(self, what, tmp_path, monkeypatch, capsys):
        names = ["a\nb", *(f"weight_{i}" for i in range(3000))]
        ao.History.from_stacked(dict.fromkeys(names, np.ones(2))).save(
            tmp_path / "run.npz"
        )
        told = mistake(
            monkeypatch, capsys, what, tmp_path / "run.npz", *DRAWN[what](tmp_path)
        )
        assert "a b, weight_0, " in told and ", 2989 more; try" in told

    def test_a_call_is_shown_as_a_shell_takes_it(
        self, what, tmp_path, monkeypatch, capsys
    ):
        path = tmp_path / "my run's.csv"
        told = mistake(monkeypatch, capsys, what, path)
        assert f'with history.save("{path}")' in told
        call = told.rpartition("try ")[2].removesuffix(".\n")
        assert shlex.split(call)[-2:] == [what, str(path)]

    def test_a_damaged_archive(self, what, tmp_path, monkeypatch, capsys):
        path = tmp_path / "run.npz"
        losses = np.random.default_rng(0).normal(size=400)
        ao.History.from_stacked({"loss": losses}).save(path)
        content = bytearray(path.read_bytes())
        content[200:260] = b"\xff" * 60
        path.write_bytes(content)
        assert "holds no run that" in mistake(monkeypatch, capsys, what, path)

    def test_unreadable(self, what, run, monkeypatch, capsys):
        def refused(path):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(ao.History, "load", refused)
        told = mistake(monkeypatch, capsys, what, run)
        assert f"'{run}' cannot be opened: Permission denied." in told


def test_no_place_for_a_picture(run, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    told = mistake(monkeypatch, capsys, "plot", run, "-o", "loop")
    assert "suffix of a picture, got 'loop'; try -o loop.png." in told
    told = mistake(monkeypatch, capsys, "plot", run, "-o", tmp_path / "a" / "loop.png")
    assert f"there is no folder '{tmp_path / 'a'}' for `--output`; make it" in told
    told = mistake(monkeypatch, capsys, "plot", run, "-o", tmp_path)
    assert f"the folder '{tmp_path}'; try -o {tmp_path / 'loop.png'}." in told
    told = mistake(monkeypatch, capsys, "plot", run, "-o", tmp_path / "loop.xyz")
    assert f"'{run}' cannot be drawn as '{tmp_path / 'loop.xyz'}': Format" in told


def test_a_table_without_a_loss_is_no_picture(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    (tmp_path / "run.csv").write_text("epoch,seed\n1,2\n")
    told = mistake(
        monkeypatch, capsys, "plot", tmp_path / "run.csv", "-o", tmp_path / "a.png"
    )
    assert "run.csv' cannot be drawn as" in told
    assert "a loss and gains, got only epoch, seed" in told
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
