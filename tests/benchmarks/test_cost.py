import json

import optax
import pytest

from benchmarks import cost, models, peers, timing
from benchmarks.contract import Peer

CONFIGURATIONS = ("control law only", "+ averaging")


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
            configurations=CONFIGURATIONS,
            repeats=2,
            compiles=2,
        )


def test_every_row_has_what_is_documented_and_it_is_json(report):
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    mlp, compilation = report["workloads"]["mlp"], report["compilation"]
    measured = {cost.TWIN, *CONFIGURATIONS, "constant", "prodigy"}
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
    assert 0 < extra["control law only"] < 0.5  # at least 1,024 coordinates of the step
    assert extra["+ averaging"] - extra["control law only"] == pytest.approx(
        1, abs=0.01
    )
    assert extra["prodigy"] > 1  # keeps the first parameters, and more


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


def test_unknown_names_and_too_few_repeats_are_refused(capsys):
    with pytest.raises(ValueError, match="unknown workload 'resnet'; known: mlp, gpt"):
        cost.measure(("resnet",))
    with pytest.raises(ValueError, match="unknown peer 'prodigi'.*did you mean"):
        cost.measure(("mlp",), ("prodigi",))
    with pytest.raises(ValueError, match="`repeats` must be at least 2, got 1"):
        timing.paired(lambda: 1.0, {}, 1)
    with pytest.raises(SystemExit):
        cost.main(["--peers", "prodigi"])
    assert "did you mean 'prodigy'" in capsys.readouterr().err


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


@pytest.mark.parametrize("scan", [False, True])
def test_the_gpt_sees_the_past_only(scan):
    import jax
    import numpy as np

    config = models.GPTConfig(2, 16, 2, 8, 11, 3, scan=scan)
    model = models.gpt(config)
    params, ids = model.init(jax.random.key(0)), model.batch(jax.random.key(1))
    assert ids.shape == (3, 8)
    assert abs(float(model.loss(params, ids)) - np.log(11)) < 0.1
    # Only the last prediction, of the last token, may change with it.
    other = ids.at[:, -1].set((ids[:, -1] + 1) % 11)
    gradient = jax.grad(lambda p, ids: model.loss(p, ids))(params, ids)["positions"]
    assert np.abs(gradient[:-1]).min(axis=-1).min() >= 0
    assert not np.any(gradient[-1])  # the last position predicts nothing
    assert float(model.loss(params, other)) != float(model.loss(params, ids))
