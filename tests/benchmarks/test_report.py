"""The report on synthetic runs: who is better, by how much, and whether it counts."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import cells, families, held_out, protocol, report, standings, summary
from benchmarks.cells import Cell, Result
from benchmarks.contract import EVALUATIONS
from benchmarks.standings import COSINE, NUDGE, Entry

PEERS = ("constant", "cosine", "warmup_stable_decay", "prodigy", "dog", "nudge", "safe")
FAMILIES = ("quadratic", "digits", "logistic")
START = 1000.0  # far above every floor
RATES = {peer: {"rate": 0.1, "metric": 1.0} for peer in protocol.REFERENCES}
BEST = RATES | {"warmup_stable_decay": {"rate": 0.2, "metric": 0.5}}


def usual(peer, label):
    """Final metric over the start; None raises, NaN diverges half-way."""
    if peer == "prodigy":
        return None
    if peer == "dog":
        return np.nan
    if label == "tuned":
        return 0.16
    return {"nudge": 0.1, "safe": 0.2}.get(peer, 0.2)


def summarised(end=usual, name="full", seed=77, draws=2):
    chosen = protocol.Suite(
        name, seed, draws, PEERS, names=FAMILIES, instances=2, seeds=(0, 1)
    )
    tuned = {name: {"instances": [RATES, BEST]} for name in chosen.problems}
    results = [synthetic(cell, end) for cell in protocol.suite_cells(chosen, tuned)]
    return summary.summarise(chosen, results, tuned)


def synthetic(cell: Cell, end) -> Result:
    """The metric falls geometrically from `START`, each seed by a little more."""
    ends = [end(cell.peer, label) for label, _ in cell.rates]
    if None in ends:
        return Result(cell, {}, "ValueError: not for this", 0.0, 0.0)
    spread = 1 + 0.01 * np.arange(len(cell.seeds))
    ramp = np.linspace(0.0, 1.0, EVALUATIONS + 1)
    finals = np.nan_to_num(np.array(ends, float), nan=1.0)[:, None, None, None]
    curve = START * (finals * spread[:, None]) ** ramp
    curve = np.tile(curve, (1, 2, 1, 1))
    curve[np.isnan(np.array(ends, float)), ..., EVALUATIONS // 2 :] = np.nan
    return Result(cell, dict.fromkeys(cells.CURVES, curve), None, 1.0, 1.0)


def test_ratios_by_hand():
    table = summarised()
    rows = {row.entry.title: row for row in standings.rows(table)}
    # One instance's reference is the cosine (.2), the other's the trapezoid (.16).
    expected = 0.1 / np.sqrt(0.2 * 0.16)
    assert rows["nudge"].by_label["x1"].value == pytest.approx(expected, rel=1e-3)
    assert rows["nudge"].over_cosine.value == pytest.approx(0.5, rel=1e-3)
    assert rows["cosine"].all.value == pytest.approx(2 * expected, rel=1e-3)
    # Who raised or diverged has the metric of the start.
    worst = 1.0 / np.sqrt(0.2 * 0.16)
    for title in ("prodigy", "dog"):
        assert rows[title].near.value == pytest.approx(worst, rel=0.02)
    assert rows["dog"].diverged > 0 == rows["nudge"].diverged


def test_who_beats_whom_on_the_same_runs():
    table = summarised()
    paired = standings.against(table, NUDGE, COSINE, ["x1"])
    assert {np.round(np.exp(v), 3).tolist() == [[0.5] * 2] * 2 for v in paired.values()}
    from benchmarks import scoring

    assert scoring.mean(paired).verdict == "better"
    same = standings.against(table, Entry("safe", "safe", "own"), COSINE, ["x1"])
    assert scoring.mean(same).verdict == "tie"


def test_report_is_written_with_everything_in_it(tmp_path):
    table = summarised()
    summary.save(table, tmp_path)
    table = summary.load("full", tmp_path)  # as a reader on another machine has it
    text = report.write(table, tmp_path).read_text()
    for piece in (
        "held-out draws, scored once",
        "python -m benchmarks run --suite full --draw-seed 77",
        "6 draws of 3 families",
        "**nudge**",
        "figures/rates.svg",
        "figures/trades.svg",
        "This run resolves",
        "## Where we lose",
        "ValueError: not for this",
        "digits@77.1",
    ):
        assert piece in text, piece
    assert text.index("## Where we lose") < text.index("## Every family")
    for name in ("rates", "trades"):
        assert (tmp_path / "figures" / f"{name}.svg").stat().st_size > 1000
    assert report.readme(table).splitlines()[2].startswith("| **nudge** |")


def test_the_readme_has_the_table_of_the_last_run():
    full = (summary.RESULTS / "full.json").exists()
    folder = summary.RESULTS if full else summary.RESULTS / "development"
    table = summary.load("full" if full else "quick", folder)
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert report.readme(table) in readme


def test_a_loss_is_named_with_its_family(tmp_path):
    lost = lambda peer, label: 0.9 if peer == "nudge" else 0.2  # noqa: E731
    text = report.write(summarised(lost), tmp_path).read_text()
    assert "**worse**" in text
    assert "| digits | cosine, x1 | 4.50" in text


def test_a_development_report_says_so(tmp_path):
    table = summarised(name="quick", seed=families.DEVELOPMENT, draws=1)
    assert "# Who is better: development" in report.write(table, tmp_path).read_text()


def test_a_missing_summary_says_what_to_run(tmp_path):
    with pytest.raises(ValueError, match="benchmarks run --suite full"):
        summary.load("full", tmp_path)


def test_a_failed_constant_rate_is_no_reference():
    broken = lambda peer, label: None if peer == "constant" else 0.2  # noqa: E731
    with pytest.raises(RuntimeError, match="constant rate failed: ValueError"):
        summarised(broken)


def test_a_scoring_is_logged(tmp_path):
    log, pending = tmp_path / "held_out.md", tmp_path / "draw-seed"
    pending.write_text("77\n")
    held_out.record(summarised(), log, pending)
    assert held_out.used(log) == {77} and not pending.exists()
    assert log.read_text().splitlines()[-1].startswith("| 77 | ")


@pytest.mark.slow
def test_a_crippled_controller_ranks_last(tmp_path):
    """A real run: whoever lets the rate die away must lose."""
    peers = ("crippled", "constant", "cosine", "warmup_stable_decay", "nudge")
    chosen = protocol.Suite("test", 0, 1, peers, names=("quadratic",), instances=2)
    tuned = {name: {"instances": [RATES, RATES]} for name in chosen.problems}
    wanted = protocol.suite_cells(chosen, tuned)
    results = [r for r, _ in cells.run(wanted, cache=tmp_path, workers=1)]
    assert [r.error for r in results] == [None] * 5
    rows = standings.rows(summary.summarise(chosen, results, tuned))
    x1 = {row.entry.title: row.by_label["x1"].value for row in rows}
    assert x1.pop("crippled") > max(x1.values())
