"""The sensor against a slow twin, its invariances, and what it does with bad input."""

import functools
import operator

import chex
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from adaptive_optax._types import Cosine, Limits, Series
from adaptive_optax.sense import sensor as sensing
from tests.rules.signal_streams import FIELDS
from tests.sense import sensor_twin

PARAMS = {"w": jnp.zeros((3, 4)), "b": jnp.zeros(5)}
# What no rule reads: the quick mean of the heading, and of the steps all but that.
UNREAD = {f"heading.{name}" for name in ("arrived", "value", "mean", "sem", "count")}
UNREAD |= {f"step_correlation.{name}" for name in Cosine._fields if name != "mean"}
MEASURED = {name.replace("__", ".") for name in FIELDS if "standing" not in name}
MEASURED |= {f"objective.{name}" for name in Series._fields}
COMPARED = sorted(MEASURED - UNREAD)


@functools.partial(jax.jit, static_argnames=("fraction", "decay"))
def read(losses, rewards, gradients, steps, restored, *, fraction=1.0, decay=0.9):
    """All signals of a stream of raw feedback, stacked, and the last state."""

    def tree(flat):
        return {"b": flat[:5], "w": flat[5:].reshape(3, 4)}

    def step(state, fed):
        loss, reward, flat_grad, flat_step, again = fed
        grads = tree(flat_grad)
        norms = sensing.gradient_norms(grads)
        grads = jax.tree.map(lambda g: jnp.where(norms.finite, g, 0.0), grads)
        signals, _, state = sensing.measure(
            state,
            grads,
            norms,
            value=loss,
            reward=reward,
            fraction=fraction,
            decay=decay,
        )
        state = sensing.record_step(state, tree(flat_step), again, fraction=fraction)
        return state, signals

    start = sensing.init_sensor(PARAMS, fraction)
    last, signals = jax.lax.scan(
        step, start, (losses, rewards, gradients, steps, restored)
    )
    return signals, last


