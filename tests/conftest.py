"""Eight devices on any machine, quick compiles and headless plots for all tests."""

import os

from tests import xla

# Before anything initialises a JAX backend: all this is read once. The workers of
# pytest-xdist inherit it, so one process asks XLA for all.
if "ADAPTIVE_OPTAX_TESTS" not in os.environ:
    os.environ["ADAPTIVE_OPTAX_TESTS"] = "ready"
    given = os.environ.get("XLA_FLAGS", "")
    wanted = [flag for flag in xla.WANTED if flag.split("=")[0] not in given]
    os.environ["XLA_FLAGS"] = " ".join([given, *xla.known(wanted)]).strip()
    if "xla_force_host_platform_device_count" not in given:
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
    os.environ.setdefault("MPLBACKEND", "Agg")

import jax  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture
def strict_types():
    """Fail on any implicit dtype or rank promotion inside the test."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
