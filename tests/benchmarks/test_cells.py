import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cells, compare, experiment, hashes, peers, protocol, workloads
from benchmarks.cells import Cell, Result
from benchmarks.contract import EVALUATIONS, Peer, Workload

CELL = Cell("quadratic", "constant", (("x1", 0.01), ("x10", 0.1)), (0, 1))


def result(cell=CELL, seed=0, error=None):
    rng = np.random.default_rng(seed)
    shape = (len(cell.rates), len(cell.seeds), EVALUATIONS + 1)
    curves = {kind: rng.random(shape, np.float32) for kind in cells.CURVES}
    traces = {"learning_rate": rng.random((len(cell.rates), 4), np.float32)}
    if error is not None:
        curves, traces = {}, {}
    return Result(cell, curves, traces, error, 1.0, 2.0)


@pytest.fixture
def computed(monkeypatch):
    """Cells that are computed, in place of training."""
    seen = []

    def compute(cell):
        seen.append(cell)
        return result(cell)

    monkeypatch.setattr(cells, "compute", compute)
    return seen


@pytest.mark.parametrize("error", [None, "ValueError: no"])
def test_a_result_survives_the_disk(tmp_path, error):
    saved, path = result(error=error), tmp_path / "cell.npz"
    cells.save(saved, path)
    loaded = cells.load(CELL, path)
    assert loaded._replace(curves={}, traces={}) == saved._replace(curves={}, traces={})
    for kind in ("curves", "traces"):
        np.testing.assert_equal(getattr(loaded, kind), getattr(saved, kind))
    assert list(tmp_path.iterdir()) == [path]  # nothing half-written stays behind


def test_a_finished_cell_is_not_computed_again(tmp_path, computed):
    first = list(cells.run([CELL], cache=tmp_path, workers=1))
    again = list(cells.run([CELL], cache=tmp_path, workers=1))
    assert [fresh for _, fresh in first + again] == [True, False]
    assert computed == [CELL]


