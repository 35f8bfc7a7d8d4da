"""Faults of `watch`, of what it reads, and of the command line."""

from tests.mutant_table.mutant import Mutant, of

WATCH: tuple[Mutant, ...] = (
    *of(
        "watch/history.py",
        "watch/test_history.py",
        ("*shape), np.nan, np.float32)", "*shape), 0.0, np.float32)"),
    ),
    *of(
        "watch/history.py",
        "watch/test_explain.py",
        ("any(x.ndim > 1 for x in counts)", "False"),
    ),
    *of(
        "watch/snapshot.py",
        "watch/test_snapshot.py watch/test_found.py",
        ('("sigma_", node.sigma_rule)', '("sigma_", node.momentum_rule)'),
    ),
    *of(
        "watch/panels.py",
        "watch/test_plot.py",
        ("np.diff(total, prepend=0) > 0", "np.diff(total, prepend=total[0]) > 0"),
        (
            "if losses and all(np.nanmin(loss) > 0 for loss in losses):",
            "if losses and any(np.nanmin(loss) > 0 for loss in losses):",
        ),
    ),
    *of(
        "watch/plot.py",
        "watch/test_plot.py",
        ("percent * run[key]", "run[key]"),
        ("if not (losses or below or blends)", "if not (losses or below or runs)"),
    ),
    *of(
        "_reasons.py",
        "watch/test_events.py watch/test_explain.py",
        ("known=first.kind > 0", "known=first.kind >= 0"),
    ),
    *of(
        "events.py",
        "watch/test_events.py",
        ("age + jnp.sum(happened) < RECENT", "age < RECENT"),
        ("~new & _FIGURES", "_FIGURES"),
        (
            "latest = jnp.min(jnp.where(same, age, SIZE)",
            "latest = jnp.max(jnp.where(same, age, 0)",
        ),
    ),
    *of(
        "recording.py",
        "watch/test_events.py",
        ("seen.far & ~verdict.repeat", "seen.far"),
        ("for state in (before, after)]", "for state in (before, before)]"),
    ),
    *of(
        "observe.py",
        "loop/test_observe.py",
        ("reason=verdict.reason.unless(answered)", "reason=verdict.reason"),
        ("low=math.exp(-reach), high=math.exp(reach)", "high=math.exp(reach)"),
    ),
    *of(
        "watch/event_log.py",
        "watch/test_events.py",
        ("kind in SINGLE and grown == 1", "grown < 0"),
        ("if count < self._counts.get(of, 0)", "if count < 0"),
    ),
    *of(
        "watch/columns.py",
        "watch/test_snapshot.py watch/test_history.py",
        ("isinstance(state, Mapping) and all", "isinstance(state, Mapping) or all"),
    ),
    *of(
        "watch/explain.py",
        "watch/test_explain.py",
        ("if forgotten > 0", "if forgotten > 999"),
        ("    if not places:", "    if not columns:"),
    ),
    *of(
        "watch/words.py",
        "watch/test_explain.py",
        ("rest[0].step == event.step + 1", "rest[0].step == event.step"),
        ('r"\\2" if observed else r"\\1"', 'r"\\1"'),
    ),
    *of(
        "watch/run.py",
        "watch/test_explain.py",
        ("return level and not self.diverged", "return False"),
        ("if self.whole and len(column)", "if self.columns and len(column)"),
    ),
    *of(
        "watch/findings.py",
        "watch/test_explain.py",
        ("if skipped and not diverged", "if skipped"),
    ),
    *of(
        "watch/base_rate.py",
        "watch/test_explain.py",
        ("if not failed and factor > MUCH", "if not failed and factor > 1000 * MUCH"),
    ),
    *of(
        "watch/describe.py",
        "watch/test_describe.py",
        ("cost[part] / size", "cost[part]"),
    ),
    *of(
        "__main__.py",
        "test_command_line.py",
        ("if any(how.startswith", "if all(how.startswith"),
        ("path=output", "path=None"),
        ("return shlex.quote(str(path))", "return str(path)"),
    ),
    *of(
        "watch/doctor.py",
        "test_command_line.py",
        ('f"FAILS: {type', 'f"works: {type'),
    ),
    *of(
        "watch/event_marks.py",
        "watch/test_plot.py",
        ("event.step == heads[-1].step + 1", "event.step == heads[-1].step"),
    ),
    *of(
        "watch/files.py",
        "watch/test_writers.py",
        ("return None if math.isnan(entry) else str(entry)", "return None"),
        ('if whole.dtype.kind in "iu"', "if True"),
        ('encoding="utf-8-sig"', 'encoding="utf-8"'),
    ),
    *of(
        "watch/log_every.py",
        "watch/test_writers.py",
        (">= self._every", "> self._every"),
        ("window._log = self.history._log", "pass"),
    ),
    *of(
        "watch/page.py",
        "watch/test_plot.py",
        ("known[i % len(known)]", "known[0]"),
    ),
    *of(
        "watch/plot_freezing.py",
        "watch/test_summary.py",
        ("if layers > 1", "if layers > 2"),
    ),
    *of(
        "watch/shot.py",
        "watch/test_events.py",
        ("shot.events = events", "shot.events = {}"),
    ),
    *of(
        "watch/summary.py",
        "watch/test_summary.py",
        ("known.min() < known.max()", "known.min() <= known.max()"),
    ),
    *of(
        "watch/writers.py",
        "watch/test_writers.py",
        ("1 + before + np.arange", "1 + np.arange"),
    ),
)
