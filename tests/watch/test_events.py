"""The ring against plain Python, and a history that loses nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptive_optax as ao
from adaptive_optax import events
from adaptive_optax._reasons import LASTING, EventKind, Reason
from adaptive_optax.events import Entry, init_events
from adaptive_optax.watch.event_log import Event
from tests.contract.driving import QUICK
from tests.watch import recorded

SLOTS, LENGTH = 4, 600


class Twin:
    """The ring, slowly: a list of all events, and which of them may go on."""

    def __init__(self, observed):
        self.events, self.observed = [], observed

    def record(self, step, entries):
        new, happening = [], sum(kind > 0 for kind, *_ in entries)
        recent_ones = self.events[happening - 8 :]
        for kind, *figures in entries:
            if not kind:
                continue
            for one in reversed(recent_ones):
                recent = step - one["last"] <= max(31, step // 5)
                lasts = kind >= LASTING or self.observed
                if one["kind"] == kind and recent and lasts:
                    one |= {"last": step, "times": one["times"] + 1}
                    one["figures"] = [*figures[:2], one["figures"][2], figures[3]]
                    break
            else:
                run = {"kind": kind, "step": step, "last": step, "times": 1}
                new.append(run | {"figures": figures})
        self.events += new


def stream(seed):
    """What may happen at each step: kinds, each with four figures."""
    rng = np.random.default_rng(seed)
    kinds = np.zeros((LENGTH, SLOTS), np.int32)
    for slot, choice in enumerate(
        ([1, 6, 8], [EventKind.SKIPPED, 12], [EventKind.CLIMB, 39, 15], [44])
    ):
        often = rng.random(LENGTH) < [0.1, 0.3, 0.2, 0.02][slot]
        kinds[:, slot] = np.where(often, rng.choice(choice, LENGTH), 0)
    return kinds, rng.normal(size=(LENGTH, SLOTS, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def rings():
    """All rings of a stream."""

    def run(kinds, figures, observed):
        def step(state, now):
            n, kinds, figures = now
            entries = [
                Entry(Reason(kind, figure[0], figure[1]), figure[2], figure[3])
                for kind, figure in zip(kinds, figures, strict=True)
            ]
            state = events.record(state, n, entries, observed=observed)
            return state, (state, events.newest(state))

        steps = jnp.arange(1, LENGTH + 1)
        return jax.lax.scan(step, init_events(), (steps, kinds, figures))

    return jax.jit(run, static_argnums=2, compiler_options=QUICK)


@pytest.mark.parametrize("observed", [False, True])
def test_the_ring_agrees_with_its_twin(rings, observed):
    for seed in range(3):
        kinds, figures = stream(seed)
        state, _ = rings(kinds, figures, observed)
        twin = Twin(observed)
        for t in range(LENGTH):
            row = [(k, *f) for k, f in zip(kinds[t], figures[t].tolist(), strict=True)]
            twin.record(t + 1, row)
        assert int(state.event_count) == len(twin.events) > 40
        runs, told = map(np.asarray, events.newest(state, 32))
        for run, figure, one in zip(runs, told, twin.events[-32:], strict=True):
            expected = [one[name] for name in events.RUN]
            np.testing.assert_array_equal(run, expected)
            np.testing.assert_allclose(figure, one["figures"], rtol=1e-6)
        assert bool(state.event_observed) == observed


def test_what_happens_at_every_step_pushes_nothing_out(rings):
    kinds = np.zeros((LENGTH, SLOTS), np.int32)
    kinds[:, 1] = EventKind.SKIPPED
    kinds[::3, 2] = EventKind.DECAYED
    kinds[10, 0] = EventKind.START_PASSED
    state, _ = rings(kinds, np.ones((LENGTH, SLOTS, 4), np.float32), False)
    assert int(state.event_count) == 3
    assert state.event_runs[0].tolist() == [EventKind.SKIPPED, 1, LENGTH, LENGTH]


def history_of(states, every, whole):
    """A history that took snapshots now and then."""
    history = ao.History()
    for t in range(every - 1, LENGTH, every):
        state = jax.tree.map(lambda x, t=t: x[t], states)
        runs, figures = events.newest(state, 32 if whole else 8)
        history.append(
            {
                "steps": t + 1,
                "event_runs": runs,
                "event_figures": figures,
                "event_count": state.event_count,
            }
        )
    return history


def test_a_history_has_every_event_and_every_bad_batch(rings):
    kinds, figures = stream(5)
    state, (states, _) = rings(kinds, figures, False)
    states = jax.tree.map(np.asarray, states)
    each = history_of(states, 1, whole=False).events
    assert int(state.event_count) > 64
    skipped = [e for e in each if e.kind == EventKind.SKIPPED]
    steps = 1 + np.flatnonzero(kinds[:, 1] == EventKind.SKIPPED)
    assert [e.step for e in skipped] == steps.tolist()
    np.testing.assert_array_equal([e.figure for e in skipped], figures[steps - 1, 1, 0])
    for kind in np.unique(kinds[kinds > 0]):
        n = np.sum(kinds == kind)
        assert sum(e.times for e in each if e.kind == kind) == n
    now_and_then = history_of(states, 25, whole=True).events
    for kind in np.unique(kinds[kinds > 0]):
        n = np.sum(kinds == kind)
        assert sum(e.times for e in now_and_then if e.kind == kind) == n


def test_collected_in_a_loop_or_out_of_a_scan_and_saved(tmp_path):
    _, state, history = recorded.recorded("random labels")
    assert all(isinstance(event, Event) for event in history.events)
    history.save(tmp_path / "run.npz")
    assert ao.History.load(tmp_path / "run.npz").events == history.events
    assert ao.explain(ao.History.load(tmp_path / "run.npz")) == ao.explain(history)
    history.save(tmp_path / "run.csv")
    assert "event_runs" not in (tmp_path / "run.csv").read_text()
    last = ao.History()
    last.append(state)
    kinds = [event.kind for event in last.events]
    assert [k for k in EventKind if k in kinds] == [
        k for k in EventKind if k in {event.kind for event in history.events}
    ]


def test_another_run_in_the_same_history_begins_anew():
    _, _, history = recorded.recorded("right")
    columns = recorded.program("all")(recorded.COURSES["right"])[1]
    both = ao.History.from_stacked(columns)
    both.extend(columns)
    assert both.events == 2 * history.events


def test_snapshots_of_a_population_have_no_events():
    columns = recorded.program("all")(recorded.COURSES["right"])[1]
    many = jax.tree.map(lambda x: np.stack([x, x], axis=1), columns)
    history = ao.History.from_stacked(many)
    assert history["loss"].shape == (recorded.STEPS, 2)
    with pytest.raises(ValueError, match=r"population.*x\[:, 0\]"):
        _ = history.events


def test_counters_and_events_agree():
    _, state, history = recorded.recorded("random labels")
    skipped = [e for e in history.events if e.kind == EventKind.SKIPPED]
    assert len(skipped) == ao.snapshot(state)["skipped"]
    _, state, history = recorded.recorded("bursts of NaN")
    bad = [e.step for e in history.events if e.kind == EventKind.NONFINITE_GRADIENT]
    assert bad == [120, 121, 200, 201, 202]


def test_the_ring_is_small():
    assert sum(x.nbytes for x in init_events()) < 1100
