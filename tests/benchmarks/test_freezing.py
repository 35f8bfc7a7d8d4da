"""What freezing saves, measured at sizes where it saves nothing."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from benchmarks import models
from benchmarks.freezing import end_to_end, report, step
from benchmarks.freezing.gpt import KINDS, gpt
from benchmarks.freezing.tasks import Task

TINY = models.GPTConfig(blocks=2, width=16, heads=2, tokens=8, words=11, batch=2)


def test_every_way_of_freezing_is_a_row():
    found = {}
    for row in step.measure(2, ("unrolled",), TINY):
        ratio = row["ratio"]
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
        found.setdefault(row["way"], []).append(row["frozen"])
    every = ["nothing", "half prefix", "all but the head", "alternate"]
    assert found == {
        "plain again": ["nothing"],
        "frozen_value_and_grad": every,
        "mask only": ["all but the head"],
        "StagedStep": every[:3],
        "with probes, every 20th step": ["all but the head"],
    }


def test_a_mask_and_skipping_take_the_same_step():
    model = gpt(TINY, **KINDS["scan + remat"])
    params, ids = model.init(jax.random.key(0)), model.batch(jax.random.key(1))
    tx, frozen = optax.adam(1e-2), step.mask_of(params, (1,))
    masked, skipped = (
        jax.jit(one)(params, tx.init(params), ids, frozen)[0]
        for one in (
            step.masking_step(tx, model.loss),
            step.skipping_step(tx, model.loss, ao.block_labels(params)),
        )
    )
    for x, y in zip(*map(jax.tree.leaves, (masked, skipped)), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)
    moved = jax.tree.map(lambda x, y: np.any(x != y), skipped, params)
    assert not any(moved["embed"].values()) and all(moved["head"].values())
    of_layer = np.any(skipped["blocks"]["up"] != params["blocks"]["up"], (1, 2))
    assert of_layer.tolist() == [True, False]


def test_a_run_end_to_end_is_held_against_its_plain_twin():
    x = jax.random.normal(jax.random.key(0), (50, 8, 4))

    def loss(params, x):
        return jnp.mean((x @ params["slow"] @ params["quick"] - x.sum(-1)) ** 2)

    def make(seed):
        params = {"slow": jnp.eye(4), "quick": jnp.zeros(4)}
        validate = jax.jit(lambda params: (loss(params, x[0]), jnp.float32(seed)))
        soon = {"warmup": 5, "min_dwell": 5, "probe_every": 1000}
        settings = {"all": {"threshold": 1e9, **soon}}
        return Task("toy", params, loss, x, validate, settings, rate=0.1)

    first, second = end_to_end.measure(make, 2)
    assert (first["seed"], second["seed"]) == (0, 1)
    assert second["accuracy"] == [1.0, 1.0]
    plain, ours = first["best loss"]
    assert plain < ours  # all rests after the warm-up
    assert 0.5 < first["parameters frozen"] < 1
    assert first["leaves frozen, thawed"] == [2, 0]
    assert first["time of all steps"] > 0


def test_rows_are_printed_and_written(monkeypatch, tmp_path, capsys):
    ratio = {"low": 0.5, "median": 0.66666, "high": 1.0}
    row = {"model": "unrolled", "way": "none", "frozen": "nothing", "ratio": ratio}
    monkeypatch.setattr(report.step, "measure", lambda repeats, kinds: iter([row]))
    report.freezing(part="step", json=tmp_path / "freezing.json")
    assert (
        "| unrolled | none | nothing | 0.667 | 0.5 | 1.0 |" in capsys.readouterr().out
    )
    (written,) = json.loads((tmp_path / "freezing.json").read_text())["step"]
    assert list(written) == ["model", "way", "frozen", "ratio", "low", "high"]
    with pytest.raises(ValueError, match="unknown part 'steps'; known: step, flops"):
        report.freezing(part="steps")
