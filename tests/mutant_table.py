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


JUDGES = " ".join(
    f"supervise/test_{name}.py"
    for name in (
        "supervisor",
        "start_audit",
        "trial",
        "skip",
        "rollback",
        "runs",
        "unpunished",
    )
)

MUTANTS = (
    *of(
        "law.py",
        "contract/test_prior_twins.py",
        ("if isinstance(law, Law):", "if True:"),
    ),
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
        "sense/gradient.py",
        "sense/test_sensor.py",
        (
            "seen, jnp.minimum(total, LARGEST)",
            "seen, total",
        ),
        ("jnp.maximum(seen - 1, 0.0)", "seen"),
    ),
    *of(
        "sense/sensor.py",
        "sense/test_sensor.py",
        ("(jnp.abs(fed) < LARGEST)", "jnp.isfinite(fed)"),
        ("cosines=jnp.where(restored, 0.0, state.cosines)", "cosines=state.cosines"),
        ("begun > 0, r, x", "begun > 1, r, x"),
    ),
    *of(
        "sense/sensor.py",
        f"test_law.py loop {JUDGES}",
        ("    usable &= ~far\n", ""),
        ("norms._replace(finite=norms.finite & ~far)", "norms"),
        ("told & limits.room", "told"),
    ),
    *of(
        "_axes.py",
        "scale/test_shard_map.py",
        ("frozenset.intersection(*found)", "frozenset.union(*found)"),
        ("return name in varying(jax.lax.axis_index(name))", "return True"),
    ),
    *of(
        "sense/replicas.py",
        "scale/test_shard_map.py",
        (
            "return jax.lax.pmean(gradient, over) if over else gradient",
            "return gradient",
        ),
        ("    _refuse_shards(telling, params)\n", ""),
        ("if jax.lax.axis_size(name) == 1:", "if True:"),
        ("if fed and not any(", "if False and not any("),
    ),
    *of(
        "agreement.py",
        "scale/test_agreement.py",
        ("jax.lax.axis_index(names) == 0", "jax.lax.axis_index(names) == 5"),
        ("odd = 2 *", "odd = 0 *"),
        ("% every == 0", "% every == 1"),
        ("[_checksum(scalars), _checksum(params)]", "[_checksum(scalars)]"),
    ),
    *of(
        "sense/series.py",
        "sense/test_sensor.py",
        ("age = jnp.maximum(n - 1, 0.0)", "age = n"),
        ("came & (old.begun == 0), x", "came, x"),
    ),
    *of(
        "sense/series.py",
        "sense/test_ten_million.py",
        ("jnp.where(blocks, old.slow, x)", "x"),
        ("jnp.where(blocks, BLOCK, 1.0)", "1.0"),
        ("(n > old.seen) & (~blocks", "came & (~blocks"),
    ),
    *of(
        "scale/arguments.py",
        "scale/test_arguments.py",
        ("    if _transforms(params):", "    if False:"),
        ('hasattr(x, "init") and hasattr(x, "update")', 'hasattr(x, "update")'),
    ),
    *of(
        "_containers.py",
        "scale/test_checkpoint.py",
        ("isinstance(have, list | dict) and isinstance(want, tuple)", "False"),
        ("        if below is not None:\n                return below\n", ""),
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
        "act/base_rate.py",
        f"loop {JUDGES}",
        ("count > (1 - ANNEAL) * self.total_steps", "count > self.total_steps"),
    ),
    *of(
        "loop.py",
        "contract/test_not_finite.py",
        ("jnp.where(taken, state.sigma_annealed, 0.0)", "state.sigma_annealed"),
    ),
    *of(
        "act/averaging_horizon.py",
        "act/test_averaging_horizon.py",
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
        "act/average.py",
        "act/test_average.py",
        ("jnp.where(count == 0, leaf, moved)", "moved"),
        ("jnp.where(known, mean.astype(dtype), leaf)", "mean.astype(dtype)"),
        ("jnp.isfinite(leaf) | ~jnp.isfinite(mean), moved", "True, moved"),
    ),
    *of(
        "act/controls.py",
        "act/test_controls.py",
        ("jnp.where(delta == 0, gain, moved)", "moved"),
        ("jnp.where(no_rise, jnp.minimum(delta, 0.0), delta)", "delta"),
    ),
    *of(
        "act/injection.py",
        "act/test_injection.py",
        ("new_state = hyperparams.replaced(new_state, own)", "pass"),
        (
            "_memory(own) if arg in parameters else USUAL_MOMENTUM",
            "_memory(own)",
        ),
    ),
    *of(
        "act/hyperparams.py",
        "act/test_injection.py first_day/test_gains_arrive.py",
        ("if moved[n] and n not in", "if n not in"),
        ("free[:1]", "found[:1]"),
        ("(one, *_all(one.inner_state))", "(one,)"),
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
        "act/filters.py",
        "act/test_filters.py",
        ("adam_moments(b1, b2, eps, eps_root)", "adam_moments(b1, b2, eps_root, eps)"),
    ),
    *of(
        "act/moments.py",
        "act/test_filters.py",
        (
            "_average(square_decay, state.second_weight, 1.0)",
            "_average(decay, state.second_weight, 1.0)",
        ),
    ),
    *of(
        "act/momentum_shadow.py",
        "act/test_momentum_shadow.py",
        ("(sizes[0] > 0) & (sizes[1] > 0) &", "(sizes[0] > 0) &"),
    ),
    *of(
        "act/scale_by_rule.py",
        "act/test_scale_by_rule.py",
        ("hold=~norms.finite", "hold=jnp.zeros((), bool)"),
    ),
    *of(
        "sense/sketch.py",
        "sense/test_sketch.py",
        (" * (jnp.ndim(part) - jnp.ndim(leaf) + 1)", ""),
        ("if extent >= 2 * _MIN_EXTENT", "if extent >= _MIN_EXTENT"),
    ),
    *of(
        "online.py",
        "test_online.py",
        ("skip=None, nudge=nudge", "nudge=nudge"),
        ("law.nudge.rate * law.half", "law.nudge.rate"),
        ("law.audit.opposed * 2", "law.audit.opposed"),
    ),
    *of(
        "act/worth.py",
        "test_online.py",
        ("(worth > 0) & ", ""),
        ("MOST * jnp.asarray", "jnp.asarray"),
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
        "rules/blend.py",
        "rules/test_blend.py",
        ("(1.0 - floor) * believed + floor * base", "believed"),
        ("jnp.tanh(z - state.blend_trend)", "jnp.tanh(z)"),
    ),
    *of(
        "act/noise.py",
        "act/test_dither.py",
        ("words(n) * WORD / n, -(n & -n)", "0.0, 0"),
        ("drawn >> place", "drawn >> (31 - place)"),
    ),
    *of(
        "act/dither.py",
        "act/test_dither.py",
        ("jnp.maximum(_rms(param), SMALLEST_RMS)", "_rms(param) + SMALLEST_RMS"),
        ("jnp.isfinite(strength) & (strength > 0)", "strength != 0"),
    ),
    *of(
        "freeze/hold.py",
        "freeze/test_hold.py",
        ("mask = jnp.all(mask)", "mask = jnp.any(mask)"),
        ("return zero_frozen(steps, mask), state", "return steps, state"),
        (" and moments.count(slot) == 1", ""),
    ),
    *of(
        "freeze/transform.py",
        "freeze/test_transform.py",
        ("frozen & resting", "frozen"),
        (
            "entry_norms(updates if grad is None else grad, layout)",
            "entry_norms(updates, layout)",
        ),
    ),
    *of(
        "freeze/criterion.py",
        "freeze/test_transform.py",
        ("norm > config.hysteresis * threshold", "norm > threshold"),
        (
            "(count < config.warmup) | (state.freeze_norm_weight == 0)",
            "count < config.warmup",
        ),
        ("min(1, config.min_dwell), stayed", "0, stayed"),
    ),
    *of(
        "freeze/layout.py",
        "freeze/test_transform.py",
        ("never_at = np.isin(group, group[never_at])", "pass"),
    ),
    *of(
        "freeze/masks.py",
        "freeze/test_gradients.py freeze/test_program.py freeze/test_value_and_grad.py",
        ("rows = rows | mask", "rows = mask"),
    ),
    *of(
        "freeze/value_and_grad.py",
        "freeze/test_gradients.py freeze/test_program.py freeze/test_value_and_grad.py",
        ("by_row.append(True)", "by_row.append(False)"),
    ),
    *of(
        "freeze/backward/flops.py",
        "freeze/test_gradients.py freeze/test_program.py freeze/test_value_and_grad.py",
        ("if key <= set(frozen)", "if key & set(frozen)"),
    ),
    *of(
        "freeze/backward/liveness.py",
        "freeze/test_gradients.py freeze/test_program.py freeze/test_value_and_grad.py",
        ("rows.get(slot, True) and kept and", "rows.get(slot, True) and"),
        ('params["broadcast_dimensions"][:1] == (0,)', "True"),
    ),
    *of(
        "freeze/backward/plan.py",
        "freeze/test_gradients.py freeze/test_program.py freeze/test_value_and_grad.py",
        ("now=NOBODY.union(*(keys[j] for j in heirs))", "now=keys[place]"),
        ("if program.ops[index].name in CHEAP:", "if True:"),
    ),
    *of(
        "freeze/backward/program.py",
        "freeze/test_gradients.py freeze/test_program.py freeze/test_value_and_grad.py",
        (
            'if any(type(s).__name__ != "UnspecifiedValue" for s in shardings):',
            "if False:",
        ),
        ("            _check_effects(eqn)\n", ""),
    ),
    *of(
        "freeze/backward/run.py",
        "freeze/test_gradients.py freeze/test_program.py freeze/test_value_and_grad.py",
        ("jnp.roll(later, 1 if reverse else -1)", "jnp.roll(later, -1)"),
        (
            "if any(truth is True for truth in truths):",
            "if all(truth is True for truth in truths):",
        ),
    ),
    *of(
        "freeze/staged_step.py",
        "freeze/test_staged_step.py",
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
        "watch/history.py",
        "watch/test_snapshot.py",
        ("*shape), np.nan, np.float32)", "*shape), 0.0, np.float32)"),
    ),
    *of(
        "watch/snapshot.py",
        "watch/test_snapshot.py",
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
        "freeze/labels.py",
        "freeze/test_labels.py freeze/test_transform.py",
        ("enumerate(parts[:-1])", "enumerate(parts)"),
        (
            "any(fnmatchcase(p, pattern) for p in prefixes",
            "any(fnmatchcase(path, pattern) for p in prefixes",
        ),
    ),
    *of(
        "_checks.py",
        "loop",
        ("float(value[0]) > float(value[1])", "float(value[0]) >= float(value[1])"),
        ("known and float(value) == math.inf", "known and math.isinf(float(value))"),
    ),
    *of(
        "_trees.py",
        "sense/test_sensor.py act/test_average.py",
        (
            "jnp.promote_types(jnp.result_type(leaf), jnp.float32)",
            "jnp.promote_types(jnp.result_type(leaf), jnp.bfloat16)",
        ),
    ),
    *of(
        "rules/_answer.py",
        "rules/test_behaviour.py rules/test_twins.py rules/test_every_rule.py",
        ("sound & jnp.isfinite(measurement)", "sound"),
        ("jnp.where(moves, new, old)", "jnp.where(allowed, new, old)"),
    ),
    *of(
        "rules/alignment.py",
        "rules/test_behaviour.py contract/test_prior_twins.py",
        (" & (agreement.mean > law.margin)", ""),
        (
            "carries & (signals.objective.trend < -law.hint)",
            "signals.objective.trend < -law.hint",
        ),
    ),
    *of(
        "rules/cyclical.py",
        "rules/test_behaviour.py rules/test_twins.py rules/test_every_rule.py",
        (
            "jnp.mod(count, period).astype(jnp.float32)",
            "jnp.mod(count.astype(jnp.float32), period)",
        ),
    ),
    *of(
        "rules/grad_norm.py",
        "rules/test_behaviour.py rules/test_twins.py rules/test_every_rule.py",
        ("offset = jnp.minimum(floor, returning)", "offset = floor"),
    ),
    *of(
        "rules/literal.py",
        "rules/test_behaviour.py rules/test_twins.py rules/test_every_rule.py",
        ("move = step * jnp.sign(choice)", "move = step * choice"),
    ),
    *of(
        "rules/plateau.py",
        "rules/test_behaviour.py rules/test_twins.py rules/test_every_rule.py",
        (
            "jnp.where(improved | resting | cut, loss, best)",
            "jnp.where(improved | resting, loss, best)",
        ),
    ),
    *of(
        "rules/reward.py",
        "rules/test_behaviour.py rules/test_twins.py rules/test_every_rule.py",
        ("heard(signals.reward.arrived, z)", "heard(signals.loss.arrived, z)"),
    ),
    *of(
        "rules/search.py",
        "rules/test_behaviour.py contract/test_prior_twins.py",
        ("ready & overwhelming & ~recedes", "ready & overwhelming"),
        ("jnp.where(own.failures > 0, back, landing)", "landing"),
        ("jnp.where(still, own.trusted_log_scale, landing)", "landing"),
        ("ready & ~own.warming", "ready"),
    ),
    *of(
        "rules/settle.py",
        "rules/test_behaviour.py rules/test_twins.py",
        ("still & apart & drawn_back", "still & drawn_back"),
        ("beyond &= heading.slow < -law.trust * heading.slow_sem", "pass"),
        ("judged.count >= law.level_after", "judged.count > law.level_after"),
    ),
    *of(
        "rules/success.py",
        "rules/test_behaviour.py rules/test_twins.py rules/test_every_rule.py",
        ("(share < low) & (jnp.abs(z) <= deadzone)", "share < low"),
    ),
    *of(
        "rules/trend.py",
        "rules/test_behaviour.py rules/test_twins.py rules/test_every_rule.py",
        ("lower = 1.0 / up if down is None", "lower = 2.0 - up if down is None"),
    ),
    *of(
        "rules/variance.py",
        "rules/test_behaviour.py rules/test_twins.py rules/test_every_rule.py",
        (
            "jnp.maximum(signals.loss.variance_ratio - deadzone, 0.0)",
            "signals.loss.variance_ratio - deadzone",
        ),
    ),
    *of(
        "_versions.py",
        "test_versions.py",
        ("_numbers(found) < _numbers(oldest)", "_numbers(found) <= _numbers(oldest)"),
    ),
    *of(
        "act/gains.py",
        "test_law.py",
        (
            "self.rule, state, gain, self.start, signals",
            "self.rule, state, gain, gain, signals",
        ),
    ),
    *of(
        "act/stage.py",
        "contract/test_wrappers.py",
        ("if make is None or", "if"),
    ),
    *of(
        "act/step.py",
        "contract/test_not_finite.py",
        ("jnp.where(taken & ok, u", "jnp.where(ok, u"),
    ),
    *of(
        "sense/cosines.py",
        "sense/test_sensor.py",
        ("1 / jnp.maximum(seen, 1.0)", "0.0"),
    ),
    *of(
        "sense/estimators.py",
        "sense/test_sensor.py",
        ("-jnp.expm1(logs * n)", "-jnp.expm1(logs * (n + 1))"),
    ),
    *of(
        "sense/motion.py",
        "sense/test_sensor.py",
        (
            "count = jnp.where(restored, 0.0, old.anchor_count + moved)",
            "count = old.anchor_count + moved",
        ),
    ),
    *of(
        "sense/stage.py",
        "loop",
        ("return ~(self.nonfinite | self.far)", "return ~self.far"),
        ("grads=_zero_unless(norms.finite, updates),", "grads=updates,"),
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
        "freeze/stage.py",
        "loop freeze/test_transform.py",
        ("jax.tree.map(hold.select, mask, old, new)", "hold.zero_frozen(new, mask)"),
    ),
    *of(
        "supervise/supervisor.py",
        f"loop {JUDGES}",
        ("failures=state.audit.audit_failures", "failures=state.trial.offences"),
    ),
    *of(
        "watch/plot.py",
        "watch/test_plot.py",
        ("percent * run[key]", "run[key]"),
        ("if not (losses or below or blends)", "if not (losses or below or runs)"),
    ),
    *of(
        "_types.py",
        "loop",
        ("failures=self.failures", "failures=Standing().failures"),
    ),
    *of(
        "state.py",
        "watch/test_snapshot.py",
        ("lambda s: s.loss.success", "lambda s: s.reward.success"),
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
        "_memory.py",
        "supervise/test_recovery.py",
        ("device_put(leaf, _Space.Host)", "device_put(leaf, _Space.Device)"),
    ),
    *of(
        "stages.py",
        "scale/test_checkpoint.py",
        ('"freezing": bool(freezing)', '"freezing": bool(recovery)'),
    ),
    *of(
        "state.py",
        "scale/test_checkpoint.py",
        ("!= _NOTHING) != keeps", "!= _NOTHING) is None"),
    ),
    *of(
        "scale/memory.py",
        "scale/test_memory.py",
        ('"inner" if name == "inner_state" else part', "part"),
    ),
    *of(
        "scale/shardings.py",
        "scale/test_shardings.py",
        ("extent % _parts(sharding, names) == 0", "extent > 0"),
    ),
    *of(
        "scale/checkpoint.py",
        "scale/test_checkpoint.py",
        ("MIGRATIONS[version:]", "MIGRATIONS[version + 1 :]"),
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
        "supervise/reasons.py",
        "watch/test_explain.py supervise/test_supervisor.py",
        ("e.auditing & (audited.audit_left == 0)", "audited.audit_left == 0"),
        ("because(begins, EventKind.START_ROSE", "because(died, EventKind.START_ROSE"),
    ),
    *of(
        "watch/event_log.py",
        "watch/test_events.py",
        ("kind in SINGLE and grown == 1", "grown < 0"),
        ("if count < self._counts.get(of, 0)", "if count < 0"),
    ),
    *of(
        "watch/columns.py",
        "watch/test_snapshot.py",
        ("isinstance(state, Mapping) and all", "isinstance(state, Mapping) or all"),
    ),
    *of(
        "watch/explain.py",
        "watch/test_explain.py",
        ("if forgotten > 0", "if forgotten > 999"),
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
    ),
    *of(
        "act/restart.py",
        "act/test_restart.py",
        ("(a > b for", "(a < b for"),
        (
            "bool(by_momentum and by_gradient and not by_parameters)",
            "bool(by_momentum and by_gradient)",
        ),
    ),
    *of(
        "rules/auto.py",
        "loop/test_auto_rules.py",
        ("return kick(law), bounds[0],", "return kick(law), sigma,"),
    ),
    *of(
        "rules/kick.py",
        "rules/test_behaviour.py",
        ("jnp.where(now, doubled, state.kick_patience)", "state.kick_patience"),
        ("level &= heading.slow >= -law.hint * heading.slow_sem", "pass"),
    ),
    *of(
        "rules/momentum.py",
        "rules/test_behaviour.py",
        ("jnp.minimum(-_answer.log(law.half), beyond)", "-_answer.log(law.half)"),
        ("quiet & long & (run", "quiet & (run"),
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
