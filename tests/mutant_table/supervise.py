"""Faults of `supervise`."""

from tests.mutant_table.mutant import JUDGES, Mutant, of

SUPERVISE: tuple[Mutant, ...] = (
    *of(
        "supervise/start_audit.py",
        f"{JUDGES} test_law.py",
        ("    opposed &= loss.trend < law.hint\n", ""),
        ("jnp.where(begins, 0, failures)", "failures"),
        ("failures = old.audit_failures + (e.auditing & convicted)", "failures = 0"),
        ("counts &= e.signals.objective.arrived | (old.audit_left > 1)", "pass"),
    ),
    *of(
        "supervise/evidence.py",
        f"{JUDGES} test_law.py",
        ("begun & (replayed | (accepted & auditing))", "begun & accepted & auditing"),
        ("accepted = exceeded & read & ~moved", "accepted = exceeded & read"),
        ("jnp.where(accepted & ~auditing, seen.objective, first)", "first"),
        ("skip.share * span", "0.0 * span"),
        ("bad=seen.nonfinite | exceeded", "bad=exceeded"),
        ("learns & (e.known | ~e.started)", "learns"),
        ("jnp.maximum(jnp.float32(law.level_after), law.lately * age)", "31.0"),
    ),
    *of(
        "supervise/trial.py",
        f"{JUDGES} test_law.py",
        ("jnp.where(old.moved & ~e.repeat, strikes, 0)", "strikes * ~e.repeat"),
        ("jnp.where(e.auditing, one_less(old.strikes), 0)", "one_less(old.strikes)"),
        ("offended = e.repeat & ~e.bad", "offended = e.repeat"),
        ("jnp.where(old.watched > 0, old.offences, 0)", "old.offences"),
        ("(~e.auditing | e.nonfinite | again)", "~e.auditing"),
        ("jnp.where(offences == c.most + 1, old.owed, later)", "later"),
        ("jnp.minimum(owed, pace)", "pace"),
        ("offended, a_while(e, law)", "offended, law.level_after"),
    ),
    *of(
        "supervise/skip.py",
        f"{JUDGES} test_law.py",
        ("jnp.minimum(c.least + c.share * age, c.most)", "c.least + c.share * age"),
        ("jnp.maximum(old.bucket - c.share, 0.0)", "old.bucket"),
        (
            "jnp.where(e.seen, one_less(old.unsettled), old.unsettled)",
            "one_less(old.unsettled)",
        ),
    ),
    *of(
        "supervise/supervisor.py",
        f"{JUDGES} test_law.py",
        ("(loss.fast <= e.good + law.clear * e.fast_error)", "True"),
        (
            "begins = e.accepted & ~e.auditing",
            "begins = e.accepted",
        ),
        ("(tried.watched > 0) | (tried.owed > 0)", "tried.watched > 0"),
        ("state.trusted_log_scale - state.trial.owed", "state.trusted_log_scale"),
        ("room=~state.auditing & skip.room", "room=skip.room"),
        ("seen.far & ~e.repeat", "seen.far"),
    ),
    *of(
        "supervise/stage.py",
        f"{JUDGES} test_law.py",
        ("verdict.restore | (before.judges.trial.restoring > 0)", "verdict.restore"),
        (
            "verdict.restore | verdict.repeat | verdict.forget",
            "verdict.restore | verdict.repeat",
        ),
    ),
    *of(
        "supervise/rollback.py",
        f"{JUDGES} test_law.py",
        ("back, structure = restoring == 1,", "back, structure = restoring == 2,"),
    ),
    *of(
        "supervise/supervisor.py",
        f"loop {JUDGES}",
        ("failures=state.audit.audit_failures", "failures=state.trial.offences"),
    ),
    *of(
        "supervise/repair.py",
        "supervise/test_lost.py",
        ("bad = ~jnp.isfinite(leaf) &", "bad = jnp.isfinite(leaf) &"),
    ),
    *of(
        "supervise/lost.py",
        "supervise/test_lost.py",
        ("jnp.maximum(count - constant, 0)", "jnp.maximum(count, 0)"),
    ),
    *of(
        "supervise/supervisor.py",
        "supervise/test_lost.py",
        ("keep=verdict.keep & ~lost", "keep=verdict.keep"),
        ("restore=verdict.restore & ~lost", "restore=verdict.restore"),
    ),
    *of(
        "supervise/recovery.py",
        "supervise/test_recovery.py",
        ('return self.memory == "pinned_host"', "return False"),
    ),
    *of(
        "supervise/reasons.py",
        "watch/test_explain.py supervise/test_supervisor.py",
        ("e.auditing & (audited.audit_left == 0)", "audited.audit_left == 0"),
        ("because(begins, EventKind.START_ROSE", "because(died, EventKind.START_ROSE"),
    ),
)
