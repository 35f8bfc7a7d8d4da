"""A scheduler mapped by hand over eight devices."""

import functools

import jax
import optax

import adaptive_optax as ao
from tests.scale.mapped import params, run_mapped, run_pmapped


def scheduler(**options):
    return ao.adaptive_scheduler(optax.sgd, 1e-3, mode="search", **options)


MAPS = {
    "shard_map": functools.partial(run_mapped, check_vma=False),
    "pmap": run_pmapped,
}


def different():
    """Parameters of its own on each device."""
    device = jax.lax.axis_index("data")
    return jax.tree.map(lambda leaf: leaf + device, params())
