"""The sensor once more, slowly: float64, whole histories, weights written out."""

import math

import ml_dtypes
import numpy as np


def weights(decay, n):
    w = decay ** np.arange(n - 1, -1, -1.0)
    return w / w.sum()


def mean(decay, xs):
    return float(weights(decay, len(xs)) @ np.asarray(xs)) if len(xs) else 0.0


def polynomial_mean(power, xs):
    """The mean in which the i-th value counts as i (i + 1) ... (i + power - 1)."""
    w = [math.comb(i + power - 1, power) for i in range(1, len(xs) + 1)]
    return np.asarray(w, np.float64) @ np.asarray(xs) / sum(w) if w else 0.0


class Series:
    """A loss, or a reward turned upside down: smaller is better."""

    def __init__(self, decay):
        self.fast, self.slow = decay, 1 - (1 - decay) / 5
        self.level, self.innovations, self.better = [], [], []
        self.first = None
        self.last = self.change = 0.0

    def noise(self):
        # E|x| of a Gaussian is sqrt(2/pi) sigma; an innovation also has the variance of
        # the average it is taken from, (1 - d) / (1 + d) of one value's.
        of_innovations = math.sqrt(math.pi / 2) * mean(0.95, self.innovations)
        return of_innovations / math.sqrt(1 + (1 - self.fast) / (1 + self.fast))

    def take(self, x):
        self.change = x - self.last if self.level else 0.0
        if self.level:
            self.better.append(mean(self.slow, self.level) - x > self.noise())
            self.innovations.append(abs(x - mean(self.fast, self.level)))
        self.level.append(x)
        self.first = x if self.first is None else self.first
        self.last = x

    def forget_level(self):
        self.level, self.innovations, self.better = [], [], []

    def trend(self):
        n = len(self.level)
        if n < 2:
            return 0.0
        contrast = weights(self.slow, n) - weights(self.fast, n)
        error = self.noise() * math.sqrt((contrast**2).sum())
        return float(contrast @ np.asarray(self.level)) / error if error > 0 else 0.0

    def long_trend(self):
        n = len(self.level)
        # n times the variance of the difference, for white noise and n -> infinity.
        spread = 3 * 3 / 5 + 9 * 9 / 17 - 2 * 3 * 9 / 11
        error = self.noise() * math.sqrt(spread / max(n, 1))
        gap = polynomial_mean(2, self.level) - polynomial_mean(8, self.level)
        return gap / error if n >= 2 and error > 0 else 0.0

    def drop(self):
        if not self.level:
            return 0.0
        size = abs(self.first) + 3 * self.noise()
        return (self.first - mean(self.fast, self.level)) / size if size > 0 else 0.0

    def variance_ratio(self):
        usual = mean(0.995, self.innovations)
        return (mean(0.95, self.innovations) / usual) ** 2 if usual > 0 else 1.0

    def success(self):
        return mean(0.95, self.better) if self.better else 0.5

    def readings(self, name, arrived, sign=1.0):
        """What is read of it; the levels times ``sign``."""
        return {
            f"{name}.arrived": arrived,
            f"{name}.value": sign * self.last,
            f"{name}.change": sign * self.change if arrived else 0.0,
            f"{name}.fast": sign * mean(self.fast, self.level),
            f"{name}.slow": sign * mean(self.slow, self.level),
            f"{name}.noise": self.noise(),
            f"{name}.trend": self.trend(),
            f"{name}.long_trend": self.long_trend(),
            f"{name}.drop": self.drop(),
            f"{name}.variance_ratio": self.variance_ratio(),
            f"{name}.success": self.success(),
            f"{name}.count": len(self.level),
        }


