"""What freezing saves: step time over the same step without it, and where it hurts.

    python benchmarks/freezing.py --part step         # a GPT step under fixed masks
    python benchmarks/freezing.py --part flops        # what the arithmetic allows
    python benchmarks/freezing.py --part optimizer    # the optimizer alone
    python benchmarks/freezing.py --part mnist        # end to end, 5 seeds
    python benchmarks/freezing.py --part drift        # its labels change half-way
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


def gpt_logits(
    params: Any, ids: jax.Array, *, sizes: Sizes, stacked: bool, remat: bool
) -> jax.Array:
    """Of the next word after each but the last, one row each."""
    apply = functools.partial(block, sizes=sizes)
    apply = jax.checkpoint(apply) if remat else apply
    x = params["embed"]["words"][ids] + params["embed"]["positions"]
    if stacked:
        x, _ = jax.lax.scan(lambda x, p: (apply(p, x), None), x, params["blocks"])
    else:
        for p in params["blocks"]:
            x = apply(p, x)
    rows = normed(x[:, :-1], params["head"]["scale"]).reshape(-1, sizes.width)
    return rows @ params["head"]["out"]


def gpt_loss(params: Any, ids: jax.Array, **options: Any) -> jax.Array:
    logits, labels = gpt_logits(params, ids, **options), ids[:, 1:].reshape(-1)
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


def part_step(repeats: int, kinds: list[str]) -> list[dict[str, Any]]:
    sizes, rows = Sizes(), []
    ids = jax.random.randint(jax.random.key(1), (BATCH, TOKENS), 0, WORDS)
    for kind in kinds:
        options = KINDS[kind]
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


# Part 2: what the arithmetic allows. With the mask known while tracing there is no
# conditional, and XLA counts what is left. It does not count the turns of a loop.


def part_flops() -> list[dict[str, Any]]:
    sizes, rows = Sizes(), []
    ids = jnp.zeros((BATCH, TOKENS), jnp.int32)
    for kind in ("unrolled", "unrolled + remat"):
        options = KINDS[kind]
        params = init_gpt(jax.random.key(0), sizes, options["stacked"])
        state = optax.adamw(RATE).init(params)
        loss = functools.partial(gpt_loss, sizes=sizes, **options)
        vg = ao.frozen_value_and_grad(loss, ao.block_labels(params))

        def counted(step: Callable[..., Any], mask: Any, carry: Any = (params, state)):
            known = jax.tree.map(bool, mask)
            step = functools.partial(step, known)
            return jax.jit(step).lower(*carry, ids).compile().cost_analysis()["flops"]

        whole = counted(plain_step(loss), None)
        gradient = vg.flops(params, ids)
        total = gradient.forward + gradient.backward
        for name, blocks in SETS.items():
            mask = mask_of(params, blocks)
            step = frozen_step(loss, ao.block_labels(params))
            frozen = {
                label
                for label, leaf in zip(
                    jax.tree.leaves(ao.block_labels(params)),
                    jax.tree.leaves(mask),
                    strict=True,
                )
                if leaf
            }
            rows.append(
                {
                    "model": kind,
                    "frozen": name,
                    "left": round(counted(step, mask) / whole, 3),
                    "left, by our count": round(1 - gradient.saved(*frozen) / total, 3),
                }
            )
        show(rows[-len(SETS) :])
    return rows


# Part 3: the optimizer alone.


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


# Parts 4 and 5: end to end.


class Task(NamedTuple):
    """A training run, with and without freezing."""

    name: str
    params: Any
    loss: Callable[..., jax.Array]  # of (params, batch)
    batches: Any  # stacked, one row a step
    validate: Callable[[Any], tuple[jax.Array, jax.Array]]  # loss, accuracy
    settings: dict[str, dict[str, Any]]  # of `freeze_by_grad_norm`, by name
    rate: float = RATE


class Run:
    """One training run, advanced chunk by chunk."""

    def __init__(self, task: Task, freezing: dict[str, Any] | None):
        self.task, self.seconds, self.losses = task, [0.0], []
        self.logs: list[Any] = []
        labels = ao.block_labels(task.params)
        plain = optax.adamw(task.rate)
        tx = ao.freeze_by_grad_norm(inner=plain, groups=labels, **freezing or {})
        vg = ao.frozen_value_and_grad(task.loss, labels)
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
            mask, zero = jnp.zeros(len(sizes), bool), jnp.float32(0)
            return (optax.apply_updates(params, updates), state), (zero, zero, mask)

        step, optimizer = (frozen_step, tx) if freezing else (plain_step, plain)
        self.run = jax.jit(lambda carry, some: jax.lax.scan(step, carry, some))
        self.carry = task.params, optimizer.init(task.params)
        some = jax.tree.map(lambda x: x[:CHUNK], task.batches)
        jax.block_until_ready(self.run(self.carry, some))  # compiled, and not timed

    def advance(self, chunk: Any) -> None:
        start = time.perf_counter()
        self.carry, log = jax.block_until_ready(self.run(self.carry, chunk))
        self.seconds.append(self.seconds[-1] + time.perf_counter() - start)
        self.logs.append(log)
        loss, self.accuracy = map(float, self.task.validate(self.carry[0]))
        self.losses.append(loss)

    def time_to(self, target: float) -> float:
        reached = next(i for i, loss in enumerate(self.losses) if loss <= target)
        return self.seconds[reached + 1]

    def frozen_summary(self) -> dict[str, Any]:
        saved, frozen, masks = map(np.concatenate, zip(*self.logs, strict=True))
        change = np.diff(masks.astype(int), axis=0, prepend=0)
        freezes, thaws = (change > 0).sum(1), (change < 0).sum(1)
        return {
            "backward FLOPs skipped": round(float(saved.mean()), 3),
            "parameters frozen": round(float(frozen.mean()), 3),
            "leaves frozen, thawed": [int(freezes.sum()), int(thaws.sum())],
            "thawed at": {int(t): int(thaws[t]) for t in np.flatnonzero(thaws)},
        }


CHUNK = 25


def part_task(make: Callable[[int], Task], seeds: int) -> list[dict[str, Any]]:
    """The runs take turns, chunk by chunk, so that they see the same machine."""
    rows = []
    for seed in range(seeds):
        task = make(seed)
        plain = Run(task, None)
        runs = {name: Run(task, options) for name, options in task.settings.items()}
        steps = len(jax.tree.leaves(task.batches)[0])
        for start in range(0, steps // CHUNK * CHUNK, CHUNK):
            chunk = jax.tree.map(lambda x, i=start: x[i : i + CHUNK], task.batches)
            for run in (plain, *runs.values()):
                run.advance(chunk)
        for name, ours in runs.items():
            pair = plain, ours
            # The lowest loss that both reached.
            target = max(min(run.losses) for run in pair)
            rows.append(
                {
                    "task": task.name,
                    "freezing": name,
                    "seed": seed,
                    "best loss": [round(min(run.losses), 4) for run in pair],
                    "accuracy": [round(run.accuracy, 4) for run in pair],
                    "time to the same loss": round(
                        ours.time_to(target) / plain.time_to(target), 3
                    ),
                    "time of all steps": round(ours.seconds[-1] / plain.seconds[-1], 3),
                    **ours.frozen_summary(),
                }
            )
        show(rows[-len(runs) :])
    return rows


def mnist(seed: int, data_dir: Path | None = None, drift: bool = False) -> Task:
    """An MLP on the images of examples/mnist.py.

    With a drift every digit is called by the next one's name after half of the run:
    what rests then must wake.
    """
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
        rows, shift = batch
        x, y = images[rows], (targets[rows] + shift) % 10
        return optax.softmax_cross_entropy_with_integer_labels(
            logits_of(params, x), y
        ).mean()

    @jax.jit
    def validate(params):
        logits, y = logits_of(params, test[0]), (test[1] + drift) % 10
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return losses.mean(), jnp.mean(jnp.argmax(logits, -1) == y)

    rng = np.random.default_rng(seed)
    epochs = 20 if drift else 10
    order = np.concatenate([rng.permutation(len(targets)) for _ in range(epochs)])
    order = jnp.asarray(order[: len(order) // 128 * 128].reshape(-1, 128))
    shift = jnp.arange(len(order)) * 2 >= len(order) if drift else jnp.zeros(len(order))
    batches = order, shift.astype(jnp.int32)
    initial = {"relative_to": "initial", "warmup": 30}
    settings = {
        "below .1 of its own early norm": {"threshold": 0.1, **initial},
        "below .3": {"threshold": 0.3, **initial},
    }
    name = "MNIST MLP, labels drift" if drift else "MNIST MLP"
    return Task(name, params, loss, batches, validate, settings)


def library_text(modules: list[str]) -> np.ndarray:
    """Bytes of the sources of these standard modules: text that is always there."""
    import importlib.util

    found = [importlib.util.find_spec(name) for name in modules]
    parts = [Path(str(spec.origin)).read_bytes() for spec in found if spec]
    return np.frombuffer(b"".join(parts), np.uint8)


@functools.cache
def pretrained(sizes: Sizes, steps: int) -> Any:
    """A byte model of English: the reference manual that comes with Python."""
    seed = 1000
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
    """From the manual's English to source code; the seed orders the data."""
    sizes = Sizes(width=128, heads=4, tokens=64, batch=8, words=256)
    params = pretrained(sizes, 2000)
    code = library_text(["argparse", "ast", "inspect", "typing", "subprocess"])
    held_out = library_text(["dataclasses"])
    model = {"sizes": sizes, "stacked": False, "remat": False}
    loss = functools.partial(gpt_loss, **model)
    ids = windows(held_out, sizes, 16, 0)

    @jax.jit
    def validate(params):
        def of_batch(some):
            guess = jnp.argmax(gpt_logits(params, some, **model), -1)
            right = guess == some[:, 1:].reshape(-1)
            return loss(params, some), right.mean()

        losses, accuracies = jax.lax.map(of_batch, ids)
        return losses.mean(), accuracies.mean()

    # Its norms do not fall, they grow: none is ever far below its own early one.
    largest = {
        "threshold": 0.2,
        "relative_to": "largest",
        "warmup": 50,
        "min_dwell": 50,
    }
    settings = {
        "below .2 of the largest norm, half at most": {**largest, "max_fraction": 0.5},
        "below .2 of the largest norm": largest,
    }
    batches = windows(code, sizes, 300, seed)
    return Task("GPT fine-tune", params, loss, batches, validate, settings, rate=3e-4)


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
        "step": lambda a: part_step(a.repeats, a.kinds),
        "flops": lambda a: part_flops(),
        "optimizer": lambda a: part_optimizer(a.repeats),
        "mnist": lambda a: part_task(
            functools.partial(mnist, data_dir=a.data_dir), a.seeds
        ),
        "drift": lambda a: part_task(
            functools.partial(mnist, data_dir=a.data_dir, drift=True), a.seeds
        ),
        "finetune": lambda a: part_task(finetune, a.seeds),
    }
    parser.add_argument("--part", choices=(*parts, "all"), default="all")
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
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
