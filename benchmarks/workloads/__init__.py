"""The workloads, each a small file whose ``workload()`` builds it.

The split was written down before any tuning: the law may be tuned on the development
workloads, on the held-out ones never; only a report runs those.
"""

import difflib
import functools
import importlib

from benchmarks.contract import EVALUATIONS, Split, Workload
from benchmarks.peers.inner import OPTIMIZERS

SPLIT: dict[str, Split] = {
    "quadratic": "development",
    "rosenbrock": "development",
    "logistic": "development",
    "digits_mlp": "development",
    "factorization": "development",
    "char_transformer": "development",
    "shift": "development",
    "spikes": "development",
    "bandit": "development",
    "label_noise": "held_out",
    "cnn": "held_out",
    "vae": "held_out",
    "rnn": "held_out",
    "tabular": "held_out",
    "cartpole": "held_out",
    "drift": "held_out",
    "mixer": "held_out",
}

NAMES = tuple(SPLIT)


@functools.cache
def get(name: str) -> Workload:
    """The workload called ``name``, built (and its data loaded) at the first call.

    ``name/optimizer`` is a development workload under another optimizer than its own.

    Raises:
      ValueError: If there is no such workload, or a held-out one is to be varied.
      RuntimeError: If its file contradicts `SPLIT` or its horizon cannot be evaluated.
    """
    name, _, optimizer = name.partition("/")
    if optimizer:
        if SPLIT.get(name) != "development" or optimizer not in OPTIMIZERS:
            raise ValueError(
                f"only development workloads go with another optimizer, got {name!r} "
                f"and {optimizer!r}; try 'digits_mlp/lion'."
            )
        return get(name)._replace(name=f"{name}/{optimizer}", optimizer=optimizer)
    if name not in SPLIT:
        close = difflib.get_close_matches(name, NAMES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"No workload is called {name!r}.{hint} Known: {', '.join(NAMES)}."
        )
    workload = importlib.import_module(f"benchmarks.workloads.{name}").workload()
    if (workload.name, workload.split) != (name, SPLIT[name]):
        raise RuntimeError(
            f"`SPLIT` has {name!r} as {SPLIT[name]!r}, but {name}.py declares"
            f" {workload.name!r} as {workload.split!r}."
        )
    if workload.horizon % EVALUATIONS:
        raise RuntimeError(
            f"The horizon of {name!r}, {workload.horizon}, is not a multiple of"
            f" {EVALUATIONS}."
        )
    return workload
