"""A whole training step of a GPT under fixed masks: its time, and its arithmetic."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

import adaptive_optax as ao
from benchmarks import models, timing
from benchmarks.freezing.gpt import KINDS, gpt

ADAMW = optax.adamw(1e-3)
EVERYTHING = "all but the head"
PROBE_EVERY = 20  # steps
Step = Callable[..., Any]  # (params, state, batch, frozen) -> (params, state)


def sets(blocks: int) -> dict[str, Sequence[int] | None]:
    """The blocks that are frozen together with the embeddings, by name."""
    return {
        "nothing": None,
        "half prefix": range(blocks // 2),
        EVERYTHING: range(blocks),
        "alternate": range(1, blocks, 2),
    }


def mask_of(params: Any, frozen: Sequence[int] | None) -> Any:
    """Embeddings and these blocks, as bool[] or, where stacked, bool[blocks]."""

    def filled(tree: Any, mask: Any) -> Any:
        return jax.tree.map(lambda _: jnp.asarray(mask), tree)

    mask = filled(params, False)
    if frozen is None:
        return mask
    mask["embed"] = filled(params["embed"], True)
    blocks = params["blocks"]
    if isinstance(blocks, list):
        mask["blocks"] = [filled(p, i in frozen) for i, p in enumerate(blocks)]
    else:
        layers = range(len(jax.tree.leaves(blocks)[0]))
        mask["blocks"] = filled(blocks, [i in frozen for i in layers])
    return mask


def masking_step(tx: Any, loss: Callable[..., jax.Array]) -> Step:
    """The gradients computed and then masked: what a mask alone does."""

    def zeroed(tree: Any, frozen: Any) -> Any:
        def one(leaf, rests):
            rests = rests.reshape(rests.shape + (1,) * (leaf.ndim - rests.ndim))
            return jnp.where(rests, jnp.zeros_like(leaf), leaf)

        return jax.tree.map(one, tree, frozen)

    def step(params, state, batch, frozen):
        grads = zeroed(jax.grad(loss)(params, batch), frozen)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, zeroed(updates, frozen)), state

    return step


def skipping_step(tx: Any, loss: Callable[..., jax.Array], labels: Any) -> Step:
    """The whole pattern: skip the gradients, hold the moments and the parameters."""
    held = ao.hold_frozen(tx)
    value_and_grad = ao.frozen_value_and_grad(loss, labels)

    def step(params, state, batch, frozen):
        _, grads = value_and_grad(params, frozen, batch)
        updates, state = held.update(grads, state, params, frozen=frozen)
        return ao.apply_updates(params, updates, frozen), state

    return step


def measure(
    repeats: int,
    kinds: Sequence[str] = tuple(KINDS),
    config: models.GPTConfig = models.GPT_5M,
) -> Iterator[dict[str, Any]]:
    """Step time over the plain step's, by kind of model, way and frozen set."""
    for kind in kinds:
        model = gpt(config, **KINDS[kind])
        plain, runners = _runners(model, config, every_way=kind == "unrolled")
        ratios, _ = timing.paired(plain, runners, repeats)
        if kind == "unrolled":
            ratios |= _with_probes(plain, runners, repeats)
        for (way, name), ratio in ratios.items():
            yield {"model": kind, "way": way, "frozen": name, "ratio": ratio}


def _runners(
    model: models.Model, config: models.GPTConfig, every_way: bool
) -> tuple[timing.Timed, dict[tuple[str, str], timing.Timed]]:
    """The plain step, and by (way, frozen set) those that are held against it."""
    params = jax.eval_shape(model.init, jax.random.key(0))
    ids = model.batch(jax.random.key(1))
    masks = {name: mask_of(params, some) for name, some in sets(config.blocks).items()}
    plain = timing.stepper(ADAMW, model.loss)
    skipping = skipping_step(ADAMW, model.loss, ao.block_labels(params))

    def run(step: Callable[..., Any], *frozen: Any) -> timing.Timed:
        return timing.runner(step, timing.start(ADAMW, model), ids, *frozen, calls=1)

    def staged(mask: Any) -> timing.Timed:
        def step(frozen, *others):
            return skipping(*others, frozen)

        run = ao.StagedStep(step, donate_argnums=(1, 2), patience=0)
        carry = timing.start(ADAMW, model)
        return timing.caller(functools.partial(run, mask), carry, ids, calls=1)

    runners = {("plain again", "nothing"): run(plain)}
    for name, mask in masks.items():
        runners["frozen_value_and_grad", name] = run(skipping, mask)
    if every_way:
        masking = masking_step(ADAMW, model.loss)
        runners["mask only", EVERYTHING] = run(masking, masks[EVERYTHING])
        for name in ("nothing", "half prefix", EVERYTHING):
            runners["StagedStep", name] = staged(masks[name])
    return run(plain), runners


def _with_probes(
    plain: timing.Timed, runners: dict[tuple[str, str], timing.Timed], repeats: int
) -> dict[tuple[str, str], dict[str, float]]:
    """Ratios of whole cycles: a probe, and the other steps under the mask."""
    live, frozen = (
        runners["frozen_value_and_grad", name] for name in ("nothing", EVERYTHING)
    )

    def cycle() -> float:
        return live() + sum(frozen() for _ in range(PROBE_EVERY - 1))

    def plain_cycle() -> float:
        return sum(plain() for _ in range(PROBE_EVERY))

    way = f"with probes, every {PROBE_EVERY}th step"
    cycles = {(way, EVERYTHING): cycle}
    return timing.paired(plain_cycle, cycles, max(repeats // 5, 3))[0]


def flops(config: models.GPTConfig = models.GPT_5M) -> Iterator[dict[str, Any]]:
    """What the arithmetic allows: FLOPs over the plain step's.

    With the mask known while tracing there is no conditional, and XLA counts what is
    left. It does not count the turns of a loop, so there is no row for the scan.
    """
    for kind in ("unrolled", "unrolled + remat"):
        model = gpt(config, **KINDS[kind])
        params = jax.eval_shape(model.init, jax.random.key(0))
        ids = model.batch(jax.random.key(1))
        labels = ao.block_labels(params)
        gradient = ao.frozen_value_and_grad(model.loss, labels).flops(params, ids)
        skipping = skipping_step(ADAMW, model.loss, labels)
        whole = _counted(timing.stepper(ADAMW, model.loss), params, ids)
        for name, blocks in sets(config.blocks).items():
            known = jax.tree.map(bool, mask_of(params, blocks))
            pairs = zip(jax.tree.leaves(labels), jax.tree.leaves(known), strict=True)
            saved = gradient.saved(*(label for label, frozen in pairs if frozen))
            left = _counted(skipping, params, ids, known) / whole
            total = gradient.forward + gradient.backward
            yield {
                "model": kind,
                "frozen": name,
                "left": round(left, 3),
                "left, by our count": round(1 - saved / total, 3),
            }


def _counted(step: Callable[..., Any], params: Any, ids: Any, *known: Any) -> float:
    """FLOPs of a step as XLA counts them, the mask a constant of the program."""
    state = jax.eval_shape(ADAMW.init, params)
    run = jax.jit(lambda *traced: step(*traced, *known))
    return run.lower(params, state, ids).compile().cost_analysis()["flops"]
