"""Faults of `rules`."""

from tests.mutant_table.mutant import Mutant, of

RULES: tuple[Mutant, ...] = (
    *of(
        "rules/blend.py",
        "rules/test_blend.py",
        ("(1.0 - floor) * believed + floor * base", "believed"),
        ("jnp.tanh(z - state.blend_trend)", "jnp.tanh(z)"),
    ),
    *of(
        "rules/_answer.py",
        "rules/test_behaviour.py rules/test_twins.py rules/test_every_rule.py",
        ("sound & jnp.isfinite(measurement)", "sound"),
        ("jnp.where(moves, new, old)", "jnp.where(allowed, new, old)"),
    ),
    *of(
        "rules/alignment.py",
        "rules/test_search.py contract/test_prior_twins.py",
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
        "rules/test_search.py contract/test_prior_twins.py",
        ("ready & overwhelming & ~recedes", "ready & overwhelming"),
        ("jnp.where(own.failures > 0, back, landing)", "landing"),
        ("jnp.where(still, own.trusted_log_scale, landing)", "landing"),
        ("ready & ~own.warming", "ready"),
    ),
    *of(
        "rules/settle.py",
        "rules/test_search.py rules/test_twins.py",
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
        "rules/auto.py",
        "loop/test_auto_rules.py",
        ("return kick(law), bounds[0],", "return kick(law), sigma,"),
    ),
    *of(
        "rules/kick.py",
        "rules/test_momentum_and_kick.py",
        ("jnp.where(now, doubled, state.kick_patience)", "state.kick_patience"),
        ("level &= heading.slow >= -law.hint * heading.slow_sem", "pass"),
    ),
    *of(
        "rules/momentum.py",
        "rules/test_momentum_and_kick.py",
        ("jnp.minimum(-_answer.log(law.half), beyond)", "-_answer.log(law.half)"),
        ("quiet & long & (run", "quiet & (run"),
    ),
)
