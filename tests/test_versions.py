"""What pyproject.toml says of versions holds everywhere else."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from adaptive_optax import _versions

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text()


@pytest.fixture(scope="module")
def supported():
    """What the matrix reads of pyproject.toml; its folder is no package."""
    path = ROOT / ".ci" / "supported.py"
    spec = importlib.util.spec_from_file_location("supported", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_oldest_versions_are_the_bounds_that_pip_reads():
    bounds = [f"{name}>={version}" for name, version in _versions.OLDEST.items()]
    assert PROJECT["dependencies"] == bounds


@pytest.mark.parametrize("found", ["0.7.2", "0.8.0", "0.8.0.1", "0.8", "0.8.0.dev9"])
def test_an_older_jax_is_named_at_import_with_the_version_that_is_needed(found):
    module = ModuleType("jax")
    module.__version__ = found
    needed = f"needs jax 0.8.1 or newer and found {re.escape(found)}; run: pip install"
    with pytest.raises(ImportError, match=needed):
        _versions.check(module)


@pytest.mark.parametrize("found", ["0.8.1", "0.8.1.dev20251118", "0.10.0", "1.0"])
def test_any_newer_jax_passes(found):
    module = ModuleType("jax")
    module.__version__ = found
    _versions.check(module)


def test_the_import_itself_asks_before_anything_else():
    code = "import jax; jax.__version__ = '0.4.30'; import adaptive_optax"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == (
        "ImportError: adaptive_optax needs jax 0.8.1 or newer and found 0.4.30; "
        'run: pip install --upgrade "jax>=0.8.1"'
    )


def test_every_dependency_has_a_lower_bound_which_the_matrix_reads(supported):
    bounds = supported.lower_bounds()
    for name, version in _versions.OLDEST.items():
        assert f"{name}=={version}" in bounds
    assert len({bound.split("==")[0] for bound in bounds}) == len(bounds)


def test_the_matrix_has_both_ends_of_every_supported_python(supported):
    pythons = supported.supported_pythons()
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    assert set(pythons) <= set(supported.find_pythons())


def test_the_matrix_says_which_cells_there_are():
    run = subprocess.run(
        [sys.executable, ROOT / ".ci/matrix", "--only", "2.7-newest"],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert "no cell 2.7-newest; there are 3.11-newest, 3.11-oldest, " in run.stderr


def test_the_workflow_runs_every_cell_of_the_matrix(supported):
    pythons = ", ".join(f'"{python}"' for python in supported.supported_pythons())
    assert f"python: [{pythons}]\n" in WORKFLOW
    assert f"end: [{', '.join(supported.ENDS)}]\n" in WORKFLOW


@pytest.mark.parametrize("script", ["run", "wheel"])
def test_a_ci_script_is_valid_bash(script):
    subprocess.run(["bash", "-n", ROOT / ".ci" / script], check=True)
