"""Faults of the loop, its options, the ready-made optimizers and the ground."""

from tests.mutant_table.mutant import JUDGES, Mutant, of

LOOP: tuple[Mutant, ...] = (
    *of(
        "law.py",
        "contract/test_prior_twins.py",
        ("if isinstance(law, Law):", "if True:"),
    ),
    *of(
        "loop.py",
        f"loop {JUDGES}",
        ("~seen.read | verdict.hold | parts", "~seen.read | parts"),
        ("hold = ~seen.read | verdict", "hold = ~seen.learnt | verdict"),
        ("no_rise=verdict.no_rise", "no_rise=False"),
        (
            "inner_state = optax.tree.where(taken, filtered, inner_state)",
            "inner_state = filtered",
        ),
        ("hold=~seen.learnt,", "hold=jnp.zeros((), bool),"),
        ("reset=verdict.restart", "reset=jnp.zeros((), bool)"),
        ("hold | parts.base.rising(count)", "hold"),
        (
            "parts.supervision.share(state.recovery)",
            "parts.supervision.share(before.recovery)",
        ),
        ("alpha * ratio, applied", "alpha / ratio, applied"),
    ),
    *of(
        "scheduler.py",
        f"loop {JUDGES}",
        (
            "adapter.memory if momentum is None else momentum",
            "0.9 if momentum is None else momentum",
        ),
    ),
    *of(
        "loop.py",
        "contract/test_not_finite.py",
        ("jnp.where(taken, state.sigma_annealed, 0.0)", "state.sigma_annealed"),
    ),
    *of(
        "_arguments.py",
        "first_day/test_trees.py first_day/test_feedback.py",
        ("None if u is None else p", "p"),
        ("asked = True", "pass"),
        ("if isinstance(params, self.state):", "if False:"),
        ('numpy_dtype_promotion("standard")', 'numpy_dtype_promotion("strict")'),
    ),
    *of(
        "online.py",
        "test_online.py",
        ("skip=None,", ""),
        ("margin=law.margin * law.half,", ""),
        ("law.nudge.rate * law.half", "law.nudge.rate"),
        ("law.audit.opposed * 2", "law.audit.opposed"),
    ),
    *of(
        "optimizers.py",
        "test_optimizers.py",
        (
            "eps=eps, weight_decay=weight_decay, mask=mask",
            "eps=eps, weight_decay=weight_decay",
        ),
        ('**options, "mode": "safe"}', '**options, "mode": "nudge"}'),
    ),
    *of(
        "_signatures.py",
        "test_optimizers.py",
        ("option.replace(default=default)", "option"),
    ),
    *of(
        "train_state.py",
        "test_train_state.py",
        ('{"tx": self.tx, **kwargs}', "kwargs"),
    ),
    *of(
        "_checks.py",
        "loop",
        ("float(value[0]) > float(value[1])", "float(value[0]) >= float(value[1])"),
        ("known and float(value) == math.inf", "known and math.isinf(float(value))"),
    ),
    *of(
        "_trees.py",
        "sense/test_gradient.py act/test_average.py",
        (
            "jnp.promote_types(jnp.result_type(leaf), jnp.float32)",
            "jnp.promote_types(jnp.result_type(leaf), jnp.bfloat16)",
        ),
    ),
    *of(
        "_versions.py",
        "test_versions.py",
        ("_numbers(found) < _numbers(oldest)", "_numbers(found) <= _numbers(oldest)"),
    ),
    *of(
        "options.py",
        "loop",
        ("if ends < 0.5 * peak", "if ends < 0.0 * peak"),
    ),
    *of(
        "loop.py",
        "loop",
        (
            "for known in (standing, standing.of_others())",
            "for known in [standing] * 2",
        ),
    ),
    *of(
        "_types.py",
        "loop",
        ("failures=self.failures", "failures=Standing().failures"),
    ),
)
