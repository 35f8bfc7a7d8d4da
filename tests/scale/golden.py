"""Writes golden states: what this version saves, for every later one to read.

    python -m tests.scale.golden

writes what is missing for the present `STATE_VERSION`. A file that is there is never
written again. Each pair has the arrays (an NPZ without pickles) and their types (JSON):
a state and its parameters after `STEPS` steps, and both gains and parameters `MORE`
steps later.
"""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from adaptive_optax.scale.checkpoint import state_arrays
from adaptive_optax.state import STATE_VERSION
from tests.contract.driving import driver, feedback

FOLDER = Path(__file__).parent / "golden"
STEPS, MORE = 70, 8
CASES = ("factory", "everything", "copy in half")


def after(name: str, carry: Any) -> dict[str, Any]:
    """Where a run is ``MORE`` steps later."""
    params, state = driver(name).loop(feedback(1, MORE), carry)
    gains = {key: getattr(state, key) for key in ("learning_rate", "momentum", "sigma")}
    return {"params": params, **gains}


def write(name: str, path: Path) -> None:
    """One pair of files."""
    params, state = driver(name).loop(feedback(0, STEPS))
    arrays = state_arrays({"params": params, "state": state})
    arrays = {key: np.asarray(x) for key, x in arrays.items()}
    arrays |= state_arrays({"after": after(name, (params, state))})
    arrays = jax.tree.map(np.asarray, arrays)
    types = {key: [str(x.dtype), list(x.shape)] for key, x in arrays.items()}
    np.savez_compressed(path.with_suffix(".npz"), **arrays)
    told = {"transformation": name, "arrays": types}
    path.with_suffix(".json").write_text(json.dumps(told, indent=0) + "\n")


def main() -> None:
    """Write what is missing."""
    for name in CASES:
        file = f"v{STATE_VERSION} {name}".replace(" ", "_").replace(",", "")
        if not (FOLDER / file).with_suffix(".npz").exists():
            write(name, FOLDER / file)


if __name__ == "__main__":
    main()
