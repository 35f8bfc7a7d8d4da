"""The report: one table and two pictures first, then where we lose."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import figures, markdown, protocol, scoring, setting, standings
from benchmarks.scoring import Interval
from benchmarks.standings import COSINE, NUDGE, Entry, Row
from benchmarks.summary import RESULTS

SHOWN = 12  # rows of the first table; the others are folded
README_ENTRIES = (
    "nudge",
    "search",
    "prodigy_linear + average",
    "schedule_free_warm_up",
    "mechanic_cosine + average",
    "warmup_stable_decay",
    "constant + average",
    "cosine",
)


def write(table: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write ``REPORT.md`` and its figures; return the report's path."""
    rows = standings.rows(table)
    drawn = figures.draw(table, rows, folder / "figures")
    parts = [
        _head(table),
        _first_table(table, rows),
        f"![a wrong base rate](figures/{drawn['rates'].name})",
        f"![trade by trade](figures/{drawn['trades'].name})",
        _counts(table, rows),
        _where_we_lose(table, rows),
        setting.failures(table),
        setting.every_family(table),
        setting.problems(table),
        setting.peers(table),
    ]
    path = folder / "REPORT.md"
    path.write_text("\n\n".join(part for part in parts if part) + "\n")
    return path


def command(table: dict[str, Any]) -> str:
    """How the table was made."""
    seed = f" --draw-seed {table['draw_seed']}" if table["suite"] == "full" else ""
    return f"python -m benchmarks run --suite {table['suite']}{seed}"


def _head(table: dict[str, Any]) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in table["versions"].items())
    facts = list(table["problems"].values())
    runs = sum(
        len(of_label) * len(facts[0]["start"]) * len(table["seeds"])
        for of_peer in table["runs"].values()
        for run in of_peer.values()
        if run["error"] is None
        for of_label in [run["final"]["own"]]
    )
    kind = "held-out draws, scored once" if table["suite"] == "full" else "development"
    return (
        f"# Who is better: {kind}\n\n"
        f"{len(facts)} draws of {len({f['family'] for f in facts})} families in "
        f"{len({f['trade'] for f in facts})} trades, "
        f"{len(facts[0]['start'])} instances and "
        f"{len(table['seeds'])} seeds each; {len(table['peers'])} peers; {runs:,} "
        f"runs. `{command(table)}`, {table['date']}, commit `{table['commit']}`, law "
        f"`{table['law']}`, {versions}; {table['core_seconds'] / 3600:.1f} core "
        "hours.\n\n"
        "**Read it so.** A figure is the final held-out metric over that of the best "
        "of three tuned schedules (cosine, warm-up-stable-decay, constant with "
        "averaging, each at its best rate for that very problem): 1.10 is 10 % worse. "
        "Rates are "
        "multiples of the tuned cosine's. Trades weigh alike. Brackets are 95 % "
        "intervals. Ours are bold."
    )


def _cells(table: dict[str, Any], row: Row) -> tuple[str, ...]:
    return (
        standings.titled(table, row.entry),
        *(f"{row.by_label[label].value:.2f}" for label in ("x0.01", "x0.1")),
        f"{row.near:.2f}",
        f"{row.by_label['x1']:.2f}",
        *(f"{row.by_label[label].value:.2f}" for label in ("x10", "x100")),
        f"**{row.all.value:.2f}**",
        f"{row.default.value:.2f}",
        str(row.diverged),
    )


HEAD = ("peer", "x0.01", "x0.1", "x0.3 to x3", "x1", "x10", "x100", "all rates",
        "default", "diverged")  # fmt: skip


def _first_table(table: dict[str, Any], rows: Sequence[Row]) -> str:
    rest = markdown.table(HEAD, [_cells(table, row) for row in rows[SHOWN:]])
    shown = markdown.table(HEAD, [_cells(table, row) for row in rows[:SHOWN]])
    folded = f"<details><summary>The others</summary>\n\n{rest}\n\n</details>"
    return shown + (f"\n\n{folded}" if len(rows) > SHOWN else "")


def readme(table: dict[str, Any]) -> str:
    """The table of the README."""
    rows = {row.entry.title: row for row in standings.rows(table)}
    head = ("", "x0.01", "x0.1", "x0.3 to x3", "x10", "x100", "all rates")
    return markdown.table(
        head,
        [
            (
                standings.titled(table, row.entry),
                *(f"{row.by_label[label].value:.2f}" for label in ("x0.01", "x0.1")),
                f"{row.near:.2f}",
                *(f"{row.by_label[label].value:.2f}" for label in ("x10", "x100")),
                f"{row.all:.2f}",
            )
            for title in README_ENTRIES
            if title in rows
            for row in [rows[title]]
        ],
    )


def _counts(table: dict[str, Any], rows: Sequence[Row]) -> str:
    """What a difference must be to count, and what counts."""
    paired = scoring.mean(standings.against(table, NUDGE, COSINE, ["x1"]))
    mine = next(row for row in rows if row.entry == NUDGE)
    lines = [
        "## What counts\n",
        "A difference counts where its 95 % interval leaves out 1 and it is more than "
        f"{scoring.TIE - 1:.0%}; everything else is a tie. This run resolves "
        f"{mine.by_label['x1'].half_width:.1%} in the mean ratio at x1 (half the width "
        f"of the interval), {mine.near.half_width:.1%} over x0.3 to x3, "
        f"{mine.all.half_width:.1%} over all rates, and {paired.half_width:.1%} "
        "between nudge and the cosine on the same runs. The intervals are of these "
        "families: other work can differ by more.\n",
        markdown.table(
            ("nudge over", "x1", "", "x0.3 to x3", "", "all rates", ""),
            [
                (rival.title, *_verdicts(table, rival))
                for rival in standings.rivals(table, rows)
            ],
        ),
    ]
    return "\n".join(lines)


def _verdicts(table: dict[str, Any], rival: Entry) -> list[str]:
    cells = []
    for labels in (["x1"], protocol.NEAR, standings.LABELS):
        found = scoring.mean(standings.against(table, NUDGE, rival, labels))
        cells += [f"{found:.2f}", _said(found)]
    return cells


def _said(found: Interval) -> str:
    return {"better": "better", "worse": "**worse**", "tie": "tie"}[found.verdict]


def _where_we_lose(table: dict[str, Any], rows: Sequence[Row]) -> str:
    """Family by family, the worst first."""
    tally, lost = [], []
    for rival in standings.rivals(table, rows):
        for what, labels in (("x1", ["x1"]), ("x0.3 to x3", protocol.NEAR)):
            of_family = scoring.by_family(
                standings.against(table, NUDGE, rival, labels)
            )
            verdicts = [found.verdict for found in of_family.values()]
            tally.append(
                (
                    f"{rival.title}, {what}",
                    *(str(verdicts.count(v)) for v in ("better", "tie", "worse")),
                )
            )
            lost += [
                (family, f"{rival.title}, {what}", found)
                for family, found in of_family.items()
                if found.verdict == "worse"
            ]
    lost.sort(key=lambda row: -row[2].value)
    return (
        "## Where we lose\n\nFamilies on which nudge is better, ties, or is worse.\n\n"
        + markdown.table(("against", "better", "tie", "worse"), tally)
        + "\n\n"
        + markdown.table(("family", "against", "ours / theirs"), lost[:SHOWN])
        + (
            "\n\n<details><summary>Every other loss</summary>\n\n"
            + markdown.table(("family", "against", "ours / theirs"), lost[SHOWN:])
            + "\n\n</details>"
            if len(lost) > SHOWN
            else ""
        )
    )
