"""Faults of `freeze`."""

from tests.mutant_table.mutant import Mutant, of

BACKWARD = (
    "freeze/test_gradients.py freeze/test_program.py freeze/test_program_on_devices.py "
    "freeze/test_value_and_grad.py freeze/test_flops.py"
)

FREEZE: tuple[Mutant, ...] = (
    *of(
        "freeze/hold.py",
        "freeze/test_hold.py",
        ("mask = jnp.all(mask)", "mask = jnp.any(mask)"),
        ("return zero_frozen(steps, mask), state", "return steps, state"),
        (" and moments.count(slot) == 1", ""),
    ),
    *of(
        "freeze/transform.py",
        "freeze/test_transform.py freeze/test_skipping.py",
        ("frozen & resting", "frozen"),
        (
            "entry_norms(updates if grad is None else grad, layout)",
            "entry_norms(updates, layout)",
        ),
    ),
    *of(
        "freeze/criterion.py",
        "freeze/test_criterion.py",
        ("norm > config.hysteresis * threshold", "norm > threshold"),
        (
            "(count < config.warmup) | (state.freeze_norm_weight == 0)",
            "count < config.warmup",
        ),
        ("min(1, config.min_dwell), stayed", "0, stayed"),
    ),
    *of(
        "freeze/layout.py",
        "freeze/test_layout.py",
        ("never_at = np.isin(group, group[never_at])", "pass"),
    ),
    *of(
        "freeze/masks.py",
        BACKWARD,
        ("rows = rows | mask", "rows = mask"),
    ),
    *of(
        "freeze/value_and_grad.py",
        BACKWARD,
        ("by_row.append(True)", "by_row.append(False)"),
    ),
    *of(
        "freeze/backward/flops.py",
        BACKWARD,
        ("if key <= set(frozen)", "if key & set(frozen)"),
    ),
    *of(
        "freeze/backward/liveness.py",
        BACKWARD,
        ("rows.get(slot, True) and kept and", "rows.get(slot, True) and"),
        ('params["broadcast_dimensions"][:1] == (0,)', "True"),
    ),
    *of(
        "freeze/backward/plan.py",
        BACKWARD,
        ("now=NOBODY.union(*(keys[j] for j in heirs))", "now=keys[place]"),
        ("if program.ops[index].name in CHEAP:", "if True:"),
    ),
    *of(
        "freeze/backward/program.py",
        BACKWARD,
        (
            'if any(type(s).__name__ != "UnspecifiedValue" for s in shardings):',
            "if False:",
        ),
        ("            _check_effects(eqn)\n", ""),
    ),
    *of(
        "freeze/backward/run.py",
        BACKWARD,
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
        "freeze/labels.py",
        "freeze/test_labels.py freeze/test_layout.py",
        ("enumerate(parts[:-1])", "enumerate(parts)"),
        (
            "any(fnmatchcase(p, pattern) for p in prefixes",
            "any(fnmatchcase(path, pattern) for p in prefixes",
        ),
    ),
    *of(
        "freeze/stage.py",
        "loop freeze/test_transform.py freeze/test_skipping.py",
        ("jax.tree.map(hold.select, mask, old, new)", "hold.zero_frozen(new, mask)"),
    ),
)
