"""What freezing saves: step time over the same step without it, and where it hurts.

    python benchmarks/freezing.py --part step         # a GPT step under fixed masks
    python benchmarks/freezing.py --part optimizer    # the optimizer alone
    python benchmarks/freezing.py --part mnist        # end to end, 5 seeds
    python benchmarks/freezing.py --part finetune     # end to end, a GPT, 5 seeds
    python benchmarks/freezing.py --part all --json benchmarks/results/freezing.json

Every configuration takes its turn in each repeat, in one process, on the same data; the
median over repeats of the ratio to the plain step beside it is printed, with quartiles.
"""

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adaptive_optax as ao

BLOCKS, WIDTH, HEADS, TOKENS, BATCH, WORDS = 6, 256, 8, 128, 8, 512
RATE = 1e-3
SEEDS = 5


# The model: weights of each block by itself, or stacked for a scan.


class Sizes(NamedTuple):
    blocks: int = BLOCKS
    width: int = WIDTH
    heads: int = HEADS
    tokens: int = TOKENS
    batch: int = BATCH
    words: int = WORDS


def init_gpt(key: jax.Array, sizes: Sizes, stacked: bool) -> dict[str, Any]:
    width, keys = sizes.width, iter(jax.random.split(key, 8))
    scale = 0.02

    def matrix(*shape: int) -> jax.Array:
        return scale * jax.random.normal(next(keys), shape)

    n = sizes.blocks
    blocks = {
        "attend": matrix(n, width, 3 * width),
        "project": matrix(n, width, width),
        "up": matrix(n, width, 4 * width),
        "down": matrix(n, 4 * width, width),
        "scale": jnp.ones((n, 2, width)),
    }
    params = {
        "embed": {
            "words": matrix(sizes.words, width),
            "positions": matrix(sizes.tokens, width),
        },
        "head": {"scale": jnp.ones(width), "out": matrix(width, sizes.words)},
    }
    if stacked:
        return {**params, "blocks": blocks}
    layers = [jax.tree.map(lambda x, i=i: x[i], blocks) for i in range(n)]
    return {**params, "blocks": layers}


def normed(x: jax.Array, scale: jax.Array) -> jax.Array:
    x = x - x.mean(-1, keepdims=True)
    return scale * x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5)