def stream(seed, length=500):
    """Falling through zero, spikes, NaN and inf, a stretch in bfloat16, restores."""
    rng = np.random.default_rng(seed)

    def spoilt(x):
        x = x.copy()
        x[rng.random(length) < 0.02] = np.nan
        x[rng.random(length) < 0.02] = np.inf
        x[rng.random(length) < 0.01] = -np.inf
        return x

    losses = 2.0 - 4.0 * np.arange(length) / length + 0.2 * rng.normal(size=length)
    losses += (rng.random(length) < 0.02) * rng.normal(size=length) * 10
    rewards = np.cumsum(rng.normal(size=length)) + rng.normal(size=length)
    gradients = rng.normal(size=(length, 17)) * np.exp(rng.normal(size=(length, 1)))
    steps = -0.01 * (gradients + rng.normal(size=(length, 17)))
    gradients[rng.random(length) < 0.02, 3] = np.nan
    gradients[rng.random(length) < 0.02, 7] = np.inf
    gradients[rng.random(length) < 0.02] = 0.0
    steps[rng.random(length) < 0.02] = 0.0
    rewards[:9] = np.nan
    raw = [spoilt(losses), spoilt(rewards), gradients, steps]
    middle = slice(length // 3, 2 * length // 3)
    for each in raw:
        each[middle] = each[middle].astype(ml_dtypes.bfloat16)
    return [np.float32(each) for each in raw] + [rng.random(length) < 0.01]


def twin(losses, rewards, gradients, steps, restored, decay=0.9):
    """The twin's readings, one dict a step."""
    fed = zip(*(np.float64(x) for x in (losses, rewards, gradients)), strict=True)
    taken = zip(np.float64(steps), restored, strict=True)
    return list(sensor_twin.read(fed, taken, decay))


def reading(signals, name):
    """``loss.trend`` of the signals."""
    return operator.attrgetter(name)(signals)


@pytest.mark.parametrize("seed, decay", [(0, 0.9), (1, 0.9), (2, 0.6), (3, 0.95)])
def test_the_sensor_agrees_with_its_twin(seed, decay):
    fed = stream(seed)
    signals, state = read(*fed, decay=decay)
    expected = twin(*fed, decay=decay)
    for name in COMPARED:
        # A trend is a small difference of levels, which float32 holds to 1e-7 of 2.
        # The nearer a decay is to 1, the smaller is the difference's variance at first.
        trend = name.endswith("trend")
        np.testing.assert_allclose(
            reading(signals, name),
            [row[name] for row in expected],
            rtol=2e-3 if trend and decay > 0.9 else 2e-5,
            atol=2e-4 if trend else 2e-5,
            err_msg=name,
        )
    judged = np.asarray(signals.objective.value)
    begun = int(np.argmax(signals.reward.arrived))
    assert begun > 5
    np.testing.assert_array_equal(judged[:begun], signals.loss.value[:begun])
    np.testing.assert_array_equal(judged[begun:], -signals.reward.value[begun:])
    bad = [~np.isfinite(x).reshape(len(x), -1).all(axis=1) for x in fed[:3]]
    assert list(state.nonfinite) == [b.sum() for b in bad]
    assert min(state.nonfinite) > 0


def test_long_means_see_no_trend_in_noise():
    # At first fast and slow hardly differ, and float32 cannot tell by how much.
    losses = 2 + np.random.default_rng(0).normal(size=300)
    signals, _ = read(*quiet(losses), decay=0.9999)
    assert np.abs(signals.loss.trend).max() < 4


def quiet(losses, rewards=None, gradients=None, steps=None):
    n = len(losses)
    fill = np.full((n, 17), 1.0, np.float32)
    return (
        np.float32(losses),
        np.float32(np.zeros(n) if rewards is None else rewards),
        fill if gradients is None else np.float32(gradients),
        -fill if steps is None else np.float32(steps),
        np.zeros(n, bool),
    )


def noisy_fall(n=200, seed=3):
    rng = np.random.default_rng(seed)
    return 1.0 - np.arange(n) / n + 0.1 * rng.normal(size=n)


SCALE_FREE = ("loss.trend", "loss.long_trend", "loss.variance_ratio", "loss.success")


@pytest.mark.parametrize("scale", [1e-12, 2.0**-10, 1.0, 3.0, 1e12, 1e30])
def test_the_scale_of_the_loss_does_not_matter(scale):
    # A mean square would under- or overflow at either end.
    losses = noisy_fall()
    plain, _ = read(*quiet(losses, rewards=losses))
    scaled, _ = read(*quiet(losses * scale, rewards=losses * scale))
    for name in (*SCALE_FREE, "reward.trend"):
        np.testing.assert_allclose(
            reading(scaled, name), reading(plain, name), rtol=2e-4, atol=2e-4
        )


@pytest.mark.parametrize("scale, offset", [(1.0, 10.0), (1.0, -10.0), (50.0, -700.0)])
def test_the_offset_and_the_sign_of_the_loss_do_not_matter(scale, offset):
    # ELBOs and negative rewards: optax reduce_on_plateau read rtol against |best|.
    losses = noisy_fall()
    plain, _ = read(*quiet(losses))
    moved, _ = read(*quiet(losses * scale + offset))
    for name in SCALE_FREE:  # as far as float32 can tell 10.0 from 10.1
        np.testing.assert_allclose(
            reading(moved, name), reading(plain, name), rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e12])
def test_the_scale_of_the_gradient_does_not_matter(scale):
    fed = stream(4)
    fed[2] = np.nan_to_num(fed[2], posinf=1.0)
    plain, _ = read(*fed)
    scaled, _ = read(*fed[:2], np.float32(fed[2] * scale), *fed[3:])
    for name in ("alignment", "alignment.mean", "alignment.sem", "grad_norm_z"):
        np.testing.assert_allclose(
            reading(scaled, name), reading(plain, name), rtol=1e-3, atol=1e-4
        )
    np.testing.assert_array_equal(scaled.alignment.arrived, plain.alignment.arrived)


def test_the_trend_of_a_flat_noisy_loss_is_standard_normal():
    # From the second value on: a debiased EMA's own error shrinks with age.
    rng = np.random.default_rng(5)
    losses = jnp.asarray(rng.normal(size=(400, 60)), jnp.float32)
    fed = quiet(np.zeros(60))
    run = jax.vmap(lambda x: read(x, *fed[1:])[0].loss.trend)
    z = np.asarray(run(losses))
    assert np.abs(z[:, 5:].mean(axis=0)).max() < 0.3
    late = z[:, 20:].std(axis=0)
    assert 0.8 < late.min() and late.max() < 1.3


def progress_of(losses):
    """The progress along each of many runs, whose losses are the rows."""
    fed = quiet(np.zeros(losses.shape[1]))
    run = jax.vmap(lambda x: read(x, *fed[1:])[0].loss.long_trend)
    return np.asarray(run(jnp.asarray(losses, jnp.float32)))


