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
    "wander": "development",
    "sine": "development",
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

    ``name/optimizer`` is a development workload under another optimizer than its own,
    ``name@steps`` a run cut short or drawn out, ``name@steps/optimizer`` both.

    Raises:
      ValueError: If there is no such workload, a held-out one is to be varied, or a
        length is no multiple of 40.
      RuntimeError: If its file contradicts `SPLIT` or its horizon cannot be evaluated.
    """
    if "/" in name or "@" in name:
        return _varied(name)
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


def own_name(name: str) -> str:
    """``digits_mlp`` of ``digits_mlp@80/lion``: the file that a workload is in."""
    return name.partition("/")[0].partition("@")[0]


def _varied(name: str) -> Workload:
    """A development workload under another optimizer, of another length, or both."""
    with_length, _, optimizer = name.partition("/")
    own, _, steps = with_length.partition("@")
    if SPLIT.get(own) != "development":
        raise ValueError(
            f"only development workloads are varied, got {name!r}; try "
            "'digits_mlp@80/lion'."
        )
    workload = get(own)._replace(name=name)
    if "/" in name:
        if optimizer not in OPTIMIZERS:
            raise ValueError(
                f"no optimizer is called {optimizer!r} ({name!r}); known are "
                f"{', '.join(OPTIMIZERS)}."
            )
        workload = workload._replace(optimizer=optimizer)
    if "@" in name:
        whole = steps.isdecimal() and str(int(steps)) == steps
        if not whole or int(steps) == 0 or int(steps) % EVALUATIONS:
            raise ValueError(
                f"a length must be a multiple of {EVALUATIONS} steps, got {steps!r} "
                f"({name!r}); try 'digits_mlp@80'."
            )
        at = workload.disturbed_at
        if at is not None and at >= int(steps):
            at = None  # it ends before
        workload = workload._replace(horizon=int(steps), disturbed_at=at)
    return workload
