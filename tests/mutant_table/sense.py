"""Faults of `sense`."""

from tests.mutant_table.mutant import JUDGES, Mutant, of

READINGS = (
    "sense/test_sensor.py sense/test_series.py sense/test_gradient.py "
    "sense/test_bad_feedback.py"
)

SENSE: tuple[Mutant, ...] = (
    *of(
        "sense/gradient.py",
        READINGS,
        (
            "seen, jnp.minimum(total, LARGEST)",
            "seen, total",
        ),
        ("jnp.maximum(seen - 1, 0.0)", "seen"),
    ),
    *of(
        "sense/gradient.py",
        "sense/test_weight.py",
        ("g.norms_seen > 1)", "g.norms_seen > 0)"),
        ("- large * g.deviation", "- large * g.log_spread"),
        ("jnp.minimum(beyond, 0.0)", "beyond"),
    ),
    *of(
        "sense/sensor.py",
        "sense/test_weight.py",
        ("jnp.stack([counts, counts, 1.0])", "counts"),
    ),
    *of(
        "sense/sensor.py",
        READINGS,
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
        "sense/replicas.py",
        "scale/test_shard_map.py scale/test_shard_map_refusals.py",
        (
            "return jax.lax.pmean(gradient, over) if over else gradient",
            "return gradient",
        ),
        ("    _refuse_shards(telling, params)\n", ""),
        ("if jax.lax.axis_size(name) == 1:", "if True:"),
        ("if fed and not any(", "if False and not any("),
    ),
    *of(
        "sense/series.py",
        READINGS,
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
        "sense/sketch.py",
        "sense/test_sketch.py",
        (" * (jnp.ndim(part) - jnp.ndim(leaf) + 1)", ""),
        ("if extent >= 2 * _MIN_EXTENT", "if extent >= _MIN_EXTENT"),
    ),
    *of(
        "sense/cosines.py",
        READINGS,
        ("1 / jnp.maximum(seen, 1.0)", "0.0"),
    ),
    *of(
        "sense/estimators.py",
        READINGS,
        ("-jnp.expm1(logs * n)", "-jnp.expm1(logs * (n + 1))"),
    ),
    *of(
        "sense/motion.py",
        READINGS,
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
)