@pytest.mark.parametrize("scale, offset", [(1.0, 0.0), (40.0, -300.0)])
def test_the_progress_of_a_flat_noisy_loss_is_standard_normal(scale, offset):
    # At every age at which a rule asks for it, the first being 31: there its standard
    # error, that of n -> infinity, is a seventh too wide.
    rng = np.random.default_rng(8)
    z = progress_of(offset + scale * rng.normal(size=(400, 600)))
    for age in (31, 60, 120, 300, 600):
        now = z[:, age - 1]
        assert abs(now.mean()) < 0.15
        assert (0.8 if age == 31 else 0.88) < now.std() < 1.12
        assert 0.9 < (np.abs(now) < 1.96).mean() < 0.99


def test_the_progress_of_a_slow_fall_is_positive_at_its_own_age():
    # A fall of one noise in a hundred steps: no fixed horizon sees it at once.
    rng = np.random.default_rng(9)
    noise = rng.normal(size=(400, 600))
    falling = progress_of(noise - 0.01 * np.arange(600))
    rising = progress_of(noise + 0.01 * np.arange(600))
    assert (falling[:, 300:] > 2).mean() > 0.9 and falling[:, 599].min() > 4
    assert (rising[:, 300:] < -2).mean() > 0.9


def test_the_progress_is_of_the_steps_since_a_restore():
    # What was lost is no level that the run still falls from.
    losses = np.r_[100.0 - np.arange(50.0), np.zeros(50)]
    losses = losses + np.random.default_rng(3).normal(size=100)
    fed = list(quiet(losses))
    fed[4] = np.arange(100) == 49
    signals, _ = read(*fed)
    kept, _ = read(*quiet(losses))
    assert signals.loss.count[49] == 50 and signals.loss.count[99] == 50
    assert signals.loss.long_trend[49] > 3 and kept.loss.long_trend[99] > 10
    assert abs(signals.loss.long_trend[99]) < 3


def test_a_rising_reward_reads_as_a_falling_loss():
    line = np.arange(200.0) + np.random.default_rng(0).normal(size=200)
    rising, _ = read(*quiet(np.zeros(200), rewards=line))
    falling, _ = read(*quiet(-line))
    for name in Series._fields:
        np.testing.assert_allclose(
            getattr(rising.objective, name),
            getattr(falling.loss, name),
            rtol=1e-6,
            err_msg=name,
        )
    assert rising.objective.long_trend[-1] > 5
    np.testing.assert_array_equal(rising.reward.value, np.float32(line))


@pytest.mark.parametrize("up", [True, False])
def test_signs_mean_better_when_positive(up):
    line = np.arange(200.0) * (1 if up else -1)
    line = line + np.random.default_rng(0).normal(size=200)
    signals, _ = read(*quiet(line, rewards=line))
    assert (signals.loss.trend[-1] < -2) == up
    assert (signals.reward.trend[-1] > 2) == up
    opposed, _ = read(*quiet(line, steps=np.full((200, 17), 1.0)))
    agreed, _ = read(*quiet(line))
    assert opposed.alignment.value[-1] == pytest.approx(-1.0, abs=1e-5)
    assert agreed.alignment.value[-1] == pytest.approx(1.0, abs=1e-5)


def test_a_spike_then_a_slow_fall_reads_as_a_fall():
    # Against best-ever it would read as no progress for as long as it is above it.
    losses = np.r_[np.zeros(50), 10.0 - 0.05 * np.arange(150)]
    losses = losses + 0.01 * np.random.default_rng(1).normal(size=200)
    signals, _ = read(*quiet(losses))
    assert (np.asarray(signals.loss.trend[60:70]) < 0).all()
    assert (np.asarray(signals.loss.trend[150:]) > 2).all()


def test_one_outlier_does_not_unlearn_the_noise():
    losses = 0.1 * np.random.default_rng(2).normal(size=200)
    losses[60] = 100.0
    signals, _ = read(*quiet(losses))
    assert signals.loss.noise[59] == pytest.approx(0.1, rel=0.5)
    assert signals.loss.noise[60] < 0.1 * 100.0
    assert signals.loss.noise[119] < 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2e37, -3e38])
def test_a_value_beyond_float32_differences_counts_as_not_finite(bad):
    losses = noisy_fall(20)
    _, before = read(*quiet(losses))
    _, after = read(*quiet(np.r_[losses, bad]))
    np.testing.assert_array_equal(after.series[:, 0], before.series[:, 0])
    assert int(after.nonfinite[0]) == 1