@pytest.mark.parametrize("damage", ["truncated", "garbage", "flipped", "empty"])
def test_a_damaged_cell_is_computed_again_and_said_so(
    tmp_path, computed, capsys, damage
):
    list(cells.run([CELL], cache=tmp_path, workers=1))
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    path.write_bytes(
        {
            "truncated": whole[: len(whole) // 2],
            "garbage": b"not a zip",
            "flipped": bytes(flipped),
            "empty": b"",
        }[damage]
    )
    again = list(cells.run([CELL], cache=tmp_path, workers=1))
    assert [fresh for _, fresh in again] == [True]
    error = capsys.readouterr().err
    assert "quadratic x constant" in error and "damaged" in error
    assert len(computed) == 2
    assert path.read_bytes() == whole


def test_an_interrupted_run_keeps_what_was_finished(tmp_path, monkeypatch, computed):
    wanted = [CELL._replace(seeds=(seed,)) for seed in range(4)]
    interrupted = cells.run(wanted, cache=tmp_path, workers=1)
    next(interrupted), next(interrupted)
    interrupted.close()
    again = list(cells.run(wanted, cache=tmp_path, workers=1))
    assert sorted(fresh for _, fresh in again) == [False, False, True, True]


def test_a_peer_that_raises_is_recorded(monkeypatch):
    def explode(*_):
        raise RuntimeError("no such thing\nas a second line")

    monkeypatch.setattr(experiment, "run", explode)
    found = cells.compute(CELL)
    assert found.error == "RuntimeError: no such thing"
    assert found.curves == {}


def test_the_key_depends_on_what_is_run_and_on_nothing_else():
    key = cells.key(CELL)
    assert key == cells.key(Cell(*CELL))
    for other in (
        CELL._replace(workload="logistic"),
        CELL._replace(workload=f"{CELL.workload}/lion"),
        CELL._replace(workload=f"{CELL.workload}@80"),
        CELL._replace(peer="cosine"),
        CELL._replace(seeds=(0, 2)),
        CELL._replace(rates=(("x1", 0.02), ("x10", 0.1))),
    ):
        assert cells.key(other) != key


def test_a_comment_does_not_change_the_hash(tmp_path):
    def digest(text):
        path = tmp_path / "code.py"
        path.write_text(text)
        hashes.syntax_hash.cache_clear()
        return hashes.syntax_hash(path)

    plain = digest('def f(x):\n    """Doc."""\n    return x + 1\n')
    assert plain == digest(
        '"""New."""\n\ndef f(x):  # why\n    """Else."""\n    return x+1'
    )
    assert plain != digest('def f(x):\n    """Doc."""\n    return x + 2\n')
    hashes.syntax_hash.cache_clear()


def toy_workload(**changes) -> Workload:
    """Descend |x|^2 from 1; the metric is the square of the last coordinate."""
    import jax.numpy as jnp

    plain = Workload(
        name="toy",
        split="development",
        optimizer="sgd",
        horizon=EVALUATIONS * 2,
        batch_size=0,
        init=lambda key: jnp.ones(3),
        batch=lambda key, step: step,
        loss=lambda params, batch, key: (jnp.sum(params**2) / 2, None),
        metric=lambda params, step: params[-1] ** 2,
        metric_name="squared distance",
        floor=1e-9,
    )
    return plain._replace(**changes)


def test_an_experiment_runs_the_recurrence_it_says():
    import optax

    plain = Peer("plain", lambda inner, rate, horizon: inner(rate))
    curves = experiment.run(toy_workload(), plain, optax.sgd, [0.1, 0.5], [0, 1])
    assert curves.last.shape == (2, 2, EVALUATIONS + 1)
    steps = 2 * np.arange(EVALUATIONS + 1)
    for i, rate in enumerate((0.1, 0.5)):
        expected = (1 - rate) ** (2 * steps)
        np.testing.assert_allclose(curves.last[i, 1], expected, rtol=1e-4, atol=1e-30)
    np.testing.assert_array_equal(curves.own, curves.last)
    # The average starts with the start and lags behind.
    assert curves.average[0, 0, 0] == 1.0
    assert (curves.average[0, 0, 5:] > curves.last[0, 0, 5:]).all()


def test_a_reward_reaches_the_peer_and_a_bad_batch_ends_no_peer():
    import jax.numpy as jnp
    import optax

    def loss(params, batch, key):
        return jnp.sum(params**2) / jnp.where(batch == 5, jnp.nan, 2.0), jnp.float32(
            7.0
        )

    def make(inner, rate, horizon):
        def update(updates, state, params=None, *, value, reward):
            del params, value
            return updates, reward

        record = optax.GradientTransformationExtraArgs(
            lambda params: jnp.zeros(()), update
        )
        return optax.chain(inner(rate), record)

    peer = Peer("seen", make, trace=lambda state: {"learning_rate": state[1]})
    workload = toy_workload(loss=loss, disturbed_at=5)
    curves = experiment.run(workload, peer, optax.sgd, [0.1], [0])
    assert np.isfinite(curves.last).all()
    assert curves.traces["learning_rate"].shape == (1, workload.horizon)
    assert (curves.traces["learning_rate"] == 7.0).all()


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown suite 'huge'; known: quick, full"):
        protocol.suite("huge")
    with pytest.raises(ValueError, match=r"'quadratik'.*quadratic"):
        workloads.get("quadratik")
    with pytest.raises(ValueError, match=r"'constnat'.*constant"):
        peers.get("constnat")
    with pytest.raises(ValueError, match=r"unknown workload 'x'; known: a, b"):
        protocol.known(("a", "x"), ("a", "b"), "workload")


def test_the_quick_suite_never_touches_a_held_out_workload():
    quick, full = protocol.suite("quick"), protocol.suite("full")
    assert all(workloads.SPLIT[name] == "development" for name in quick.workloads)
    assert set(full.workloads) == set(workloads.NAMES)
    assert set(quick.peers) <= set(full.peers) == set(peers.PEERS)


def test_everyone_has_the_same_number_of_trials():
    oracle = {peer: {"rate": 0.3} for peer in protocol.ORACLE_PEERS}
    for name in peers.PEERS:
        rates = protocol.lanes("quadratic", name, {"quadratic": oracle})
        assert set(protocol.TRIALS) <= set(rates), name
        if not peers.get(name).free:
            assert set(protocol.MISSPECIFIED) | {"default"} <= set(rates)
            assert rates["x1"] == 0.3


def test_oracles_are_bracketed_and_stale_ones_computed_again(tmp_path, monkeypatch):
    """The best rate of this landscape lies two decades above the first grid."""

    def compute(cell):
        rates = np.array([rate for _, rate in cell.rates])
        metric = 0.1 + np.abs(np.log10(rates / 300.0))
        curves = np.tile(metric[:, None, None], (1, len(cell.seeds), EVALUATIONS + 1))
        curves[..., 0] = 100.0
        return Result(cell, dict.fromkeys(cells.CURVES, curves), {}, None, 0.0, 0.0)

    monkeypatch.setattr(cells, "compute", compute)
    path, cache = tmp_path / "oracles.json", tmp_path / "cells"
    found = protocol.compute_oracles(["quadratic"], path=path, cache=cache, workers=1)
    best = found["quadratic"]["cosine"]
    assert abs(np.log10(best["rate"] / 300.0)) < 0.34
    rates = [rate for rate, _ in best["grid"]]
    assert rates[0] < best["rate"] < rates[-1]
    stored = json.loads(path.read_text())
    assert stored["command"] == "python -m benchmarks oracles"
    assert protocol.load_oracles(path) == found

    stored["workloads"]["quadratic"]["problem"] = "another"
    path.write_text(json.dumps(stored))
    assert protocol.load_oracles(path) == {}


def test_compare_takes_options_and_refuses_what_is_not_ours(tmp_path):
    name, code = compare.sides("mode=search,slew=0.1", tmp_path)
    assert peers.get(name).ours and code == ""
    with pytest.raises(ValueError, match="'cosine' is not ours"):
        compare.sides("cosine", tmp_path)
    with pytest.raises(ValueError, match="no package at revision 'nowhere'"):
        compare.sides("nudge@nowhere", tmp_path)


def test_another_version_of_the_package_is_another_cell(tmp_path):
    package = tmp_path / "adaptive_optax"
    package.mkdir()
    (package / "__init__.py").write_text("x = 1\n")
    ours = CELL._replace(peer="nudge")
    assert cells.key(ours._replace(code=str(tmp_path))) != cells.key(ours)
    assert Path(hashes.ROOT, "adaptive_optax", "__init__.py").exists()
