"""A picture of each mechanism at work: one run with it beside the same run without."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

import adaptive_optax as ao  # noqa: E402
from benchmarks.figures import STYLE  # noqa: E402
from benchmarks.gains import train, work  # noqa: E402

FOLDER = Path(__file__).parents[2] / "docs" / "figures"
MU = np.float32(train.USUAL)


def mechanisms() -> None:
    """Draw docs/figures/momentum.svg and docs/figures/dither.svg."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        for name, figure in (("momentum", _momentum()), ("dither", _dither())):
            path = FOLDER / f"{name}.svg"
            figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
            plt.close(figure)
            print(f"wrote {path}")


def traced(problem: work.Work, **options: Any) -> dict[str, np.ndarray]:
    """The loop's values at every step of SGD, and the metric of the parameters."""
    start, batches = jax.random.split(jax.random.key(0))
    tx = train.made("sgd", jnp.float32(problem.sgd), jnp.asarray(MU), options)
    params = problem.init(start)

    def step(carry, t):
        params, state = carry
        loss, grads = jax.value_and_grad(problem.loss)(
            params, jax.random.fold_in(batches, t)
        )
        updates, state = tx.update(grads, state, params, value=loss)
        params = optax.apply_updates(params, updates)
        seen = ao.snapshot(state)
        return (params, state), {**seen, "metric": problem.metric(params)}

    steps = jnp.arange(problem.horizon)
    seen = jax.jit(lambda: jax.lax.scan(step, (params, tx.init(params)), steps)[1])()
    return jax.device_get(seen)


def _momentum():
    problem = work.LONGER_MEMORY["quadratic, condition 1e4"]()
    held, auto = traced(problem), traced(problem, momentum_rule="auto")
    figure, axes = _pair("A narrow valley without noise: SGD, momentum .9", held, auto)
    horizon = 1 / (1 - auto["momentum"])
    restarts = np.flatnonzero(np.diff(auto["momentum_restarts"], prepend=0))
    axes[1].semilogy(1 / (1 - held["momentum"]), color="0.45")
    axes[1].semilogy(horizon, color="C3")
    axes[1].plot(restarts, horizon[restarts], "v", color="k", label="restart")
    axes[1].set_ylabel("horizon 1 / (1 - μ)")
    axes[1].legend()
    return figure


def _dither():
    problem = work.SADDLES["factorization from zero"]()
    held, auto = traced(problem), traced(problem, sigma_rule="auto")
    figure, axes = _pair("An exact saddle: a product of two zero matrices", held, auto)
    axes[1].plot(held["sigma"], color="0.45")
    axes[1].plot(auto["sigma"], color="C3")
    axes[1].set_ylabel("σ")
    return figure


def _pair(title: str, held: dict, auto: dict):
    figure, axes = plt.subplots(2, 1, figsize=(6, 4), sharex=True, layout="constrained")
    axes[0].semilogy(held["metric"], color="0.45", label="held")
    axes[0].semilogy(auto["metric"], color="C3", label="auto")
    axes[0].set_ylabel("loss")
    axes[0].set_title(title)
    axes[0].legend()
    axes[1].set_xlabel("step")
    return figure, axes
