"""The benchmark of streams: what its streams do, its runs and its page."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.online import command, page, run, streams
from benchmarks.online.streams import Moves

SEEDS = (0, 1)


def targets(moves, steps):
    """The target of a regression stream at each step."""
    of = streams.KINDS["regression"]()
    key = jax.random.key(0)
    moves = jax.tree.map(jnp.float32, moves)

    def step(world, t):
        _, world = of.draw(jax.random.fold_in(key, t), t, world, moves, 1)
        return world, world

    return np.asarray(jax.lax.scan(step, of.world(key), jnp.arange(steps))[1])


def test_a_target_rests_switches_and_drifts():
    rests, switches = targets(Moves(), 12), targets(Moves(period=5), 12)
    drifts = targets(Moves(drift=0.1, rest=4), 12)
    moves = [
        np.any(np.diff(path, axis=0), axis=1) for path in (rests, switches, drifts)
    ]
    assert not moves[0].any()
    assert np.flatnonzero(moves[1]).tolist() == [4, 9]
    assert np.flatnonzero(moves[2]).tolist() == [0, 1, 2, 7, 8, 9, 10]


@pytest.mark.parametrize("kind", streams.KINDS)
def test_a_batch_is_judged_before_it_is_learnt_from(kind):
    # Both rates see the same stream, and rate 0 keeps its first parameters.
    rates = np.array([[0.0, 0.05]], np.float32)
    loss, _ = run.progressive(
        kind, [Moves()], optax.sgd, rates, SEEDS, size=16, steps=run.PARTS
    )
    assert loss.shape == (1, 2, len(SEEDS), run.PARTS)
    np.testing.assert_array_equal(loss[:, 0, :, 0], loss[:, 1, :, 0])
    assert np.all(loss[:, 1].mean(axis=-1) < loss[:, 0].mean(axis=-1))


def test_every_kind_has_streams_of_both_sorts():
    for kind in streams.KINDS:
        assert {s.held_out for s in streams.STREAMS if s.kind == kind} == {True, False}
    names = [(s.kind, s.name) for s in streams.STREAMS]
    assert len(set(names)) == len(names)


def made_up(some, size, *, seeds, steps):
    """Ours at twice the tuned loss; SGD is tuned best; infinite at x100."""
    shape = len(page.MULTIPLES), seeds
    loss = np.full(shape, 0.5)
    loss[-1] = np.inf
    one = page.Judged(
        rates={"sgd": 0.5, "adagrad": 0.25},
        constant={"sgd": loss, "adagrad": 1.5 * loss},
        ours={f"online_{arm}": np.full(shape, 1.0) for arm in page.CONSTANT},
        free={arm: np.full(seeds, 0.75) for arm in command.FREE},
    )
    return {(s.kind, s.name, size): one for s in some}


def test_the_page_has_ratios_over_the_tuned_constant(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(command, "judged", made_up)
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    command.online(seeds=2, kind=("digits",), development=True)
    said = capsys.readouterr().out
    assert "| development | online_sgd | 2 (2–2) |" in said
    assert (
        "| development | sgd | 1 (1–1) | 1 (1–1) | 1 (1–1) | 1 (1–1) | 10 (10–10) |"
        in said
    )
    assert "| digits, turning | 16 | 0.5 | 1 | 1.5 | 2 | 2 | 1.5 | 1.5 | 1.5 |" in said
    assert "held out |" not in said and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 1}, "must be at least 2, got 1"),
        ({"steps": 49}, "must be at least 50, got 49"),
        ({"kind": ("x",)}, "no kind {'x'}"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        command.online(**options)
