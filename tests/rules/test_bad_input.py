"""What a rule is given by mistake is quoted."""

import pytest

from adaptive_optax import rules

BAD = [
    (rules.trend, {"up": 0.9}, ValueError, r"`up` must lie in \[1, inf\), got 0.9"),
    (rules.trend, {"up": float("nan")}, ValueError, "`up` must be finite, got nan"),
    (rules.trend, {"up": "fast"}, TypeError, "`up` must be a number, got 'fast'"),
    (rules.trend, {"down": 0.0}, ValueError, r"`down` must lie in \(0, 1\], got 0.0"),
    (rules.trend, {"down": 1.1}, ValueError, "`down` must lie in .* got 1.1"),
    (rules.trend, {"deadzone": -1}, ValueError, "`deadzone` must lie in .* got -1"),
    (rules.reward, {"up": 0.5}, ValueError, "`up` must lie in .* got 0.5"),
    (rules.reward, {"down": -0.5}, ValueError, "`down` must lie in .* got -0.5"),
    (rules.reward, {"deadzone": -2}, ValueError, "`deadzone` must lie in .* got -2"),
    (rules.variance, {"strength": -1}, ValueError, "`strength` must lie in .* -1"),
    (rules.variance, {"deadzone": -1}, ValueError, "`deadzone` must lie in .* -1"),
    (rules.grad_norm, {"threshold": float("inf")}, ValueError, "finite, got inf"),
    (rules.grad_norm, {"threshold": None}, TypeError, "a number, got None"),
    (rules.grad_norm, {"strength": -0.1}, ValueError, "`strength` must .* got -0.1"),
    (rules.grad_norm, {"up": 1.0}, ValueError, r"`up` must lie in \(1, .* got 1.0"),
    (rules.cyclical, {"amplitude": -1}, ValueError, "`amplitude` must .* got -1"),
    (rules.cyclical, {"period": 1}, ValueError, "`period` must be at least 2, got 1"),
    (rules.cyclical, {"period": 9.5}, TypeError, "`period` must be an integer, .* 9.5"),
    (rules.cyclical, {"shape": "saw"}, ValueError, "'triangular', 'sine', got 'saw'"),
    (rules.plateau, {"factor": 1.0}, ValueError, r"`factor` .* \(0, 1\), got 1.0"),
    (rules.plateau, {"factor": 0}, ValueError, r"`factor` .* \(0, 1\), got 0"),
    (rules.plateau, {"patience": 0}, ValueError, "`patience` .* at least 1, got 0"),
    (rules.plateau, {"patience": 2.0}, TypeError, "`patience` .* integer, got 2.0"),
    (rules.plateau, {"cooldown": -1}, ValueError, "`cooldown` .* at least 0, got -1"),
    (rules.plateau, {"rtol": -0.1}, ValueError, "`rtol` must lie in .* got -0.1"),
    (rules.plateau, {"atol": -0.1}, ValueError, "`atol` must lie in .* got -0.1"),
    (rules.plateau, {"deadzone": -3}, ValueError, "`deadzone` must lie in .* got -3"),
    (rules.success, {"up": 0.2}, ValueError, "`up` must lie in .* got 0.2"),
    (rules.success, {"down": 2}, ValueError, "`down` must lie in .* got 2"),
    (rules.success, {"low": 1.5}, ValueError, "`low` must lie in .* got 1.5"),
    (rules.success, {"deadzone": -1}, ValueError, "`deadzone` must lie in .* got -1"),
    (rules.success, {"rising": -1}, ValueError, "`rising` must lie in .* got -1"),
    (rules.success, {"calm": -1}, ValueError, "`calm` must lie in .* got -1"),
    (rules.literal, {"control": "lr"}, ValueError, "'learning_rate', .* got 'lr'"),
    (rules.literal, {"up": 0.2}, ValueError, "`up` must lie in .* got 0.2"),
    (rules.literal, {"down": 0}, ValueError, "`down` must lie in .* got 0"),
    (rules.literal, {"damping": -1}, ValueError, "`damping` must lie in .* got -1"),
    (rules.literal, {"step": 0.0}, ValueError, "`step` must lie in .* got 0.0"),
    (rules.literal, {"low": -1}, ValueError, "`low` must lie in .* got -1"),
    (rules.literal, {"calm": -1}, ValueError, "`calm` must lie in .* got -1"),
]


@pytest.mark.parametrize("make, options, error, message", BAD)
def test_bad_input_is_quoted(make, options, error, message):
    with pytest.raises(error, match=message):
        make(**options)
