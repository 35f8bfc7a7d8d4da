"""Rules once more, slowly: Python loops in float64 that read like the equations.

A twin is a generator: it takes the records of a stream and yields one delta a step. It
asks for a record when the last one is answered, so a stream may depend on the answers.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Twin = Callable[[Iterable[Any]], Iterator[float]]


def sign(x: float) -> int:
    return (x > 0) - (x < 0)


def trend(steps, up=1.02, down=1 / 1.02, deadzone=1.0):
    for s in steps:
        if s.loss.arrived and not s.standing.restored and s.loss.trend > deadzone:
            yield math.log(up)
        elif s.loss.arrived and not s.standing.restored and s.loss.trend < -deadzone:
            yield math.log(down)
        else:
            yield 0.0


def reward(steps, up=1.02, down=1 / 1.02, deadzone=1.0):
    for s in steps:
        if s.reward.arrived and not s.standing.restored and s.reward.trend > deadzone:
            yield math.log(up)
        elif (
            s.reward.arrived and not s.standing.restored and s.reward.trend < -deadzone
        ):
            yield math.log(down)
        else:
            yield 0.0


def variance(steps, strength=1.0, deadzone=2.0):
    divisor = 1.0
    for s in steps:
        before = divisor
        if s.loss.arrived and not s.standing.restored:
            divisor = 1 + strength * max(s.loss.variance_ratio - deadzone, 0)
        yield math.log(before / divisor)


def grad_norm(steps, threshold=3.0, strength=1.0, up=1.1):
    divisor = 1.0
    for s in steps:
        before = divisor
        if s.has_gradient and not s.standing.restored:
            spike = 1 + strength * max(s.grad_norm_z - threshold, 0)
            divisor = max(spike, before / up, 1.0)
        yield math.log(before / divisor)


def cyclical(steps, amplitude=0.7, period=2000, shape="triangular"):
    position = 0.0
    for s in steps:
        t = (s.count % period) / period
        if shape == "sine":
            wave = math.sin(2 * math.pi * t)
        elif t < 1 / 4:
            wave = 4 * t
        elif t < 3 / 4:
            wave = 2 - 4 * t
        else:
            wave = 4 * t - 4
        yield amplitude * wave - position
        position = amplitude * wave


def plateau(
    steps, factor=0.5, patience=200, cooldown=200, rtol=0.1, atol=0.0, deadzone=2.0
):
    best, wait, rest = math.inf, 0, 0
    for s in steps:
        delta = 0.0
        if s.standing.restored:
            best, wait, rest = math.inf, 0, 0
        elif s.loss.arrived and rest > 0:
            best, wait, rest = s.loss.fast, 0, rest - 1
        elif s.loss.arrived and s.loss.fast < best - rtol * s.loss.noise - atol:
            best, wait = s.loss.fast, 0
        elif s.loss.arrived:
            if s.loss.trend <= deadzone:
                wait += 1
            if wait >= patience:
                delta = math.log(factor)
                best, wait, rest = s.loss.fast, 0, cooldown
        yield delta


def success(steps, up=1.02, down=0.8, low=0.2, deadzone=1.0, rising=3.0, calm=2.0):
    for s in steps:
        if not s.loss.arrived or s.standing.restored:
            yield 0.0
        elif s.loss.variance_ratio > calm or s.loss.trend < -rising:
            yield math.log(down)
        elif s.loss.success < low and abs(s.loss.trend) <= deadzone:
            yield math.log(up)
        else:
            yield 0.0


def literal(
    steps,
    control="learning_rate",
    up=1.02,
    down=0.8,
    damping=1.0,
    step=0.001,
    low=0.2,
    calm=2.0,
):
    for s in steps:
        v = s.loss.variance_ratio
        improved = sign(-s.loss.change) * s.loss.arrived
        improved += sign(s.reward.change) * s.reward.arrived
        if s.standing.restored or (control == "sigma" and not s.loss.arrived):
            yield 0.0
        elif control == "sigma":
            f = down if v > calm else up if s.loss.success < low else 1.0
            yield math.log(f)
        elif control == "momentum":
            yield step * sign(improved) / (1 + damping * v)
        else:
            f = up if improved > 0 else down if improved < 0 else 1.0
            yield math.log(f) / (1 + damping * v)


def blend(
    steps,
    twins: list[Twin],
    base: list[float],
    credit=0.0,
    credit_decay=0.99,
    trace_decay=0.9,
    floor=0.05,
    weights_seen: list | None = None,
):
    steps = list(steps)
    n = len(twins)
    answers = zip(*[list(twin(steps)) for twin in twins], strict=True)
    weights, earned, trace, usual = list(base), [0.0] * n, [0.0] * n, 0.0
    beta, rho = credit_decay, trace_decay
    for s, deltas in zip(steps, answers, strict=True):
        learns = credit > 0 and s.loss.arrived
        if learns and not s.standing.restored:
            surprise = math.tanh(s.loss.trend - usual)
            stability = 1 / (1 + max(s.loss.variance_ratio - 1, 0))
            for i in range(n):
                earned[i] = beta * earned[i] + (1 - beta) * trace[i] * surprise
            raised = [
                b * math.exp(credit * stability * c)
                for b, c in zip(base, earned, strict=True)
            ]
            weights = [
                (1 - floor) * r / sum(raised) + floor * b
                for b, r in zip(base, raised, strict=True)
            ]
            usual = rho * usual + (1 - rho) * s.loss.trend
        if learns:
            boldest = max(map(abs, deltas))
            votes = [d / boldest if boldest > 0 else 0.0 for d in deltas]
            move = sum(w * u for w, u in zip(weights, votes, strict=True))
            trace = [
                rho * e + (1 - rho) * u * move
                for e, u in zip(trace, votes, strict=True)
            ]
        answer = sum(w * d for w, d in zip(weights, deltas, strict=True))
        if credit > 0 and s.standing.restored:
            weights, earned, trace, usual = list(base), [0.0] * n, [0.0] * n, 0.0
        if weights_seen is not None:
            weights_seen.append(list(weights))
        yield answer
