"""The references are bracketed, one for each instance, and remembered by draw."""

import json

import numpy as np
import pytest

from benchmarks import cells, families, held_out, oracles
from benchmarks.cells import Result
from benchmarks.contract import EVALUATIONS

NAME = "quadratic@0.0"
BEST = (30.0, 0.02, 0.3, 1.0)  # of the instances, one beyond the first grid


@pytest.fixture
def landscape(monkeypatch, tmp_path):
    """The metric is the distance to the best rate, in decades."""

    def compute(cell):
        rates = np.array([rates for _, rates in cell.rates])
        metric = 0.1 + np.abs(np.log10(rates / np.array(BEST)))
        curve = np.tile(
            metric[..., None, None], (1, 1, len(cell.seeds), EVALUATIONS + 1)
        )
        curve[..., 0] = 100.0
        return Result(cell, dict.fromkeys(cells.CURVES, curve), None, 0.0, 0.0)

    monkeypatch.setattr(cells, "compute", compute)
    monkeypatch.setattr(oracles, "STORED", tmp_path / "oracles.json")
    return {"cache": tmp_path / "cells", "workers": 1}


def test_each_instance_has_its_own_best_rate_inside_its_grid(landscape):
    found = oracles.compute([NAME], **landscape)[NAME]["instances"]
    for instance, best in zip(found, BEST, strict=True):
        for peer in oracles.REFERENCES:
            tuned = instance[peer]
            assert abs(np.log10(tuned["rate"] / best)) < 0.17
            rates = [rate for rate, _ in tuned["grid"]]
            assert rates[0] < tuned["rate"] < rates[-1]


def test_a_stale_oracle_is_computed_again(landscape):
    found = oracles.compute([NAME], **landscape)
    assert oracles.load([NAME]) == found
    stored = json.loads(oracles.STORED.read_text())
    assert stored["command"] == "python -m benchmarks oracles"
    stored["problems"][NAME]["problem"] = "another"
    oracles.STORED.write_text(json.dumps(stored))
    assert oracles.load([NAME]) == {}


def test_held_out_draws_are_kept_apart():
    assert oracles.path_of(NAME) == oracles.STORED
    assert oracles.path_of("quadratic@17.0").parent == cells.CACHE


def test_the_stored_oracles_are_those_of_the_development_draws():
    """Without them, `quick` and `compare` would begin with an hour of tuning."""
    names = families.draws(families.DEVELOPMENT, 1)
    assert set(oracles.load(names)) == set(names)


def test_a_draw_seed_is_scored_once(tmp_path):
    log, pending = tmp_path / "held_out.md", tmp_path / "cache" / "draw-seed"
    seed = held_out.begin(None, log, pending)
    assert held_out.begin(None, log, pending) == seed  # an interrupted run goes on
    log.write_text(f"{held_out.HEAD}| {seed} | today |\n")
    assert held_out.used(log) == {seed}
    with pytest.raises(ValueError, match=f"draw seed {seed} has been scored"):
        held_out.begin(seed, log, pending)
    with pytest.raises(ValueError, match="draw seed 0 is the development list"):
        held_out.begin(0, log, pending)
    assert held_out.fresh(log) not in (0, seed)


def test_draws_on_which_two_laws_were_compared_are_used_up(tmp_path):
    log = tmp_path / "compared.md"
    assert held_out.compared(log) == frozenset()
    held_out.note(7, "| law | 5 |", log)
    held_out.note(31, "better", log)
    assert held_out.compared(log) == {7, 31}
    assert log.read_text().startswith("# ") and log.read_text().endswith("better\n")
