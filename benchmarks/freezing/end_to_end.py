"""Whole training runs, with freezing and without, side by side."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adaptive_optax as ao
from benchmarks import timing
from benchmarks.freezing.tasks import Task

CHUNK = 25  # steps of one jitted scan, between two looks at the clock and the loss


def measure(make: Callable[[int], Task], seeds: int) -> Iterator[dict[str, Any]]:
    """The runs take turns, chunk by chunk, so that they see the same machine."""
    for seed in range(seeds):
        task = make(seed)
        plain = Run(task, None)
        runs = {name: Run(task, options) for name, options in task.settings.items()}
        steps = len(jax.tree.leaves(task.batches)[0])
        for start in range(0, steps // CHUNK * CHUNK, CHUNK):
            for run in (plain, *runs.values()):
                run.advance(start)
        for name, ours in runs.items():
            pair = plain, ours
            # The lowest loss that both reached.
            target = max(min(run.losses) for run in pair)
            sooner = ours.time_to(target) / plain.time_to(target)
            yield {
                "task": task.name,
                "freezing": name,
                "seed": seed,
                "best loss": [round(min(run.losses), 4) for run in pair],
                "accuracy": [round(run.accuracy, 4) for run in pair],
                "time to the same loss": round(sooner, 3),
                "time of all steps": round(ours.seconds[-1] / plain.seconds[-1], 3),
                **ours.frozen_summary(),
            }


class Run:
    """One training run, advanced chunk by chunk; without options nothing freezes."""

    def __init__(self, task: Task, options: dict[str, Any] | None):
        self.task, self.seconds, self.losses = task, [0.0], []
        self.logs: list[Any] = []
        tx, step = _plain(task) if options is None else _freezing(task, options)
        self.run = jax.jit(lambda carry, some: jax.lax.scan(step, carry, some))
        self.carry = task.params, tx.init(task.params)
        jax.block_until_ready(self.run(self.carry, self.chunk(0)))  # compile, untimed

    def chunk(self, start: int) -> Any:
        return jax.tree.map(lambda x: x[start : start + CHUNK], self.task.batches)

    def advance(self, start: int) -> None:
        chunk = self.chunk(start)
        began = time.perf_counter()
        self.carry, log = jax.block_until_ready(self.run(self.carry, chunk))
        self.seconds.append(self.seconds[-1] + time.perf_counter() - began)
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


def _plain(task: Task) -> tuple[Any, Callable[..., Any]]:
    tx = optax.adamw(task.rate)
    step = timing.stepper(tx, task.loss)
    return tx, lambda carry, batch: (step(*carry, batch), ())


def _freezing(task: Task, options: dict[str, Any]) -> tuple[Any, Callable[..., Any]]:
    """Logs backward FLOPs skipped, the share of parameters frozen, and the mask."""
    labels = ao.block_labels(task.params)
    tx = ao.freeze_by_grad_norm(inner=optax.adamw(task.rate), groups=labels, **options)
    value_and_grad = ao.frozen_value_and_grad(task.loss, labels)
    first = jax.tree.map(lambda x: x[0], task.batches)
    flops, names = value_and_grad.flops(task.params, first), jax.tree.leaves(labels)
    sizes = np.asarray([x.size for x in jax.tree.leaves(task.params)])
    shares = jnp.asarray(sizes / sizes.sum(), jnp.float32)

    def step(carry, batch):
        params, state = carry
        skip = ao.skip_mask(state, params)
        _, grads = value_and_grad(params, skip, batch)
        updates, state = tx.update(grads, state, params)
        frozen = ao.frozen_mask(state, params)
        params = ao.apply_updates(params, updates, frozen)
        mask = jnp.stack(jax.tree.leaves(frozen))
        saved = flops.share(jax.tree.leaves(skip), names)
        return (params, state), (saved, jnp.sum(mask * shares), mask)

    return tx, step