def test_gradients_whose_squares_add_up_beyond_float32_leave_a_travel():
    # Over an infinite sum it would be 0, and stay so.
    huge = np.full((20, 17), 2e18)
    signals, state = read(*quiet(noisy_fall(20), gradients=huge))
    assert signals.has_gradient.all() and np.isfinite(state.gradient).all()
    assert (signals.dog_step_size[1:] > 0).all()


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize(
    "value", [1, 2.5, True, np.float64(2), np.int8(3), jnp.bfloat16(1.5)]
)
def test_feedback_of_any_real_kind_becomes_float32(value, x64):
    with jax.enable_x64(x64):
        state = sensing.init_sensor(PARAMS, 1.0)
        norms = sensing.gradient_norms(PARAMS)
        signals, _, after = sensing.measure(
            state, PARAMS, norms, value=value, reward=value, fraction=1.0
        )
        assert signals.loss.value.dtype == signals.reward.value.dtype == jnp.float32
        assert float(signals.loss.value) == float(value)
        assert jax.tree.map(jax.typeof, after) == jax.tree.map(jax.typeof, state)


def test_a_float64_loss_beyond_float32_is_not_finite():
    with jax.enable_x64(True):
        state = sensing.init_sensor(PARAMS, 1.0)
        norms = sensing.gradient_norms(PARAMS)
        signals, _, after = sensing.measure(
            state, PARAMS, norms, value=jnp.float64(1e200), fraction=1.0
        )
        assert not signals.loss.arrived and int(after.nonfinite[0]) == 1


FAR = {
    "a loss above the limit": (Limits(loss=2.0), 3.0, 1.0, True),
    "a loss at the limit": (Limits(loss=3.0), 3.0, 1.0, False),
    "no room for another": (Limits(loss=2.0, room=jnp.asarray(False)), 3.0, 1.0, False),
    "a loss that did not come": (Limits(loss=2.0), np.nan, 1.0, False),
    "an infinite loss": (Limits(loss=2.0), np.inf, 1.0, False),
    "a gradient that is not finite": (Limits(loss=2.0), 3.0, np.nan, False),
    "a dead gradient": (Limits(dead_norm=9.0, dead_loss=2.0), 3.0, 1.0, True),
    "a small one with a good loss": (Limits(dead_norm=9.0, dead_loss=3.0), 3.0, 1.0, 0),
}


@pytest.mark.parametrize("rewarded", [False, True])
@pytest.mark.parametrize("limits, objective, scale, far", FAR.values(), ids=FAR)
def test_nothing_is_read_from_a_batch_far_outside(
    limits, objective, scale, far, rewarded
):
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    grads = jax.tree.map(lambda x: scale * x, ones)
    norms = sensing.gradient_norms(grads)
    # The reward is judged once there was one, whatever the loss.
    fed = {"value": 100.0, "reward": -objective} if rewarded else {"value": objective}
    _, _, before = sensing.measure(
        sensing.init_sensor(PARAMS, 1.0),
        ones,
        sensing.gradient_norms(ones),
        fraction=1.0,
        **dict.fromkeys(fed, 0.0),
    )
    signals, batch, after = sensing.measure(
        before, grads, norms, limits=limits, fraction=1.0, **fed
    )
    assert bool(batch.far) == far
    came, finite = np.isfinite(objective), np.isfinite(scale)
    assert bool(batch.told) == came
    assert float(batch.objective) == (objective if came else 0.0)
    assert bool(signals.objective.arrived) == (came and not far)
    assert bool(signals.has_gradient) == (finite and not far)
    # It is no fault of the number's.
    assert list(after.nonfinite) == [
        not came and not rewarded,
        not came and rewarded,
        not finite,
    ]
    if far:
        chex.assert_trees_all_equal(after.series, before.series)
        chex.assert_trees_all_equal(after.gradient, before.gradient)
        assert int(after.signal_count) == 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_norms_are_accumulated_in_float32(dtype):
    # In float16 a sum of squares of 300s is inf, in bfloat16 one of 4096 ones is 256.
    grads = {"x": jnp.full(4096, 300.0, dtype)}
    norms = sensing.gradient_norms(grads)
    assert bool(norms.finite)
    assert float(norms.leaf_norms[0]) == pytest.approx(300 * 64, rel=1e-2)


