"""Masking, and whether two results are the same: what skipping has to equal."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from adaptive_optax._trees import over

EVERY = {"min_flops": 0.0}  # a conditional around whatever can be skipped
quick_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)


def masking(fun, has_aux=False):
    """What it all has to equal."""
    plain = jax.value_and_grad(fun, has_aux=has_aux)

    def vg(params, frozen, *args, **kwargs):
        value, grads = plain(params, *args, **kwargs)
        zero = jax.tree.map(
            lambda f, g: jnp.where(over(f, g), jnp.zeros_like(g), g), frozen, grads
        )
        return value, zero

    return vg


def without_keys(tree):
    return jax.tree.map(
        lambda x: (
            jax.random.key_data(x)
            if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
            else x
        ),
        tree,
    )


def assert_close(got, want, rtol=1e-6):
    got, want = without_keys(got), without_keys(want)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype
        a, b = (np.asarray(x, np.float64) for x in (a, b))
        eps = 1e-2 if jax.tree.leaves(got)[0].dtype == jnp.bfloat16 else rtol
        np.testing.assert_allclose(a, b, rtol=eps, atol=eps * np.max(np.abs(b)))
