"""The import asks for nothing from outside and leaves nothing behind."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "adaptive_optax"
UNWANTED = {
    *("pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"),
    *("socket", "ssl", "urllib", "http", "ftplib", "smtplib", "requests"),
    *("subprocess", "multiprocessing", "ctypes", "tempfile", "shutil"),
}
# JAX and Optax are imported first: what they do is theirs.
WATCHED = """
import sys, os, jax, optax, jax.numpy
told = []
def hook(event, arguments):
    if event == "open":
        _, mode, flags = arguments
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
        if (flags or 0) & writes or set(mode or "") & set("wax+"):
            told.append((event, arguments))
    elif event.split(".")[0] in ("socket", "pickle", "subprocess", "urllib", "marshal"):
        # Python itself reads a module's compiled code with marshal.
        if event != "marshal.loads":
            told.append((event, arguments))
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.system", "os.link"):
        told.append((event, arguments))
sys.addaudithook(hook)
import adaptive_optax
print(told)
"""


def test_the_import_writes_no_file_and_opens_no_connection():
    run = subprocess.run(
        [sys.executable, "-B", "-c", WATCHED],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_no_module_reads_pickles_or_calls_out(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        assert not {name.split(".")[0] for name in names} & UNWANTED
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert ast.literal_eval(node.value) is False


@pytest.mark.parametrize("name", ["adaptive_optax", "benchmarks.__main__"])
def test_the_import_starts_no_backend(name):
    # After it `jax.distributed.initialize` and the number of devices come too late.
    told = f"import jax, {name}; jax.config.update('jax_num_cpu_devices', 2)"
    subprocess.run([sys.executable, "-c", told], cwd=PACKAGE.parent, check=True)
