"""Single faults of the package, and the tests that ought to see them.

Each is a real change of behaviour that nothing crashes of: a sign, a bound, a condition
that is dropped, a step too many. See `mutants`.
"""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One fault."""

    file: str  # in the package
    old: str  # occurs exactly once in it
    new: str
    tests: tuple[str, ...]  # files below tests/


def of(file: str, tests: str, *faults: tuple[str, str]) -> tuple[Mutant, ...]:
    """The faults of one file, all for the same tests."""
    return tuple(Mutant(file, old, new, tuple(tests.split())) for old, new in faults)


PRIOR = "rules/test_behaviour.py contract/test_prior_twins.py"
RULES = "rules/test_behaviour.py rules/test_twins.py rules/test_every_rule.py"
GRADIENTS = "test_frozen_gradients.py test_frozen_program.py test_frozen_grad.py"

MUTANTS = (
    *of(
        "recovery.py",
        "test_recovery.py test_law.py",
        (" & (s.loss_trend < 0.8)", ""),
        ("(jnp.isnan(old.first_value) | replayed)", "jnp.isnan(old.first_value)"),
        ("failed & nonfinite, FAILED", "failed & nonfinite, DIVERGED"),
        (
            "jnp.maximum(old.trial_coordinate, old.trial_trusted) - coordinate",
            "old.trial_coordinate - coordinate",
        ),
        (
            "settled &= ~known | (s.loss_fast <= good + 3 * fast_error)",
            "settled &= True",
        ),
        ("learns_level & (known | jnp.isnan(old.first_value))", "learns_level"),
        ("back = verdict.restore | (before.restoring > 0)", "back = verdict.restore"),
        ("back, structure = restoring == 1,", "back, structure = restoring == 2,"),
        (
            "still &= s.loss_fast <= good + share + RETRY_ERRORS * fast_error",
            "still &= True",
        ),
        ("~held & ~retried & (coordinate < target)", "~held & (coordinate < target)"),
    ),
    *of(
        "signals.py",
        "test_signals.py",
        (
            "jnp.minimum(g.total + jnp.where(ok, norms.square, 0.0), LARGEST)",
            "g.total + jnp.where(ok, norms.square, 0.0)",
        ),
        ("usable = jnp.abs(x) < LARGEST", "usable = jnp.isfinite(x)"),
        ("counts = jnp.where(s.seen > 0, 1.0, 0.0)", "counts = jnp.ones_like(s.seen)"),
        ("age = jnp.maximum(g.norms_seen - 1, 0.0)", "age = g.norms_seen"),
        (
            "heading_series=state.heading_series * again",
            "heading_series=state.heading_series",
        ),
    ),
    *of(
        "scheduler.py",
        "test_scheduler.py test_recovery.py",
        ("held=rising if schedule is None else rising | falling", "held=rising"),
        ("reset=verdict.restart", "reset=jnp.zeros((), bool)"),
        (
            "adapter.memory if momentum is None else momentum",
            "0.9 if momentum is None else momentum",
        ),
        ("hold | (base(count + 1) > base(count))", "hold"),
        (
            "hold = hold | (count > (1 - ANNEAL) * total_steps)",
            "hold = hold | (count > total_steps)",
        ),
        ("recovering.warm_up(guard)", "recovering.warm_up(state.recovery)"),
        ("inner_rate = alpha * ratio", "inner_rate = alpha / ratio"),
        ("healthy=verdict.healthy & ~nonfinite", "healthy=verdict.healthy"),
    ),
    *of(
        "scheduler.py",
        "contract/test_running.py",
        ("jnp.where(taken, sigma_now, 0.0)", "sigma_now"),
    ),
    *of(
        "window.py",
        "test_window.py",
        (
            "known &= (averages.average_count > 0) & ~hold",
            "known &= averages.average_count > 0",
        ),
        (
            "count = jnp.where(reset, 0, count)",
            "count = jnp.where(reset, least, count)",
        ),
    ),
    *of(
        "averaging.py",
        "test_averaging.py",
        ("jnp.where(count == 0, leaf, moved)", "moved"),
        ("jnp.where(count > 0, mean.astype(dtype), leaf)", "mean.astype(dtype)"),
    ),
    *of(
        "controls.py",
        "test_controls.py",
        ("jnp.where(delta == 0, gain, moved)", "moved"),
        ("jnp.where(climb > 0, jnp.fmax(delta, climb), delta)", "delta + climb"),
    ),
    *of(
        "injection.py",
        "test_injection.py",
        ("new_state = _with_hyperparams(new_state, own)", "pass"),
        (
            "_memory(momentum) if arg in parameters else USUAL_MOMENTUM",
            "_memory(momentum)",
        ),
    ),
    *of(
        "filters.py",
        "test_filters.py",
        ("adam_moments(b1, b2, eps, eps_root)", "adam_moments(b1, b2, eps_root, eps)"),
    ),
    *of(
        "_moments.py",
        "test_filters.py",
        (
            "_average(square_decay, state.second_weight, 1.0)",
            "_average(decay, state.second_weight, 1.0)",
        ),
    ),
    *of(
        "momentum_shadow.py",
        "test_momentum_shadow.py",
        ("(sizes[0] > 0) & (sizes[1] > 0) &", "(sizes[0] > 0) &"),
    ),
    *of(
        "scaling.py",
        "test_scaling.py",
        ("sensing.missed(sensor, state.rule_sensor)", "~signals.has_gradient"),
    ),
    *of(
        "sketch.py",
        "test_sketch.py",
        (" * (jnp.ndim(part) - jnp.ndim(leaf) + 1)", ""),
        ("if extent >= 2 * _MIN_EXTENT", "if extent >= _MIN_EXTENT"),
    ),
    *of(
        "optimizers.py",
        "test_optimizers.py",
        (
            "eps=eps, weight_decay=weight_decay, mask=mask",
            "eps=eps, weight_decay=weight_decay",
        ),
        ('{"mode": "safe", "recovery": True}', '{"mode": "nudge", "recovery": True}'),
    ),
    *of(
        "blending.py",
        "test_blending.py",
        ("(1.0 - floor) * believed + floor * base", "believed"),
        ("jnp.tanh(z - state.blend_trend)", "jnp.tanh(z)"),
    ),
    *of(
        "dither.py",
        "test_dither.py",
        ("jnp.maximum(_rms(param), SMALLEST_RMS)", "_rms(param) + SMALLEST_RMS"),
        ("jnp.isfinite(strength) & (strength > 0)", "strength != 0"),
    ),
    *of(
        "holding.py",
        "test_holding.py",
        ("mask = jnp.all(mask)", "mask = jnp.any(mask)"),
        ("return zero_frozen(steps, mask), state", "return steps, state"),
        (" and moments.count(slot) == 1", ""),
    ),
    *of(
        "freezing.py",
        "test_freezing.py",
        ("frozen & resting", "frozen"),
        (
            "entry_norms(updates if grad is None else grad, layout)",
            "entry_norms(updates, layout)",
        ),
    ),
    *of(
        "_freeze_law.py",
        "test_freezing.py",
        ("norm > config.hysteresis * threshold", "norm > threshold"),
        (
            "(count < config.warmup) | (state.freeze_norm_weight == 0)",
            "count < config.warmup",
        ),
        ("min(1, config.min_dwell), stayed", "0, stayed"),
    ),
    *of(
        "_freeze_layout.py",
        "test_freezing.py",
        ("never_at = np.isin(group, group[never_at])", "pass"),
    ),
    *of(
        "frozen_grad.py",
        GRADIENTS,
        ("rows = rows | mask", "rows = mask"),
        ("by_row.append(True)", "by_row.append(False)"),
    ),
    *of(
        "_backward/flops.py",
        GRADIENTS,
        ("if key <= set(frozen)", "if key & set(frozen)"),
    ),
    *of(
        "_backward/liveness.py",
        GRADIENTS,
        ("rows.get(slot, True) and kept and", "rows.get(slot, True) and"),
        ('params["broadcast_dimensions"][:1] == (0,)', "True"),
    ),
    *of(
        "_backward/plan.py",
        GRADIENTS,
        ("now=NOBODY.union(*(keys[j] for j in heirs))", "now=keys[place]"),
        ("if program.ops[index].name in CHEAP:", "if True:"),
    ),
    *of(
        "_backward/program.py",
        GRADIENTS,
        (
            'if any(type(s).__name__ != "UnspecifiedValue" for s in shardings):',
            "if False:",
        ),
        ("            _check_effects(eqn)\n", ""),
    ),
    *of(
        "_backward/run.py",
        GRADIENTS,
        ("jnp.roll(later, 1 if reverse else -1)", "jnp.roll(later, -1)"),
        (
            "if any(truth is True for truth in truths):",
            "if all(truth is True for truth in truths):",
        ),
    ),
    *of(
        "staged.py",
        "test_staged.py",
        ("self._live_calls > PROBE_CALLS", "self._live_calls >= PROBE_CALLS"),
        ("self._variants.move_to_end(key)", "pass"),
        ("now & (self._age >= self._patience)", "now & (self._age > self._patience)"),
    ),
    *of(
        "train_state.py",
        "test_train_state.py",
        ('{"tx": self.tx, **kwargs}', "kwargs"),
    ),
    *of(
        "telemetry.py",
        "test_telemetry.py",
        (
            'flat.pop("steps", 1 + np.arange(self._length))',
            'flat.pop("steps", np.arange(self._length))',
        ),
        ("*shape), np.nan, np.float32)", "*shape), 0.0, np.float32)"),
        ('("sigma_", node.sigma_rule)', '("sigma_", node.momentum_rule)'),
    ),
    *of(
        "plotting.py",
        "test_plotting.py",
        ("np.diff(total, prepend=0) > 0", "np.diff(total, prepend=total[0]) > 0"),
        (
            "if losses and all(np.nanmin(loss) > 0 for loss in losses):",
            "if losses and any(np.nanmin(loss) > 0 for loss in losses):",
        ),
    ),
    *of(
        "labels.py",
        "test_labels.py test_freezing.py",
        ("enumerate(parts[:-1])", "enumerate(parts)"),
        (
            "any(fnmatchcase(p, pattern) for p in prefixes",
            "any(fnmatchcase(path, pattern) for p in prefixes",
        ),
    ),
    *of(
        "_checks.py",
        "test_scheduler.py",
        ("float(value[0]) > float(value[1])", "float(value[0]) >= float(value[1])"),
        ("known and float(value) == math.inf", "known and math.isinf(float(value))"),
    ),
    *of(
        "_trees.py",
        "test_signals.py test_averaging.py",
        (
            "jnp.promote_types(jnp.result_type(leaf), jnp.float32)",
            "jnp.promote_types(jnp.result_type(leaf), jnp.bfloat16)",
        ),
    ),
    *of(
        "rules/_answer.py",
        RULES,
        ("sound & jnp.isfinite(measurement)", "sound"),
        ("jnp.where(moves, new, old)", "jnp.where(allowed, new, old)"),
    ),
    *of(
        "rules/alignment.py",
        PRIOR,
        (" & (s.alignment_mean > UP_MARGIN)", ""),
        (
            "(s.loss_trend < down_trend) & (s.persistence > 0)",
            "s.loss_trend < down_trend",
        ),
    ),
    *of(
        "rules/cyclical.py",
        RULES,
        (
            "jnp.mod(count, period).astype(jnp.float32)",
            "jnp.mod(count.astype(jnp.float32), period)",
        ),
    ),
    *of(
        "rules/grad_norm.py",
        RULES,
        ("offset = jnp.minimum(floor, returning)", "offset = floor"),
    ),
    *of(
        "rules/literal.py",
        RULES,
        ("move = step * jnp.sign(choice)", "move = step * choice"),
    ),
    *of(
        "rules/plateau.py",
        RULES,
        (
            "jnp.where(improved | resting | cut, loss, best)",
            "jnp.where(improved | resting, loss, best)",
        ),
    ),
    *of(
        "rules/reward.py",
        RULES,
        ("_answer.heard(signals.has_reward, z)", "_answer.heard(signals.has_value, z)"),
    ),
    *of(
        "rules/search.py",
        PRIOR,
        ("ready & overwhelming & ~recedes", "ready & overwhelming"),
        ("landing = jnp.where(s.failures > 0, back, landing)", "pass"),
        ("stop = (ready & ~s.warming) &", "stop = ready &"),
        ("up_evidence=strength / 2", "up_evidence=strength"),
    ),
    *of(
        "rules/settle.py",
        "rules/test_behaviour.py rules/test_twins.py",
        ("votes & still & apart & drawn_back", "votes & still & drawn_back"),
        ("s.loss_count >= SETTLED", "s.loss_count > SETTLED"),
    ),
    *of(
        "rules/success.py",
        RULES,
        ("(share < low) & (jnp.abs(z) <= deadzone)", "share < low"),
    ),
    *of(
        "rules/trend.py",
        RULES,
        ("lower = 1.0 / up if down is None", "lower = 2.0 - up if down is None"),
    ),
    *of(
        "rules/variance.py",
        RULES,
        (
            "jnp.maximum(signals.loss_variance - deadzone, 0.0)",
            "signals.loss_variance - deadzone",
        ),
    ),
)
