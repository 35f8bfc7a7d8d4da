"""The ablation's arithmetic, on runs that are made up."""

from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import adaptive_optax as ao  # noqa: E402
from examples import mechanisms  # noqa: E402
from examples.mechanisms import ALL, Outcome  # noqa: E402


@dataclass(frozen=True)
class Config:
    momentum_rule: str = "trend"
    sigma: float = 1e-3
    sigma_rule: str = "success"
    freeze_threshold: float = 0.1
    anneal: bool = True
    control: bool = True
    seed: int = 3


def test_each_run_lacks_one_mechanism_and_none_is_run_twice():
    runs = mechanisms.without(Config(sigma=0.0))
    assert list(runs) == [ALL, *(n for n in mechanisms.WITHOUT if n != "no dither")]
    assert runs["momentum held"] == Config(sigma=0.0, momentum_rule="hold")
    assert runs["nothing freezes"] == Config(sigma=0.0, freeze_threshold=0.0)


def test_the_table_divides_seed_by_seed_by_the_run_with_everything():
    def run(name, config):
        loss = {3: 1.0, 4: 10.0}[config.seed]
        if name == "momentum held":
            return Outcome(loss * {3: 2.0, 4: 8.0}[config.seed], 9.0, 0.002, 0.0)
        return Outcome(loss, 3 * loss, 0.004, 0.25)

    lines = mechanisms.ablate(Config(), run, 2).splitlines()
    rows = {
        row[0]: row[1:]
        for row in ([x.strip() for x in s.split("|")[1:-1]] for s in lines)
    }
    assert list(rows)[2:4] == [ALL, "the same, last step's parameters"]
    assert rows[ALL] == ["5.5000", "1.000 (1.000 to 1.000)", "4.0", "1.00", "25%"]
    assert rows["momentum held"] == [
        "41.0000",
        "4.000 (2.000 to 8.000)",
        "2.0",
        "0.50",
        "0%",
    ]
    assert rows["the same, last step's parameters"][1].startswith("3.000 ")


def test_the_accuracy_has_a_column_where_there_is_one():
    one = [Outcome(1.0, 2.0, 0.1, 0.0, accuracy=0.9)]
    table = mechanisms.table({ALL: one, "no dither": one})
    assert "| accuracy |" in table and table.count("0.9000") == 2


@pytest.mark.parametrize(
    ("config", "seeds", "message"),
    [
        (Config(), 0, "--seeds must be at least 1, got 0"),
        (Config(control=False), 1, "--no-control leaves nothing to ablate"),
    ],
)
def test_what_cannot_be_ablated(config, seeds, message):
    with pytest.raises(ValueError, match=message):
        mechanisms.ablate(config, None, seeds)


def test_blocks_are_drawn_where_some_may_freeze(tmp_path):
    history, path = ao.History(), tmp_path / "freezing.png"
    history.append({"loss": 1.0})
    assert not mechanisms.draw_freezing(history, "none", path)
    assert not path.exists()
    layers = {"frozen/h": np.array([[True, False]]), "frozen/wte": np.array([False])}
    history = ao.History.from_stacked({"loss": np.ones(1), **layers})
    assert mechanisms.draw_freezing(history, "some", path)
    assert path.stat().st_size > 5_000