def block(p: dict[str, jax.Array], x: jax.Array, sizes: Sizes) -> jax.Array:
    # Rank 2: XLA's backward pass of x @ w is 1.5 times slower on the CPU in rank 3,
    # which a saving must not be measured against.
    rows = x.reshape(-1, sizes.width)
    qkv = normed(rows, p["scale"][0]) @ p["attend"]
    qkv = qkv.reshape(sizes.batch, sizes.tokens, 3, sizes.heads, -1)
    q, k, v = qkv.transpose(2, 0, 3, 1, 4)
    scores = q @ k.swapaxes(-1, -2) / (sizes.width // sizes.heads) ** 0.5
    causal = jnp.tril(jnp.ones((sizes.tokens, sizes.tokens), bool))
    mixed = jax.nn.softmax(jnp.where(causal, scores, -1e9)) @ v
    rows = rows + mixed.transpose(0, 2, 1, 3).reshape(rows.shape) @ p["project"]
    rows = rows + jax.nn.gelu(normed(rows, p["scale"][1]) @ p["up"]) @ p["down"]
    return rows.reshape(x.shape)


def gpt_loss(
    params: Any, ids: jax.Array, *, sizes: Sizes, stacked: bool, remat: bool
) -> jax.Array:
    apply = functools.partial(block, sizes=sizes)
    apply = jax.checkpoint(apply) if remat else apply
    x = params["embed"]["words"][ids] + params["embed"]["positions"]
    if stacked:
        x, _ = jax.lax.scan(lambda x, p: (apply(p, x), None), x, params["blocks"])
    else:
        for p in params["blocks"]:
            x = apply(p, x)
    rows = normed(x[:, :-1], params["head"]["scale"]).reshape(-1, sizes.width)
    logits = rows @ params["head"]["out"]
    labels = ids[:, 1:].reshape(-1)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


# Part 1: a full train step under fixed masks.

KINDS = {
    "unrolled": {"stacked": False, "remat": False},
    "unrolled + remat": {"stacked": False, "remat": True},
    "scan + remat": {"stacked": True, "remat": True},
}
SETS: dict[str, tuple[int, ...] | None] = {
    "nothing": None,
    "half prefix": (0, 1, 2),
    "all but the head": tuple(range(BLOCKS)),
    "alternate": (1, 3, 5),
}


def mask_of(params: Any, frozen_blocks: tuple[int, ...] | None) -> Any:
    """Embeddings and some blocks, as bool[] or, where stacked, bool[L]."""
    live = jax.tree.map(lambda _: jnp.zeros((), bool), params)
    if frozen_blocks is None:
        return live
    live["embed"] = jax.tree.map(lambda _: jnp.ones((), bool), params["embed"])
    if isinstance(params["blocks"], list):
        for i in frozen_blocks:
            live["blocks"][i] = jax.tree.map(
                lambda _: jnp.ones((), bool), params["blocks"][i]
            )
    else:
        rows = jnp.zeros(BLOCKS, bool).at[jnp.asarray(frozen_blocks)].set(True)
        live["blocks"] = jax.tree.map(lambda _: rows, params["blocks"])
    return live


def plain_step(loss: Callable[..., jax.Array]) -> Callable[..., Any]:
    tx = optax.adamw(RATE)

    def step(frozen, params, state, ids):
        del frozen
        value, grads = jax.value_and_grad(loss)(params, ids)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    return step


def masked_step(loss: Callable[..., jax.Array]) -> Callable[..., Any]:
    """The same gradients computed and then masked: what a mask alone does."""
    tx = optax.adamw(RATE)

    def step(frozen, params, state, ids):
        value, grads = jax.value_and_grad(loss)(params, ids)
        updates, state = tx.update(grads, state, params)
        held = jax.tree.map(
            lambda p, u, f: (
                jnp.where(f.reshape((-1,) + (1,) * (p.ndim - 1)), p, p + u)
                if f.ndim
                else jnp.where(f, p, p + u)
            ),
            params,
            updates,
            frozen,
        )
        return held, state, value

    return step


def frozen_step(loss: Callable[..., jax.Array], labels: Any) -> Callable[..., Any]:
    """The whole pattern: skip the gradients, hold the moments and the parameters."""
    tx = ao.hold_frozen(optax.adamw(RATE))
    vg = ao.frozen_value_and_grad(loss, labels)

    def step(frozen, params, state, ids):
        value, grads = vg(params, frozen, ids)
        updates, state = tx.update(grads, state, params, frozen=frozen)
        return ao.apply_updates(params, updates, frozen), state, value

    return step


class Runner:
    """A compiled step with its own parameters, called over and over."""

    def __init__(self, step: Callable[..., Any], frozen: Any, params: Any, ids: Any):
        self.frozen, self.ids = frozen, ids
        self.carry = jax.tree.map(jnp.copy, params), optax.adamw(RATE).init(params)
        self.step = step
        self()

    def __call__(self, frozen: Any = None) -> float:
        start = time.perf_counter()
        *self.carry, value = self.step(
            self.frozen if frozen is None else frozen, *self.carry, self.ids
        )
        jax.block_until_ready((self.carry, value))
        return time.perf_counter() - start


def part_step(repeats: int) -> list[dict[str, Any]]:
    sizes, rows = Sizes(), []
    ids = jax.random.randint(jax.random.key(1), (BATCH, TOKENS), 0, WORDS)
    for kind, options in KINDS.items():
        params = init_gpt(jax.random.key(0), sizes, options["stacked"])
        loss = functools.partial(gpt_loss, sizes=sizes, **options)
        labels = ao.block_labels(params)
        donate = {"donate_argnums": (1, 2)}
        plain = Runner(jax.jit(plain_step(loss), **donate), None, params, ids)
        dynamic = jax.jit(frozen_step(loss, labels), **donate)
        runners: dict[tuple[str, str], Callable[[], float]] = {
            ("plain again", "nothing"): Runner(
                jax.jit(plain_step(loss), **donate), None, params, ids
            ),
        }
        masks = {name: mask_of(params, blocks) for name, blocks in SETS.items()}
        for name, mask in masks.items():
            runners["frozen_value_and_grad", name] = Runner(dynamic, mask, params, ids)
        if kind == "unrolled":
            runners["mask only", "all but the head"] = Runner(
                jax.jit(masked_step(loss), **donate),
                masks["all but the head"],
                params,
                ids,
            )
            probing = Runner(dynamic, masks["all but the head"], params, ids)
        for name in ("nothing", "half prefix", "all but the head"):
            staged = ao.StagedStep(
                frozen_step(loss, labels), donate_argnums=(1, 2), patience=0
            )
            runners["StagedStep", name] = Runner(staged, masks[name], params, ids)
        ratios: dict[Any, list[float]] = {name: [] for name in runners}
        for _ in range(repeats):
            for name, runner in runners.items():
                before = plain()
                ratios[name].append(runner() / before)
        if kind == "unrolled":
            ratios["with probes, every 20th step", "all but the head"] = with_probes(
                probing, plain, masks, repeats
            )
        for (how, name), found in ratios.items():
            rows.append({"model": kind, "way": how, "frozen": name, **summary(found)})
        show(rows[-len(ratios) :])
    return rows


def with_probes(
    runner: Runner, plain: Runner, masks: dict[str, Any], repeats: int
) -> list[float]:
    """Ratios of whole cycles: 19 steps under the mask and one probe."""
    ratios = []
    for _ in range(max(repeats // 5, 3)):
        own = sum(
            runner(masks["nothing" if t == 0 else "all but the head"])
            for t in range(20)
        )
        ratios.append(own / sum(plain() for _ in range(20)))
    return ratios


# Part 2: the optimizer alone.


def part_optimizer(repeats: int) -> list[dict[str, Any]]:
    """10 million parameters in 50 leaves, donated buffers."""
    n, shape = 50, (448, 448)
    params = [jnp.full(shape, 0.1) for _ in range(n)]
    grads = [jnp.full(shape, 0.01 * (i + 1)) for i in range(n)]
    optimizers = {
        "filters.adam": ao.filters.adam(RATE),
        "filters.adamw": ao.filters.adamw(RATE),
        "filters.momentum_sgd": ao.filters.momentum_sgd(RATE),
        "filters.adagrad": ao.filters.adagrad(RATE, 0.9),
        "optax.adamw": optax.adamw(RATE),
        "optax.sgd, momentum": optax.sgd(RATE, 0.9),
        "optax.lion": optax.lion(RATE),
        "optax.adafactor": optax.adafactor(RATE),
    }
    shares = {"0 %": 0, "50 %": 25, "90 %": 45}
    rows = []
    for name, inner in optimizers.items():
        held = ao.hold_frozen(inner)

        def plain(params, state, grads, inner=inner):
            updates, state = inner.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        def ours(params, state, grads, frozen, held=held):
            updates, state = held.update(grads, state, params, frozen=frozen)
            return ao.apply_updates(params, updates, frozen), state

        steps = [jax.jit(f, donate_argnums=(0, 1)) for f in (plain, ours)]
        carry = [(jax.tree.map(jnp.copy, params), inner.init(params)) for _ in steps]

        def timed(i: int, *more: Any, steps=steps, carry=carry) -> float:
            start = time.perf_counter()
            carry[i] = jax.block_until_ready(steps[i](*carry[i], grads, *more))
            return time.perf_counter() - start

        masks = {
            label: [jnp.asarray(i < k) for i in range(n)] for label, k in shares.items()
        }
        ratios: dict[str, list[float]] = {label: [] for label in shares}
        timed(0), timed(1, masks["0 %"])
        for _ in range(repeats):
            for label, mask in masks.items():
                before = timed(0)
                ratios[label].append(timed(1, mask) / before)
        for label, found in ratios.items():
            rows.append({"optimizer": name, "frozen": label, **summary(found)})
        show(rows[-len(ratios) :])
    return rows


# Parts 3 and 4: end to end.


class Task(NamedTuple):
    """A training run, with and without freezing."""

    name: str
    params: Any
    loss: Callable[..., jax.Array]  # of (params, batch)
    batches: Any  # stacked, one row a step
    validate: Callable[[Any], tuple[jax.Array, jax.Array]]  # loss, accuracy
    options: dict[str, Any]  # of `freeze_by_grad_norm`


class Outcome(NamedTuple):
    seconds: list[float]  # after every chunk
    losses: list[float]  # of validation, likewise
    accuracy: float
    skipped: float  # share of the backward FLOPs
    frozen: float  # share of the parameters, averaged over the run
    freezes: int
    thaws: int


CHUNK = 25


def train(task: Task, freezing: bool, rate: float) -> Outcome:
    labels = ao.block_labels(task.params)
    vg = ao.frozen_value_and_grad(task.loss, labels)
    options = {**task.options, "groups": labels}
    tx = ao.freeze_by_grad_norm(inner=ao.filters.adamw(rate), **options)
    plain = optax.adamw(rate)
    first = jax.tree.map(lambda x: x[0], task.batches)
    flops, names = vg.flops(task.params, first), jax.tree.leaves(labels)
    sizes = np.asarray([x.size for x in jax.tree.leaves(task.params)])
    shares = jnp.asarray(sizes / sizes.sum(), jnp.float32)

    def frozen_step(carry, batch):
        params, state = carry
        skip = ao.skip_mask(state, params)
        _, grads = vg(params, skip, batch)
        updates, state = tx.update(grads, state, params)
        frozen = ao.frozen_mask(state, params)
        params = ao.apply_updates(params, updates, frozen)
        mask = jnp.stack(jax.tree.leaves(frozen))
        saved = flops.share(jax.tree.leaves(skip), names)
        return (params, state), (saved, jnp.sum(mask * shares), mask)

    def plain_step(carry, batch):
        params, state = carry
        _, grads = jax.value_and_grad(task.loss)(params, batch)
        updates, state = plain.update(grads, state, params)
        mask = jnp.zeros(len(sizes), bool)
        zero = jnp.float32(0)
        return (optax.apply_updates(params, updates), state), (zero, zero, mask)

    step = frozen_step if freezing else plain_step
    run = jax.jit(lambda carry, some: jax.lax.scan(step, carry, some))
    optimizer = tx if freezing else plain
    carry = task.params, optimizer.init(task.params)
    steps = len(jax.tree.leaves(task.batches)[0])
    chunks = [
        jax.tree.map(lambda x, i=i: x[i : i + CHUNK], task.batches)
        for i in range(0, steps // CHUNK * CHUNK, CHUNK)
    ]
    jax.block_until_ready((run(carry, chunks[0]), task.validate(task.params)))
    seconds, losses, logs, accuracy, total = [], [], [], 0.0, 0.0
    for chunk in chunks:
        start = time.perf_counter()
        carry, log = jax.block_until_ready(run(carry, chunk))
        total += time.perf_counter() - start
        value, accuracy = task.validate(carry[0])
        seconds.append(total)
        losses.append(float(value))
        logs.append(log)
    saved, frozen, masks = (np.concatenate(x) for x in zip(*logs, strict=True))
    change = np.diff(masks.astype(int), axis=0)
    return Outcome(
        seconds,
        losses,
        float(accuracy),
        float(saved.mean()),
        float(frozen.mean()),
        int((change > 0).sum()),
        int((change < 0).sum()),
    )


def part_task(make: Callable[[int], Task], seeds: int) -> list[dict[str, Any]]:
    rows = []
    for seed in range(seeds):
        task = make(seed)
        runs = [train(task, freezing, RATE) for freezing in (False, True)]
        # As low as both got: the time to the same validation loss.
        target = 1.01 * max(min(run.losses) for run in runs)
        reached = [
            run.seconds[next(i for i, x in enumerate(run.losses) if x <= target)]
            for run in runs
        ]
        plain, ours = runs
        rows.append(
            {
                "task": task.name,
                "seed": seed,
                "best loss": [round(min(run.losses), 4) for run in runs],
                "accuracy": [round(run.accuracy, 4) for run in runs],
                "time to the same loss": round(reached[1] / reached[0], 3),
                "time of all steps": round(ours.seconds[-1] / plain.seconds[-1], 3),
                "backward FLOPs skipped": round(ours.skipped, 3),
                "parameters frozen": round(ours.frozen, 3),
                "freezes": ours.freezes,
                "thaws": ours.thaws,
            }
        )
        show(rows[-1:])
    return rows


def mnist(seed: int, data_dir: Path | None = None) -> Task:
    """An MLP on the images of examples/mnist.py."""
    from examples import mnist as example

    data = example.bundled_mnist() if data_dir is None else example.idx_mnist(data_dir)
    images, targets = (jnp.asarray(x) for x in example.prepare(*data.train))
    test = tuple(jnp.asarray(x) for x in example.prepare(*data.test))
    widths = (784, 512, 512, 512, 10)
    keys = jax.random.split(jax.random.key(seed), len(widths))
    params = {
        f"layer_{i}": {
            "kernel": jax.random.normal(k, (m, n)) * (2 / m) ** 0.5,
            "bias": jnp.zeros(n),
        }
        for i, (k, m, n) in enumerate(zip(keys, widths, widths[1:], strict=False))
    }

    def logits_of(params, x):
        *hidden, last = params.values()
        for layer in hidden:
            x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
        return x @ last["kernel"] + last["bias"]

    def loss(params, batch):
        x, y = images[batch], targets[batch]
        return optax.softmax_cross_entropy_with_integer_labels(
            logits_of(params, x), y
        ).mean()

    @jax.jit
    def validate(params):
        logits = logits_of(params, test[0])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, test[1])
        return losses.mean(), jnp.mean(jnp.argmax(logits, -1) == test[1])

    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(len(targets)) for _ in range(10)])
    order = order[: len(order) // 128 * 128].reshape(-1, 128)
    options = {"threshold": 0.3, "relative_to": "initial", "warmup": 30}
    return Task("MNIST MLP", params, loss, jnp.asarray(order), validate, options)


def library_text(modules: list[str]) -> np.ndarray:
    """Bytes of the sources of these standard modules: text that is always there."""
    import importlib.util

    found = [importlib.util.find_spec(name) for name in modules]
    parts = [Path(str(spec.origin)).read_bytes() for spec in found if spec]
    return np.frombuffer(b"".join(parts), np.uint8)


@functools.cache
def pretrained(seed: int, sizes: Sizes, steps: int) -> Any:
    """A byte model of English: the reference manual that comes with Python."""
    text = library_text(["pydoc_data.topics"])
    params = init_gpt(jax.random.key(seed), sizes, stacked=False)
    loss = functools.partial(gpt_loss, sizes=sizes, stacked=False, remat=False)
    tx = optax.adamw(optax.warmup_cosine_decay_schedule(0, 2e-3, 50, steps))

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, ids):
        _, grads = jax.value_and_grad(loss)(params, ids)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for ids in windows(text, sizes, steps, seed):
        params, state = step(params, state, ids)
    return params


def windows(text: np.ndarray, sizes: Sizes, steps: int, seed: int) -> jax.Array:
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, len(text) - sizes.tokens, (steps, sizes.batch))
    return jnp.asarray(text[starts[..., None] + np.arange(sizes.tokens)], jnp.int32)


