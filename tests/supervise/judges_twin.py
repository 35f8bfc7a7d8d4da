"""The judges once more, slowly: plain Python that reads like their docstrings."""

import math

from tests.helpers import Conditions

FAILED, LATE, DIVERGED = math.log(0.2), math.log(0.5), math.log(0.25)


class Judges:
    def __init__(self, audit=True, strength=6.0):
        self.strength = strength
        self.left = 60 if audit else 0
        self.good, self.noise = math.inf, 0.0
        self.first, self.lowest = None, math.inf
        self.first_norm = None
        self.jitter, self.calm = 0.0, 0
        self.agreed = False
        self.doubts = self.failures = self.strikes = self.restores = 0
        self.steps_back = self.keep_wait = 0
        self.on_trial, self.trial_trusted, self.trial_coordinate = False, 0.0, 0.0
        self.trusted, self.ceiling = 0.0, math.inf
        self.retrying, self.retry_from, self.again_at = 0, 0.0, -math.inf
        self.verdicts = set()
        self.conditions = Conditions()

    def warm_up(self):
        """Share of the rate: over the first 20 steps of an audit it rises."""
        of = 20 if self.failures else 60
        rises = self.left > 0 and self.first is not None
        return min((of + 1 - self.left) / 20, 1.0) if rises else 1.0

    def warming(self):
        return self.left > (0 if self.failures else 40)

    def weigh(self, s, coordinate, nonfinite, held=False):
        auditing, share_taken = self.left > 0, self.warm_up()
        on_the_way, repeat = self.steps_back > 0, self.steps_back == 2
        self.back = self.steps_back == 1
        self.steps_back = max(self.steps_back - 1, 0)
        seen = s.objective.arrived and not repeat
        first_ever = seen and self.first is None
        unknown_before = self.first is None
        if first_ever:
            self.first = s.objective.value
        elif seen and auditing and self.back:
            self.first = max(self.first, s.objective.value)
        if seen:
            self.lowest = min(self.lowest, s.objective.value)
        if self.first_norm is None and s.grad_norm > 0:
            self.first_norm = s.grad_norm
        has_zero = self.lowest > 0  # of its own: the loss has stayed above it
        first = math.nan if self.first is None else self.first

        # Evidence.
        share = abs(first) / 2 if has_zero else 0.0
        above_start = auditing and self.conditions.every(
            "above the start",
            far=s.objective.value > first + max(share, 2 * self.jitter),
            seen=seen,
            judged=has_zero or self.calm >= 3,
        )
        small = self.first_norm is not None and s.grad_norm < 0.1 * self.first_norm
        dead = auditing and self.conditions.every(
            "dead",
            small=small,
            seen=seen,
            gradient=s.has_gradient,
            nothing_gained=s.objective.value > first - self.jitter,
        )
        span = 2 * abs(self.good) if has_zero else first - self.lowest
        known = math.isfinite(self.good)
        known = known and (span > 0 or self.noise > 0)
        above_good = (
            s.objective.arrived
            and known
            and s.objective.value > self.good + span + 6 * self.noise
        )
        fast_error = s.objective.noise * math.sqrt(0.1 / 1.9)
        if self.retrying:  # strictly, by the average as well
            share = 0.06 * span if has_zero else 0.0
            limit = self.good + share + 2 * (self.noise if repeat else fast_error)
            above_good = s.objective.arrived and known and s.objective.value > limit
            above_good = above_good and (repeat or s.objective.fast > limit)
        known = math.isfinite(self.good)
        high = above_start or dead if auditing else above_good
        length = 20 if self.failures else 60
        untouched = auditing and self.left == length and self.strikes == 0
        suspicious = not repeat and (nonfinite and not untouched or high)
        if suspicious:
            self.strikes += 1
        elif s.objective.arrived:
            self.strikes = max(self.strikes - 1, 0)
        out = not repeat and self.strikes >= 3

        # Verdict.
        agrees = s.alignment.slow > 0.02 + s.alignment.slow_sem
        self.agreed = self.agreed or (agrees and s.alignment.count >= 4)
        again = failed = overshot = diverged = late = False
        if auditing and self.failures < 12 and not repeat:
            carries = s.step_correlation.mean > 0.25
            opposed = self.conditions.every(
                "opposed",
                late=s.alignment.count >= 8,
                clear=s.alignment.mean < -0.02 - self.strength / 4 * s.alignment.sem,
                no_fall=s.objective.trend < 0.8,
                no_gain=s.objective.drop < (0.5 if carries else 0.12),
            )
            early = 8 <= s.alignment.count <= 20
            overshot = self.conditions.every(
                "overshot",
                early=early,
                carries=s.step_correlation.mean > 0,
                clear=s.alignment.mean < -0.02 - 2 * s.alignment.sem,
            )
            lost = self.conditions.every(
                "agreement lost",
                early=early,
                agreed=self.agreed,
                clear=s.alignment.mean < -self.strength / 6 * s.alignment.sem,
                carries=carries,
                no_gain=s.objective.drop < 0.5,
            )
            overshot = (overshot or lost) and not opposed
            doubted = self.conditions.every(
                "doubted",
                high=high,
                known=s.alignment.count > 0,
                against=s.alignment.mean < 0,
            )
            again = self.conditions.every(
                "again", doubted=doubted, first=self.doubts == 0, within=not out
            )
            opposed = (opposed or overshot) and not unknown_before
            failed = not again and (out or opposed or doubted)
            if failed and (out or doubted or high or self.strikes or self.doubts):
                self.again_at = -math.inf
            elif failed:
                self.again_at = max(self.again_at, coordinate)
        if not auditing:
            diverged = out
        checking = repeat and self.on_trial
        acquitted = checking and self.conditions.every(
            "acquitted", high=above_good, finite=not nonfinite
        )
        good = not (suspicious or repeat or failed or again or nonfinite)
        if auditing and good and (s.objective.arrived or self.left > 1):
            self.left -= 1
            late = self.left == 0 and self.failures > 0
        kinds = {
            "again": again,
            "failed": failed,
            "failed, dead": failed and dead,
            "failed, overshot": failed and overshot,
            "late": late,
            "diverged": diverged,
            "acquitted": acquitted,
            "convicted": checking and not acquitted,
        }
        self.verdicts |= {kind for kind, so in kinds.items() if so}
        to_start = again or failed
        restore = to_start or diverged
        reached = math.log(share_taken)
        jump = failed * (FAILED + reached) + diverged * DIVERGED + late * LATE
        if (failed or diverged) and nonfinite:
            jump += FAILED if failed else DIVERGED
        if acquitted:
            jump += max(self.trial_coordinate, self.trial_trusted) - coordinate
        healthy = not (suspicious or nonfinite or repeat or restore)
        healthy = healthy and self.strikes == 0
        free = healthy and s.objective.arrived and not (auditing or on_the_way)
        keep = free and self.keep_wait == 0
        if known:
            keep = keep and s.objective.fast <= self.good + 3 * fast_error

        # Retry.
        share = 0.06 * span if has_zero else 0.0
        begins = self.conditions.every(
            "retry",
            free=free,
            known=known,
            let=not held,
            first=not self.retrying,
            level=abs(s.objective.trend) < 2,
            arrived=s.objective.long_trend < 2,
            no_gain=s.objective.drop < 0.5,
            low=s.objective.fast <= self.good + share + 2 * fast_error,
            settled=s.objective.count >= 31,
            wanted=coordinate < self.again_at,
        )
        keep = keep or begins
        fails = self.retrying and diverged
        back = fails and coordinate > self.retry_from
        if back:
            jump = self.retry_from - coordinate
        before = self.retrying
        if seen:
            self.retrying = max(self.retrying - 1, 0)
        if begins:
            self.retry_from = coordinate
            self.retrying = math.ceil((self.again_at - coordinate) / 0.06) + 150
        if checking or s.objective.drop >= 0.5:
            self.retrying = 0
        climb, gap = 0.0, self.again_at - coordinate
        if self.retrying and free and not held:
            climb = min(max(gap, 0.0), 0.06)
            if gap <= 0.06:
                self.again_at = -math.inf
        over = before and not self.retrying
        if over and not acquitted or checking and not acquitted:
            self.again_at = -math.inf
        retried = {
            "begins": begins,
            "fails": fails,
            "acquitted": before and acquitted,
            "succeeds": over and s.objective.drop >= 0.5,
            "is over": over and not checking,
        }
        self.verdicts |= {f"retry {kind}" for kind, so in retried.items() if so}

        # What is remembered.
        self.keep_wait = 19 if keep else max(self.keep_wait - 1, 0)
        if seen and (
            keep or unknown_before or (not known and healthy and not auditing)
        ):
            self.good = s.objective.fast
            if known or unknown_before:
                self.noise = s.objective.noise
        if self.on_trial:
            self.good = math.inf
        if seen and auditing and not suspicious and not restore:
            self.jitter = max(self.jitter, abs(s.objective.change))
            self.calm += s.objective.change != 0
        if again or failed:
            self.left = 20 if failed or self.failures else 60
        self.doubts = 0 if failed else self.doubts + again
        self.failures += failed
        self.on_trial = diverged
        if diverged:
            self.trial_trusted, self.trial_coordinate = self.trusted, coordinate
            self.ceiling = self.ceiling if back else coordinate - 0.7
        if restore:
            self.restores += 1
            self.agreed = False
            self.steps_back = 2
            self.strikes = 0
        if (restore and not back) or late:
            self.trusted = min(self.trusted, coordinate + jump)
        if acquitted:
            self.trusted, self.ceiling = self.trial_trusted, math.inf
        return restore, repeat, keep, healthy, to_start, jump, climb