class Cosine:
    """Of the downhill direction with the last step, or with the way of many."""

    def __init__(self):
        self.seen, self.spreads = [], []

    def take(self, gradient, way):
        lengths = np.linalg.norm(gradient) * np.linalg.norm(way)
        cosine = float(-gradient @ way) / lengths
        self.spreads.append((cosine - mean(0.9, self.seen)) ** 2)
        self.seen.append(cosine)
        return cosine

    def mean(self, decay):
        return mean(decay, self.seen)

    def sem(self, decay):
        share = max((1 - decay) / (1 + decay), 1 / max(len(self.seen), 1))
        return math.sqrt(mean(0.97, self.spreads) * share) + 1e-6


def read(fed, taken, decay=0.9):
    """One dict of readings a step.

    Args:
      fed: (loss, reward, gradient) of each step; the last a vector.
      taken: (step, whether the statistics restart) of each step; it is asked for after
        the readings, so it may depend on them.
      decay: Of the fast means; the slow ones' horizon is five times as long.
    """
    loss, gain = Series(decay), Series(decay)
    of_norms = 1 - (1 - decay) / 5
    log_norms, deviations, squared_norms = [], [], 0.0
    alignment, heading, carries = Cosine(), Cosine(), []
    last_step, place, travel = None, 0.0, 0.0
    places = []  # since the start or a restore
    taken = iter(taken)
    for count, (x, r, g) in enumerate(fed):
        has_value, has_reward = bool(np.isfinite(x)), bool(np.isfinite(r))
        if has_value:
            loss.take(x)
        if has_reward:
            gain.take(-r)

        norm = np.linalg.norm(g)
        has_gradient = bool(np.isfinite(norm))
        z = 0.0
        if has_gradient and norm > 0:
            if deviations:
                usual = math.sqrt(math.pi / 2) * mean(of_norms, deviations)
                z = (math.log(norm) - mean(of_norms, log_norms)) / usual
            if log_norms:
                deviations.append(abs(math.log(norm) - mean(of_norms, log_norms)))
            log_norms.append(math.log(norm))
            squared_norms += norm**2

        cosine = 0.0
        has_alignment = bool(
            has_gradient and norm > 0 and last_step is not None and np.any(last_step)
        )
        if has_alignment:
            cosine = alignment.take(g, last_step)
        places = places or [np.zeros_like(g)]
        way = places[-1] - polynomial_mean(2, places)
        if has_gradient and norm > 0 and np.any(way):
            heading.take(g, way)
        yield {
            **loss.readings("loss", has_value),
            **gain.readings("reward", has_reward, sign=-1.0),
            **(
                loss.readings("objective", has_value)
                if gain.first is None
                else gain.readings("objective", has_reward)
            ),
            "count": count,
            "has_gradient": has_gradient,
            "alignment.arrived": has_alignment,
            "grad_norm": norm if has_gradient else 0.0,
            "grad_norm_z": z,
            "alignment.value": cosine,
            "alignment.mean": alignment.mean(0.9),
            "alignment.sem": alignment.sem(0.9),
            "alignment.slow": alignment.mean(0.98),
            "alignment.slow_sem": alignment.sem(0.98),
            "alignment.count": len(alignment.seen),
            "step_correlation.mean": mean(0.9, carries),
            "heading.slow": heading.mean(0.98),
            "heading.slow_sem": heading.sem(0.98),
            "dog_step_size": travel / math.sqrt(squared_norms)
            if squared_norms
            else 0.0,
        }

        u, again = next(taken)
        place = place + u
        if again:
            places = [place]
        elif np.any(u):  # one that was not taken is no place on the way
            places = [*places, place]
        if last_step is not None and np.any(last_step) and np.any(u):
            lengths = np.linalg.norm(u) * np.linalg.norm(last_step)
            carries.append(float(u @ last_step) / lengths)
        travel = max(travel, float(np.linalg.norm(place)))
        last_step = None if again else u.astype(ml_dtypes.bfloat16).astype(np.float64)
        if again:
            loss.forget_level()
            gain.forget_level()
            alignment, heading, carries = Cosine(), Cosine(), []
