import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from benchmarks import cost, models, peers, timing
from benchmarks.contract import Peer


def raises_in_make(inner, rate, horizon):
    raise TypeError("no such thing | at all\nand a second line")


def raises_in_update(inner, rate, horizon):
    def update(*_, **__):
        raise RuntimeError("cannot step")

    return optax.GradientTransformationExtraArgs(inner(rate).init, update)


@pytest.fixture(scope="module")
def report():
    broken = [
        Peer("broken_make", raises_in_make),
        Peer("broken_update", raises_in_update),
    ]
    with pytest.MonkeyPatch.context() as patch:
        for peer in broken:
            patch.setitem(peers.PEERS, peer.name, peer)
        return cost.measure(
            ("mlp",),
            ("constant", "prodigy", "broken_make", "broken_update"),
            configurations=(),
            repeats=2,
            compiles=2,
        )


def test_every_row_has_what_is_documented_and_it_is_json(report):
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    mlp, compilation = report["workloads"]["mlp"], report["compilation"]
    measured = {cost.TWIN, "constant", "prodigy"}
    assert set(mlp["rows"]) == measured | {"broken_make", "broken_update"}
    assert set(compilation["rows"]) == set(mlp["rows"])
    for name in measured:
        for row, key in (
            (mlp["rows"][name], "step_time_over_plain"),
            (compilation["rows"][name], "compile_time_over_plain"),
        ):
            assert row["error"] is None
            assert 0 < row[key]["low"] <= row[key]["median"] <= row[key]["high"]
    assert mlp["plain_step_seconds"] > 0
    assert {"jax", "optax", "device"} < set(report["environment"])


def test_bytes_of_known_optimizers(report):
    mlp = report["workloads"]["mlp"]
    size = 4 * (64 * 64 + 64 + 64 * 10 + 10)
    assert mlp["parameter_bytes"] == size
    assert mlp["plain_state_bytes"] == 2 * size + 4  # two moments and a count
    extra = {
        name: row["extra_state_over_parameters"]
        for name, row in mlp["rows"].items()
        if not row["error"]
    }
    assert extra[cost.TWIN] == 0
    assert extra["prodigy"] > 1  # keeps the first parameters, and more


def test_what_the_parts_of_ours_keep():
    params = jax.eval_shape(models.mlp().init, jax.random.key(0))
    size = timing.nbytes(params)
    adam = cost.INNER.factory
    kept = {
        name: cost.state_bytes(ao.adaptive_scheduler(adam, 1e-3, **options), params)
        for name, options in cost.CONFIGURATIONS.items()
    }
    law = kept["control law only"]
    # Adam's moments, and at least 1,024 coordinates of the last step, of the way and of
    # its mean; with the average, of its own mean.
    sketch = 4 * 1024 / size
    assert 2 + 2.5 * sketch <= law / size < 2.8 + 2.5 * sketch
    assert (kept["+ averaging"] - law) / size == pytest.approx(1 + sketch, abs=0.1)
    assert (kept["+ recovery"] - law) / size == pytest.approx(3, abs=0.02)
    both = kept["default (both)"]
    assert (both - law) / size == pytest.approx(4 + sketch, abs=0.1)
    assert (kept["default + dither"] - both) / size < 0.02


def test_a_peer_that_raises_is_recorded(report):
    rows = report["workloads"]["mlp"]["rows"]
    assert rows["broken_make"] == {"error": "TypeError: no such thing | at all"}
    assert rows["broken_update"] == {"error": "RuntimeError: cannot step"}
    assert report["compilation"]["rows"]["broken_make"] == rows["broken_make"]


def test_the_table_has_a_row_each_and_columns_that_fit(report):
    lines = [line for line in cost.table(report).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(report["compilation"]["rows"])
    assert {line.replace("\\|", "").count("|") for line in lines} == {5}
    broken = next(line for line in lines if "broken_make" in line)
    assert "raised TypeError: no such thing" in broken


def test_unknown_names_and_too_few_repeats_are_refused():
    with pytest.raises(ValueError, match="unknown workload 'resnet'; known: mlp, gpt"):
        cost.measure(("resnet",))
    with pytest.raises(ValueError, match="unknown peer 'prodigi'.*did you mean"):
        cost.measure(("mlp",), ("prodigi",))
    with pytest.raises(ValueError, match="`repeats` must be at least 2, got 1"):
        timing.paired(lambda: 1.0, {}, 1)
    with pytest.raises(ValueError, match="did you mean 'prodigy'"):
        cost.cost(peer=("prodigi",))


def test_ratios_are_paired_and_both_orders_are_taken():
    said = []

    def spends(name, *seconds):
        turns = iter(seconds)

        def timed():
            said.append(name)
            return next(turns)

        return timed

    found, plain = timing.paired(
        spends("plain", 1.0, 10.0, 2.0), {"twice": spends("twice", 2.0, 20.0, 4.0)}, 3
    )
    assert found == {"twice": {"low": 2.0, "median": 2.0, "high": 2.0}}
    assert plain == 2.0
    assert said == ["plain", "twice", "twice", "plain", "plain", "twice"]


def test_the_gpt_is_the_same_scanned_and_sees_the_past_only():
    config = models.GPTConfig(2, 16, 2, 8, 11, 3)
    unrolled, scanned = models.gpt(config), models.gpt(config._replace(scan=True))

    @jax.jit
    def losses(key):
        params, ids = unrolled.init(key), unrolled.batch(key)
        stacked = jax.tree.map(lambda *leaf: jnp.stack(leaf), *params["blocks"])
        loss, grads = jax.value_and_grad(unrolled.loss)(params, ids)
        return loss, grads, scanned.loss({**params, "blocks": stacked}, ids)

    loss, grads, same = jax.device_get(losses(jax.random.key(0)))
    assert loss == pytest.approx(np.log(11), abs=0.1)
    assert same == pytest.approx(loss, rel=1e-5)
    assert np.all(np.any(grads["positions"][:-1], axis=-1))
    assert not np.any(grads["positions"][-1])  # the last position predicts nothing
