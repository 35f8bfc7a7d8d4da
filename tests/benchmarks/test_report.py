"""The report on synthetic runs, and on one real run in which a peer is crippled."""

import json

import numpy as np
import pytest

from benchmarks import aims, cells, protocol, report, standings, summary, workloads
from benchmarks.cells import Cell, Result
from benchmarks.contract import EVALUATIONS

ORACLE = {peer: {"rate": 0.1} for peer in protocol.ORACLE_PEERS}
PEERS = (
    "nudge",
    "search",
    "nudge_horizon",
    "constant",
    "cosine",
    "warmup_stable_decay",
    "nadamw",
    "prodigy",
)
START = 1000.0  # far above every floor
NAMES = ("quadratic", "shift", "spikes", "label_noise", "tabular")


def synthetic(end, peers=PEERS, names=NAMES):
    """Results whose metric falls geometrically from `START` to ``end`` times that.

    An ``end`` of None raises, a NaN diverges half-way.
    """
    for name in names:
        for peer in peers:
            rates = tuple(protocol.lanes(name, peer, {name: ORACLE}).items())
            cell = Cell(name, peer, rates, protocol.SEEDS)
            if end(peer, "x1") is None:
                yield Result(cell, {}, {}, "ValueError: not for this", 0.0, 0.0)
                continue
            ends = np.array([end(peer, label) for label, _ in rates], float)
            spread = 1 + 0.01 * np.arange(len(protocol.SEEDS))
            ramp = np.linspace(0.0, 1.0, EVALUATIONS + 1)
            finals = np.nan_to_num(ends, nan=1.0)[:, None, None] * spread[:, None]
            curve = START * finals**ramp
            curve[np.isnan(ends), :, EVALUATIONS // 2 :] = np.nan
            horizon = workloads.get(name).horizon
            trace = np.ones((len(rates), horizon))
            yield Result(
                cell,
                {kind: curve.astype(np.float32) for kind in cells.CURVES},
                {"learning_rate": trace},
                None,
                1.0,
                1.0,
            )


def summarised(end, **options):
    chosen = protocol.Suite(
        "test", options.get("names", NAMES), options.get("peers", PEERS)
    )
    oracles = dict.fromkeys(chosen.workloads, ORACLE)
    return summary.summarise(chosen, synthetic(end, **options), oracles)


def usual(peer, label):
    if peer == "prodigy":
        return None
    if peer == "nadamw":
        return np.nan
    return {"nudge": 0.1, "search": 0.15}.get(peer, 0.2)


def place(placed, title):
    (found,) = (s for s in placed if s.entry.title == title)
    return found


def test_a_known_ranking_a_tie_a_diverged_and_a_raising_peer():
    table = summarised(usual)
    for ruleset in ("self_tuning", "external_tuning"):
        placed = standings.standings(table, "held_out", ruleset)
        assert placed[0].entry.title == "nudge" and placed[0].score.value == 1.0
        assert place(placed, "search").rank == 2
        tied = {"constant", "constant + average", "cosine", "warmup_stable_decay"}
        assert {place(placed, title).rank for title in tied} == {3}
        lost = [place(placed, "nadamw"), place(placed, "prodigy")]
        assert [s.score.value for s in lost] == [0.0, 0.0]
        assert placed[-1].rank == place(placed, "nadamw").rank == len(placed) - 3
    diverged, raised = lost
    assert (diverged.diverged, diverged.raised) == (2 * len(protocol.SEEDS), 0)
    assert (raised.diverged, raised.raised) == (0, 2)  # two workloads are held out
    # Both count with what they began with, five times the oracle.
    assert diverged.ratio.value == pytest.approx(1 / 0.204, rel=1e-3)
    assert raised.ratio.value == pytest.approx(1 / 0.204, rel=1e-3)


def test_final_ratios_and_losses_by_hand():
    table = summarised(usual)
    over = standings.names(table)
    ours = standings.final_ratio(table, aims.NUDGE, "x100", over)
    assert ours.value == pytest.approx(0.5, rel=1e-3)
    lost = standings.losses(table, aims.NUDGE, aims.AVERAGED_CONSTANT, "x1")
    assert {name for name, _ in lost} == set(NAMES)
    assert all(i.value == pytest.approx(0.5, rel=1e-3) for _, i in lost)
    assert standings.survival(table, aims.NUDGE, "x10000", over) == 1.0


def test_a_peer_that_needs_a_rate_is_read_at_it_and_a_free_one_everywhere_the_same():
    def end(peer, label):
        slow = {"x0.01": 0.8, "x100": np.nan}
        return 0.3 if peer == "prodigy" else slow.get(label, 0.2)

    table = summarised(end)
    curves = standings.misspecification(table, "development")
    by_title = {row.title: [i.value for i in curve] for row, curve in curves.items()}
    assert by_title["cosine"][0] == pytest.approx(4.0, rel=1e-2)
    assert by_title["cosine"][-1] == pytest.approx(1 / 0.204, rel=1e-2)
    assert len(set(by_title["prodigy"])) == 1


def test_aims_are_met_or_not():
    by_figure = {aim.figure: aim for aim in aims.aims(summarised(usual))}
    assert by_figure["nudge, base x1: final metric over the tuned cosine's"].met
    worse = lambda peer, label: 0.4 if peer == "nudge" else usual(peer, label)  # noqa: E731
    by_figure = {aim.figure: aim for aim in aims.aims(summarised(worse))}
    for figure in (
        "nudge, base x1: final metric over the tuned cosine's",
        "nudge, x1: over constant + average",
        "the same, worst workload",
        "nudge, base x0.1: over the tuned cosine at x1",
        "nudge, self-tuning score",
    ):
        assert not by_figure[figure].met, figure


def test_report_is_written_with_everything_in_it(tmp_path):
    table = summarised(usual)
    path = summary.save(table, tmp_path)
    assert json.loads(path.read_text()) == summary.load("test", tmp_path)
    text = report.write(summary.load("test", tmp_path), tmp_path).read_text()
    for heading in (
        "## Ranking: self-tuning",
        "## Where we lose",
        "## What the law is held to",
        "## A wrong base rate",
        "## After a shift or a spike",
        "## Diverged and failed",
        "## The setting",
    ):
        assert heading in text
    order = [text.index(f"\n## {title}") for title in ("Ranking", "Where", "What the")]
    assert order == sorted(order)
    assert "| **nudge** | 1.00 (1.00–1.00) |" in text and "Interval(" not in text
    assert "| prodigy | tabular | ValueError: not for this |" in text
    drawn = {p.name for p in (tmp_path / "figures").iterdir()}
    assert all(f"figures/{name}" in text for name in drawn) and len(drawn) == 4
    # The same summary gives the same files, so that a report can be reviewed as a diff.
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.*")}
    report.write(summary.load("test", tmp_path), tmp_path)
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*.*")}


def test_report_of_development_workloads_alone(tmp_path):
    table = summarised(usual, names=("quadratic", "spikes"))
    text = report.write(table, tmp_path).read_text()
    assert "Held-out workloads" not in text and "Development workloads" in text


def test_a_missing_summary_says_what_to_run(tmp_path):
    with pytest.raises(ValueError, match="benchmarks run --suite full"):
        summary.load("full", tmp_path)


def test_a_failed_oracle_is_no_reference():
    broken = lambda peer, label: None if peer == "cosine" else 0.2  # noqa: E731
    with pytest.raises(RuntimeError, match="quadratic: cosine failed: ValueError"):
        summarised(broken)


@pytest.mark.slow
def test_a_crippled_controller_ranks_last(tmp_path):
    """A real run: whoever lets the rate die away must lose."""
    chosen = protocol.Suite(
        "test", ("quadratic",), ("crippled", "constant", "cosine", "nudge"), (0, 1, 2)
    )
    oracles = {"quadratic": {peer: {"rate": 0.03} for peer in protocol.ORACLE_PEERS}}
    wanted = [
        cell._replace(rates=tuple((n, r) for n, r in cell.rates if n in _LABELS))
        for cell in protocol.suite_cells(chosen, oracles)
    ]
    results = [r for r, _ in cells.run(wanted, cache=tmp_path, workers=1)]
    assert [r.error for r in results] == [None] * 4
    table = summary.summarise(chosen, results, oracles)
    for ruleset in ("self_tuning", "external_tuning"):
        placed = standings.standings(table, "development", ruleset)
        last, others = placed[-1], placed[:-1]
        assert last.entry.title == "crippled" and last.score.value == 0.0
        assert last.ratio.value > 1.3 * max(s.ratio.value for s in others)
        assert max(s.score.value for s in others) == 1.0


_LABELS = {"x0.01", "x100", "default", "tuned", *protocol.TRIALS}