def test_a_gradient_of_complex_numbers_is_measured_whole():
    grads = {"x": jnp.array([3 + 4j, 0j], jnp.complex64)}
    assert float(sensing.gradient_norms(grads).leaf_norms[0]) == pytest.approx(5.0)
    state = sensing.init_sensor(grads, 1.0)
    restored = jnp.zeros((), bool)
    state = sensing.record_step(state, {"x": 1j * grads["x"]}, restored, fraction=1.0)
    signals, _, _ = sensing.measure(
        state, grads, sensing.gradient_norms(grads), fraction=1.0
    )
    # Real and imaginary parts are coordinates: a quarter turn is orthogonal.
    assert float(signals.alignment.value) == pytest.approx(0.0, abs=1e-5)


def test_an_empty_tree_is_measured_as_nothing():
    state = sensing.init_sensor({}, 1.0)
    signals, _, state = sensing.measure(
        state, {}, sensing.gradient_norms({}), value=1.0, fraction=1.0
    )
    sensing.record_step(state, {}, jnp.zeros((), bool), fraction=1.0)
    assert not signals.alignment.arrived and float(signals.grad_norm) == 0.0


def test_steps_whose_squares_overflow_have_no_persistence():
    params = {"w": jnp.zeros(4)}
    state = sensing.init_sensor(params, 1.0)
    for size in (1e20, 1e20, 0.1, 0.1):
        step = {"w": jnp.full(4, size, jnp.float32)}
        state = sensing.record_step(state, step, jnp.zeros((), bool), fraction=1.0)
        signals, _, state = sensing.measure(
            state, params, sensing.gradient_norms(params), fraction=1.0
        )
    carried = signals.step_correlation
    assert np.isfinite(carried.mean) and int(carried.count) == 1  # of the last pair


def test_the_sketch_estimates_alignment_and_travel_of_a_larger_model():
    rng = np.random.default_rng(6)
    params = {"w": jnp.zeros((256, 512))}
    direction = rng.normal(size=(256, 512))
    restored = jnp.zeros((), bool)
    readings = {}
    for fraction in (1.0, 1 / 64):
        state = sensing.init_sensor(params, fraction)
        noise = np.random.default_rng(7)
        for _ in range(3):
            step = {"w": jnp.asarray(-direction + noise.normal(size=(256, 512)))}
            state = sensing.record_step(state, step, restored, fraction=fraction)
            grads = {"w": jnp.asarray(direction + noise.normal(size=(256, 512)))}
            signals, _, state = sensing.measure(
                state, grads, sensing.gradient_norms(grads), fraction=fraction
            )
        readings[fraction] = signals
    assert state.motion.step_sketch["w"].size == params["w"].size / 64
    exact, sketched = readings[1.0], readings[1 / 64]
    assert float(sketched.alignment.value) == pytest.approx(
        float(exact.alignment.value), abs=0.06
    )
    assert float(sketched.dog_step_size) == pytest.approx(
        float(exact.dog_step_size), rel=0.05
    )


def test_the_count_stays_at_its_largest():
    # It wrapped to -2147483648, which a horizon takes for a start.
    state = sensing.init_sensor(PARAMS, 1.0)
    state = state._replace(signal_count=jnp.int32(2**31 - 1))
    norms = sensing.gradient_norms(PARAMS)
    _, _, after = sensing.measure(state, PARAMS, norms, fraction=1.0)
    assert int(after.signal_count) == 2**31 - 1


def test_steps_that_were_not_taken_leave_the_heading_where_it_was():
    tx = ao.adaptive_scheduler(optax.sgd, 0.01, mode="safe", recovery=False)
    params = {"w": jnp.ones(40)}
    state, update = tx.init(params), jax.jit(tx.update)

    def go(state, grad, steps):
        for _ in range(steps):
            fed = {"w": jnp.full(40, grad)}
            state = update(fed, state, params, value=jnp.float32(1.0))[1]
        return state

    state = go(state, 1.0, 30)
    held = go(state, jnp.nan, 50)
    before, after = state.sensor.motion, held.sensor.motion
    for name in ("anchor_sketch", "displacement_sketch"):
        chex.assert_trees_all_equal(getattr(before, name), getattr(after, name))
    chex.assert_trees_all_equal(before.odometer[:2], after.odometer[:2])
    chex.assert_trees_all_equal(state.sensor.cosines[:, :2], held.sensor.cosines[:, :2])
    assert float(go(held, 1.0, 1).sensor.motion.odometer[0]) == 31
