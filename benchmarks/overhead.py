"""What the controller costs: step time and state bytes over the plain Optax optimizer.

    python benchmarks/overhead.py                 # both workloads, about four minutes
    python benchmarks/overhead.py --workload mlp --repeats 31

Every configuration takes its turn in each repeat, in one process, on the same data, and
the median over repeats of the *paired* ratio is printed with its quartiles: on a noisy
machine absolute times prove nothing. The optimizer is Adam.

- ``mlp``: 64-64-10, batch 32, 200 steps in one `jax.lax.scan`.
- ``gpt``: 5 million parameters, 6 blocks, width 256, 128 tokens, batch 8; one jitted
  step with donated buffers, in a Python loop.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import adaptive_optax as ao

RATE = 1e-3

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "control law only": {"average": False, "recovery": False},
    "+ averaging": {"recovery": False},
    "+ recovery": {"average": False},
    "default (both)": {},
    "default + dither": {"sigma": 1e-3},
    "default + freezing": {"freeze_threshold": 1e-6},
}


def mlp(key: jax.Array) -> tuple[Any, Callable[..., jax.Array], Any]:
    """Parameters, loss and batch of a 64-64-10 classifier."""
    sizes = (64, 64, 10)
    keys = jax.random.split(key, 4)
    params = [
        {"kernel": jax.random.normal(k, (m, n)) / m**0.5, "bias": jnp.zeros(n)}
        for k, m, n in zip(keys, sizes, sizes[1:], strict=False)
    ]

    def loss(params, batch):
        x, labels = batch
        for layer in params[:-1]:
            x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
        logits = x @ params[-1]["kernel"] + params[-1]["bias"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    x = jax.random.normal(keys[2], (32, 64))
    return params, loss, (x, jax.random.randint(keys[3], (32,), 0, 10))


def gpt(key: jax.Array) -> tuple[Any, Callable[..., jax.Array], Any]:
    """Parameters, loss and batch of a 5-million-parameter decoder."""
    blocks, width, heads, tokens, batch, words = 6, 256, 8, 128, 8, 512
    keys = iter(jax.random.split(key, 64))

    def matrix(m, n):
        return 0.02 * jax.random.normal(next(keys), (m, n))

    def block():
        return {
            "attend": matrix(width, 3 * width),
            "project": matrix(width, width),
            "up": matrix(width, 4 * width),
            "down": matrix(4 * width, width),
            "scale": jnp.ones((2, width)),
        }

    params = {
        "words": matrix(words, width),
        "positions": matrix(tokens, width),
        "blocks": [block() for _ in range(blocks)],
    }

    def norm(x, scale):
        x = x - x.mean(-1, keepdims=True)
        return scale * x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5)

    def loss(params, ids):
        x = params["words"][ids] + params["positions"]
        for p in params["blocks"]:
            qkv = norm(x, p["scale"][0]) @ p["attend"]
            q, k, v = qkv.reshape(batch, tokens, 3, heads, -1).transpose(2, 0, 3, 1, 4)
            scores = q @ k.swapaxes(-1, -2) / (width // heads) ** 0.5
            causal = jnp.tril(jnp.ones((tokens, tokens), bool))
            mixed = jax.nn.softmax(jnp.where(causal, scores, -1e9)) @ v
            mixed = mixed.transpose(0, 2, 1, 3).reshape(batch, tokens, width)
            x = x + mixed @ p["project"]
            x = x + jax.nn.gelu(norm(x, p["scale"][1]) @ p["up"]) @ p["down"]
        logits = x[:, :-1] @ params["words"].T
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, ids[:, 1:]
        ).mean()

    return params, loss, jax.random.randint(next(keys), (batch, tokens), 0, words)


def stepper(tx: Any, loss: Callable[..., jax.Array]) -> Callable[..., Any]:
    """One training step, feedback included."""

    def step(params, state, batch):
        value, grads = jax.value_and_grad(loss)(params, batch)
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    return step


def runner(tx: Any, workload: str, steps: int) -> tuple[Callable[[], float], int]:
    """A timed run of ``steps`` steps, and the bytes of the optimizer's state."""
    params, loss, batch = {"mlp": mlp, "gpt": gpt}[workload](jax.random.key(0))
    state = tx.init(params)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    step = stepper(tx, loss)
    if workload == "mlp":

        @functools.partial(jax.jit, donate_argnums=(0, 1))
        def run(params, state, batch):
            def body(carry, _):
                return step(*carry, batch), None

            return jax.lax.scan(body, (params, state), length=steps)[0]

        calls = 1
    else:
        run = jax.jit(step, donate_argnums=(0, 1))
        calls = steps
    carry = jax.block_until_ready(run(params, state, batch))

    def timed() -> float:
        nonlocal carry
        start = time.perf_counter()
        for _ in range(calls):
            carry = run(*carry, batch)
        jax.block_until_ready(carry)
        return (time.perf_counter() - start) / steps

    return timed, size


def measure(workload: str, repeats: int, steps: int) -> list[str]:
    """Markdown rows: configuration, ratio with quartiles, bytes over the parameters."""
    params, *_ = {"mlp": mlp, "gpt": gpt}[workload](jax.random.key(0))
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    plain = optax.with_extra_args_support(optax.adam(RATE))
    plain_time, plain_bytes = runner(plain, workload, steps)
    runners = {
        name: runner(
            ao.adaptive_scheduler(optax.adam, RATE, **options), workload, steps
        )
        for name, options in CONFIGURATIONS.items()
    }
    # A twin of the plain optimizer shows how far two equal programs differ here.
    runners = {"plain Adam again": runner(plain, workload, steps), **runners}
    ratios: dict[str, list[float]] = {name: [] for name in runners}
    plain_times = []
    for _ in range(repeats):
        for name, (timed, _) in runners.items():
            before = plain_time()
            ratios[name].append(timed() / before)
            plain_times.append(before)
    rows = [
        f"\n{workload}: {parameters / 4 / 1e6:.3f} M parameters, plain Adam "
        f"{statistics.median(plain_times) * 1e6:.0f} us a step, {repeats} repeats\n",
        "| configuration | step time / plain | quartiles | extra state / parameters |",
        "|---|---|---|---|",
    ]
    for name, (_, size) in runners.items():
        low, middle, high = statistics.quantiles(ratios[name], n=4)
        extra = (size - plain_bytes) / parameters
        rows.append(f"| {name} | {middle:.3f} | {low:.3f}–{high:.3f} | {extra:.1%} |")
    return rows


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workload", choices=("mlp", "gpt", "both"), default="both")
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    chosen = ("mlp", "gpt") if arguments.workload == "both" else (arguments.workload,)
    print(f"jax {jax.__version__}, optax {optax.__version__}, {jax.devices()[0]}")
    for workload in chosen:
        steps = 200 if workload == "mlp" else 3
        print("\n".join(measure(workload, arguments.repeats, steps)), flush=True)


if __name__ == "__main__":
    main()