def finetune(seed: int) -> Task:
    """From the manual's English to the source code of the standard library."""
    sizes = Sizes(width=128, heads=4, tokens=64, batch=16, words=256)
    params = pretrained(seed, sizes, 600)
    code = library_text(["argparse", "ast", "inspect", "typing", "subprocess"])
    held_out = library_text(["dataclasses"])
    loss = functools.partial(gpt_loss, sizes=sizes, stacked=False, remat=False)
    ids = windows(held_out, sizes, 16, 0)

    @jax.jit
    def validate(params):
        losses = jax.lax.map(lambda some: loss(params, some), ids)
        return losses.mean(), jnp.exp(-losses.mean())

    options = {"threshold": 0.4, "relative_to": "initial", "warmup": 50}
    return Task(
        "GPT fine-tune",
        params,
        loss,
        windows(code, sizes, 500, seed),
        validate,
        options,
    )


# Printing.


def summary(ratios: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"ratio": round(middle, 3), "low": round(low, 3), "high": round(high, 3)}


def show(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        print(
            "| " + " | ".join(str(value) for value in row.values()) + " |", flush=True
        )


def main() -> None:
    """Measure the chosen parts and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parts = {
        "step": lambda a: part_step(a.repeats),
        "optimizer": lambda a: part_optimizer(a.repeats),
        "mnist": lambda a: part_task(
            functools.partial(mnist, data_dir=a.data_dir), a.seeds
        ),
        "finetune": lambda a: part_task(finetune, a.seeds),
    }
    parser.add_argument("--part", choices=(*parts, "all"), default="all")
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    print(f"jax {jax.__version__}, optax {optax.__version__}, {jax.devices()[0]}")
    results = {}
    for name, part in parts.items():
        if arguments.part in (name, "all"):
            print(f"\n{name}\n", flush=True)
            results[name] = part(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
