"""The dither: its size, its bits, and its absence at sigma = 0."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adaptive_optax.act import noise as noise_of
from adaptive_optax.act.dither import add_dither, dither

COUNT = jnp.int32(3)


def noise(leaf_shape=(200, 100), params=None, updates=None, sigma=1.0, **kwargs):
    updates = jnp.zeros(leaf_shape) if updates is None else updates
    kwargs = {"seed": 0, "count": COUNT, "scale": "isotropic", **kwargs}
    return dither(params, updates, sigma, **kwargs) - updates


@pytest.mark.parametrize("distribution", ["gaussian", "rademacher"])
def test_noise_has_mean_zero_and_standard_deviation_sigma(distribution):
    n = np.asarray(noise(sigma=0.5, distribution=distribution))
    assert abs(n.mean()) < 0.02
    np.testing.assert_allclose(n.std(), 0.5, rtol=0.02)
    if distribution == "rademacher":
        np.testing.assert_array_equal(np.unique(n), [-0.5, 0.5])
    else:
        assert np.abs(n).max() > 1.5  # tails


def test_complex_leaves_get_complex_noise_of_variance_one():
    n = np.asarray(noise(updates=jnp.zeros(20_000, jnp.complex64)))
    np.testing.assert_allclose(np.mean(np.abs(n) ** 2), 1.0, rtol=0.03)
    np.testing.assert_allclose(n.real.std(), n.imag.std(), rtol=0.03)
    assert abs(np.mean(n**2)) < 0.03  # real and imaginary parts are independent


def test_the_scale_is_per_leaf():
    params = {"big": 4 * jnp.ones(10_000), "zero": jnp.zeros(10_000)}
    updates = {"big": 2 * jnp.ones(10_000), "zero": jnp.zeros(10_000)}

    def deviation(scale):
        kwargs = {"seed": 0, "count": COUNT, "scale": scale}
        noisy = dither(params, updates, 0.5, **kwargs)
        return {k: float(jnp.std(noisy[k] - updates[k])) for k in params}

    assert deviation("param_rms") == pytest.approx({"big": 2, "zero": 0.005}, rel=0.03)
    assert deviation("update_rms") == pytest.approx({"big": 1, "zero": 0}, rel=0.03)
    assert deviation("isotropic") == pytest.approx({"big": 0.5, "zero": 0.5}, rel=0.03)
    assert deviation(lambda p, u: 3 * jnp.abs(u)) == pytest.approx(
        {"big": 3, "zero": 0}, rel=0.03
    )


def test_the_smallest_scale_is_a_floor_and_not_added():
    params = {"small": jnp.full(8, 0.02), "zero": jnp.zeros(8)}
    updates = jax.tree.map(jnp.zeros_like, params)
    noisy = dither(params, updates, 0.5, seed=0, count=COUNT, distribution="rademacher")
    np.testing.assert_allclose(jnp.abs(noisy["small"]), 0.01, rtol=1e-6)
    np.testing.assert_allclose(jnp.abs(noisy["zero"]), 0.005, rtol=1e-6)


def test_leaves_steps_and_seeds_are_independent():
    updates = {"a": jnp.zeros(5000), "b": jnp.zeros(5000)}

    def draw(seed, count):
        kwargs = {"seed": seed, "count": jnp.int32(count), "scale": "isotropic"}
        return dither(None, updates, 1.0, **kwargs)

    draws = [*draw(0, 0).values(), *draw(0, 1).values(), *draw(1, 0).values()]
    correlation = np.corrcoef(np.stack(draws)) - np.eye(6)
    assert np.abs(correlation).max() < 0.06
    np.testing.assert_array_equal(draws[0], draw(0, 0)["a"])


def test_signs_are_the_bits_of_words_along_one_axis():
    key = jax.random.key(0, impl="threefry2x32")
    for shape, axis in {
        (3, 64): 1,
        (256, 96): 0,
        (40, 5): 0,
        (7, 2, 3): 0,
        (33,): 0,
    }.items():
        assert noise_of.packed_axis(shape) == axis
        held = list(shape)
        held[axis] = -(-shape[axis] // 32)
        words = np.asarray(jax.random.bits(key, held, jnp.uint32))
        signs = np.asarray(noise_of.draw(key, jnp.zeros(shape), "rademacher"))
        for place in np.ndindex(shape):
            at = list(place)
            at[axis] //= 32
            bit = int(words[tuple(at)]) >> (place[axis] % 32) & 1
            assert signs[place] == (-1 if bit else 1)


def test_a_sign_takes_one_random_bit():
    def drawn(distribution):
        program = jax.make_jaxpr(lambda u: noise(updates=u, distribution=distribution))
        return re.findall(
            r"random_bits.*?shape=\((.*?)\)", str(program(jnp.ones((256, 96))))
        )

    assert drawn("gaussian") == ["256, 96"]
    assert drawn("rademacher") == ["8, 96"]


def test_the_default_generator_does_not_change_the_noise():
    plain = noise()
    with jax.default_prng_impl("rbg"):
        np.testing.assert_array_equal(noise(), plain)


def test_sigma_zero_returns_the_updates_bit_for_bit():
    updates = jnp.asarray([-0.0, 0.0, jnp.nan, 1.0])
    tx = add_dither(jnp.float32(0.0), scale="isotropic")
    out, _ = jax.jit(tx.update)(updates, tx.init(updates))
    np.testing.assert_array_equal(out.view(jnp.uint32), updates.view(jnp.uint32))


def test_a_python_zero_leaves_no_random_bits_in_the_program():
    params = jnp.ones(3)

    def program(sigma):
        tx = add_dither(sigma)
        return jax.make_jaxpr(tx.update)(params, tx.init(params), params)

    assert "random" not in str(program(0.0)) and "cond" not in str(program(0.0))
    # A sigma known at run time only: the draw is there, inside the condition.
    drawn = program(jnp.float32(0))
    assert "random" in str(drawn)
    names = [equation.primitive.name for equation in drawn.eqns]
    assert "cond" in names and not any("random" in name for name in names)


@pytest.mark.parametrize("sigma", [jnp.nan, jnp.inf, -1.0])
def test_a_traced_sigma_out_of_range_adds_nothing(sigma):
    updates = jnp.ones(4)

    @jax.jit
    def step(sigma):
        return add_dither(sigma, scale="isotropic").update(
            updates, add_dither(0.0).init(updates)
        )[0]

    np.testing.assert_array_equal(step(sigma), updates)
    assert np.any(step(0.1) != updates)


def test_sigma_schedule_and_count():
    tx = add_dither(lambda count: 0.1 * (count == 1), scale="isotropic")
    updates, state = jnp.zeros(4), tx.init(None)
    silent, state = tx.update(updates, state, surprise=1)
    loud, state = tx.update(updates, state)
    assert not np.any(silent) and np.all(loud != 0)
    assert state.dither_count == 2


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_dtype_is_kept_and_the_sum_is_rounded_once(dtype):
    updates = jnp.full(1000, 3.0, dtype)
    exact = 3.0 + noise(updates=jnp.zeros(1000), sigma=0.1)
    noisy = dither(None, updates, 0.1, seed=0, count=COUNT, scale="isotropic")
    assert noisy.dtype == dtype
    error = jnp.abs(noisy.astype(jnp.float32) - exact)
    # Half a unit in the last place of 2 to 4, and float32's own rounding.
    assert jnp.max(error) <= float(jnp.finfo(dtype).eps) + 3e-7


def test_missing_leaves_are_passed_over():
    tree = {"a": jnp.ones(2), "none": None, "masked": optax.MaskedNode()}
    tx = add_dither(0.1)
    out, _ = tx.update(tree, tx.init(tree), tree)
    assert out["none"] is None and isinstance(out["masked"], optax.MaskedNode)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: add_dither(-0.1), ValueError, r"`sigma`.*-0\.1.*sigma=1e-3"),
        (lambda: add_dither(float("nan")), ValueError, "finite, got nan"),
        (lambda: add_dither(jnp.float32(jnp.inf)), ValueError, "finite, got inf"),
        (lambda: add_dither("big"), TypeError, "big"),
        (lambda: add_dither(0.1, scale="rms"), ValueError, "'param_rms'.*'rms'"),
        (lambda: add_dither(0.1, distribution="cauchy"), ValueError, "'cauchy'"),
        (lambda: add_dither(0.1, seed=0.5), TypeError, r"seed.*0\.5"),
        (
            lambda: add_dither(0.1).update(jnp.ones(2), add_dither(0.1).init(None)),
            ValueError,
            "add_dither.*params=None",
        ),
        (
            lambda: noise((2, 3), params=jnp.ones((2, 3)), scale=lambda p, u: p[None]),
            ValueError,
            r"broadcast.*\(2, 3\).*\(1, 2, 3\)",
        ),
    ],
)
def test_bad_arguments(call, error, match):
    with pytest.raises(error, match=match):
        call()
