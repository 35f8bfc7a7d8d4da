"""The oldest JAX and Optax that the package runs on, asked for at import.

pip reads the same bounds from pyproject.toml (a test compares the two). If an older JAX
is installed all the same, the import fails with one line that says so, instead of an
error from deep inside.
"""

import re
from types import ModuleType

import jax
import optax

OLDEST = {"jax": "0.8.1", "optax": "0.2.6"}


def check(*modules: ModuleType) -> None:
    """Fail on a module that is older than its lower bound.

    Args:
      *modules: Imported modules with a ``__version__``, each named in `OLDEST`.

    Raises:
      ImportError: If one is older; the message has both versions.

    Example:
      >>> check(jax, optax)
    """
    for module in modules:
        name, found = module.__name__, module.__version__
        oldest = OLDEST[name]
        if _numbers(found) < _numbers(oldest):
            raise ImportError(
                f"adaptive_optax needs {name} {oldest} or newer and found {found}; "
                f'run: pip install --upgrade "{name}>={oldest}"'
            )


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: 0.9.0.dev2026 is (0, 9, 0)."""
    return tuple(map(int, re.findall(r"\d+", re.split(r"[^\d.]", version)[0])))


check(jax, optax)
