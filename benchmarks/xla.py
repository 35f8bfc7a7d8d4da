"""Flags for XLA, of which every version knows others."""

import os
import subprocess
import sys
from collections.abc import Sequence


def known(flags: Sequence[str]) -> list[str]:
    """Those flags that the installed XLA knows.

    An unknown flag ends the process that sets it, so a child process tries them. XLA
    names one unknown flag and stops there, hence the loop.

    Args:
      flags: As in the environment variable ``XLA_FLAGS``.

    Raises:
      RuntimeError: If XLA does not start and names none of the flags.
    """
    left = list(flags)
    while left:
        child = subprocess.run(
            [sys.executable, "-c", "import jax; jax.devices()"],
            env=os.environ | {"XLA_FLAGS": " ".join(left), "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
        )
        if child.returncode == 0:
            break
        unknown = [flag for flag in left if flag.split("=")[0] in child.stderr]
        if not unknown:
            raise RuntimeError(f"XLA does not start:\n{child.stderr}")
        left = [flag for flag in left if flag not in unknown]
    return left
