"""Faults of `scale`, and of what many devices and checkpoints rest on."""

from tests.mutant_table.mutant import Mutant, of

SCALE: tuple[Mutant, ...] = (
    *of(
        "_axes.py",
        "scale/test_shard_map.py scale/test_shard_map_refusals.py",
        ("frozenset.intersection(*found)", "frozenset.union(*found)"),
        ("return name in varying(jax.lax.axis_index(name))", "return True"),
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
        "state.py",
        "watch/test_snapshot.py watch/test_found.py",
        ("lambda s: s.loss.success", "lambda s: s.reward.success"),
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
)
