"""Faults of `act`."""

from tests.mutant_table.mutant import JUDGES, Mutant, of

ACT: tuple[Mutant, ...] = (
    *of(
        "act/base_rate.py",
        f"loop {JUDGES}",
        ("count > (1 - ANNEAL) * self.total_steps", "count > self.total_steps"),
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
        "act/test_average.py act/test_averaged_params.py",
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
        "act/test_injection.py act/test_out_of_reach.py",
        ("new_state = hyperparams.replaced(new_state, own)", "pass"),
        (
            "_memory(own) if arg in parameters else USUAL_MOMENTUM",
            "_memory(own)",
        ),
    ),
    *of(
        "act/hyperparams.py",
        "act/test_injection.py act/test_out_of_reach.py first_day/test_gains_arrive.py",
        ("if moved[n] and n not in", "if n not in"),
        ("free[:1]", "found[:1]"),
        ("(one, *_all(one.inner_state))", "(one,)"),
    ),
    *of(
        "act/filters.py",
        "act/test_filters.py act/test_filter_inputs.py",
        ("adam_moments(b1, b2, eps, eps_root)", "adam_moments(b1, b2, eps_root, eps)"),
    ),
    *of(
        "act/moments.py",
        "act/test_filters.py act/test_filter_inputs.py",
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
        "act/worth.py",
        "test_online.py",
        ("(worth > 0) & ", ""),
        ("MOST * jnp.asarray", "jnp.asarray"),
    ),
    *of(
        "act/noise.py",
        "act/test_dither.py act/test_dither_on_devices.py",
        ("words(n) * WORD / n, -(n & -n)", "0.0, 0"),
        ("drawn >> place", "drawn >> (31 - place)"),
    ),
    *of(
        "act/dither.py",
        "act/test_dither.py act/test_dither_on_devices.py",
        ("jnp.maximum(_rms(param), SMALLEST_RMS)", "_rms(param) + SMALLEST_RMS"),
        ("jnp.isfinite(strength) & (strength > 0)", "strength != 0"),
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
        "act/restart.py",
        "act/test_restart.py",
        ("(a > b for", "(a < b for"),
        (
            "bool(by_momentum and by_gradient and not by_parameters)",
            "bool(by_momentum and by_gradient)",
        ),
    ),
)
