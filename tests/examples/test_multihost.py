"""Processes over loopback: equal controls, one is lost, a restart to the bit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

for needed in ("orbax.checkpoint", "tyro"):
    pytest.importorskip(needed)

ROOT = Path(__file__).parents[2]
STEPS, LOST_AT, SAVED = 24, 17, 10


def run(folder, *options):
    return subprocess.run(
        [sys.executable, "examples/multihost.py", "--folder", folder, *options]
        + ["--steps", str(STEPS), "--heartbeat", "5"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )


def logs(folder, processes):
    return [
        (folder / f"controls-{process}.txt").read_text().splitlines()
        for process in range(processes)
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What each of two processes saw at every step of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(folder).returncode == 0
    one, other = logs(folder, 2)
    assert one == other and len(one) == STEPS
    return one


@pytest.mark.slow
@pytest.mark.parametrize("lost, go_on", [("1", 4), ("0", 2)])
def test_one_is_killed_and_the_run_goes_on_to_the_bit(whole, lost, go_on, tmp_path):
    ended = run(tmp_path, "--lose", lost, str(LOST_AT))
    assert ended.returncode == 1
    assert f"{lost}: -9" in ended.stderr
    assert f"The last checkpoint is of step {SAVED}" in ended.stderr
    assert "another task died" in ended.stderr  # what JAX says in the others
    resumed = run(tmp_path, "--processes", str(go_on))
    assert resumed.returncode == 0, resumed.stderr
    assert f"steps {SAVED} to {STEPS}" in resumed.stdout
    for seen in logs(tmp_path, go_on):
        assert seen[SAVED - STEPS :] == whole[SAVED:]
