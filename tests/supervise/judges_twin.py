"""The judges once more, slowly: plain Python that reads like their docstrings."""

import math
from types import SimpleNamespace

from tests.supervise.start_twin import FIFTH, HALF, Start


class Judges(Start):
    """The supervisor's memory; `weigh` judges one step and says the verdict."""

    def __init__(self, audit=True, trust=6.0, share=0.05):
        super().__init__(audit, trust)
        self.share = share  # of the run that may be skipped
        self.lowest, self.first_norm = math.inf, 0.0
        self.norms, self.log_norm, self.spread = 0, 0.0, 0.0
        self.jitter, self.calm = 0.0, 0
        self.good, self.noise = math.inf, 0.0
        self.strikes = self.back = self.restores = self.offences = 0
        self.moved = False
        self.sentence = self.watched = self.owed = self.before = 0.0
        self.bucket, self.skipped, self.unsettled = 0.0, 0, 0.0
        self.keep_wait, self.trusted = 0, 0.0

    def far_outside(self, loss, norm):
        """The loss is far above its level, or units have died."""
        signed = self.lowest <= 0  # 0 is not the loss's lower bound
        if self.left > 0:
            if self.first is None:
                return False
            half = math.inf if signed else abs(self.first) / 2
            share = 0.0 if signed else half
            high = self.conditions.every(
                "above the start",
                far=loss > self.first + max(share, 2 * self.jitter),
                told=not signed or self.calm >= 8,
            )
            dead = self.conditions.every(
                "dead",
                small=norm < 0.1 * self.first_norm,
                nothing_gained=loss > self.first - min(self.jitter, half),
            )
            return high or dead
        limit = self.log_norm + 6 * math.sqrt(math.pi / 2) * self.spread + math.log(10)
        if self.norms > 8 and norm > math.exp(limit):
            return True
        if math.isinf(self.good):
            return False
        span = self.first - self.lowest
        scale = span / 2 if signed else max(abs(self.good), span / 20)
        allowed = 2 * scale + 6 * self.noise
        return self.conditions.every(
            "above the good loss",
            far=loss > self.good + allowed,
            told=allowed > 0,
        )

    def usual(self, norm):
        """One more gradient that is learnt from."""
        self.norms += 1
        share, later = (
            0.02 / (1 - 0.98**n) if n else 0.0 for n in (self.norms, self.norms - 1)
        )
        change = math.log(norm) - self.log_norm
        self.spread += later * (abs(change) - self.spread)
        self.log_norm += share * change

    def most(self):
        """As high as one batch may raise the first loss: ten margins."""
        signed = self.lowest <= 0
        if signed and self.calm < 8:
            return math.inf
        share = 0.0 if signed else abs(self.first) / 2
        return self.first + 10 * max(share, 2 * self.jitter)

    def look(self, s, nonfinite):
        """What this step is: what came, and whether it is learnt from."""
        e = SimpleNamespace(s=s, nonfinite=nonfinite, age=s.count)
        e.auditing, e.share = self.left > 0, self.warm_up()
        e.repeat, e.resting = self.back == 2, self.back == 0
        e.started, e.known = self.first is not None, math.isfinite(self.good)
        came, value = s.objective.arrived, s.objective.value
        # Without a finite gradient the batch says nothing of the level.
        exceeded = came and not nonfinite and self.far_outside(value, s.grad_norm)
        room = self.bucket + 1 <= min(10 + self.share * e.age, 100)
        e.far = self.conditions.every(
            "far", exceeded=exceeded, room=room, audited=not e.auditing
        )
        e.came = came
        e.arrived = came and not e.far
        e.seen = e.arrived and not e.repeat
        e.skipped = nonfinite or e.far
        e.bad = nonfinite or exceeded
        e.accepted = self.conditions.every(
            "accepted", exceeded=exceeded, seen=e.seen, stood=not self.moved
        )
        replayed = e.auditing and not e.resting
        if e.seen and not e.started:
            self.first = value
        if e.accepted and not e.auditing:
            self.first = value
        elif came and not nonfinite and e.started:
            if replayed or e.accepted:
                self.first = max(self.first, min(value, self.most()))
        if e.seen:
            self.lowest = min(self.lowest, value)
        if self.first_norm == 0 or e.accepted:
            self.first_norm = 0.0 if e.skipped else s.grad_norm
        return e

    def try_it(self, e, opposed):
        """Go back, and look again: the restore, the conviction, the correction."""
        if e.repeat or not self.moved:
            self.strikes = 0  # of the good parameters nothing is to be proven
        elif e.bad:
            self.strikes += 1
        elif e.seen:
            self.strikes = max(self.strikes - 1, 0) if e.auditing else 0
        out = self.strikes >= (2 if e.auditing else 5)
        out = out and not (e.auditing and self.failures >= 12)
        e.restore = out or opposed
        if self.watched == 0:
            self.offences = 0

        # The check of the last restore.
        offended = e.repeat and not e.bad and e.came
        correction = self.sentence if offended else 0.0
        e.convicted = correction < 0
        # The sentence of this one.
        if e.restore:
            again = self.unsettled > 0
            excused = self.conditions.every(
                "excused",
                first=self.offences == 0,
                no_opposition=not opposed,
                of_the_data=not e.auditing or e.nonfinite or again,
            )
            cuts = {0: 0.0, 1: FIFTH, 2: 2 * FIFTH, 3: 4 * FIFTH, 4: self.owed}
            self.sentence = cuts.get(self.offences, 0.0)
            if e.auditing:
                self.sentence = FIFTH + math.log(e.share)
            if excused:
                self.sentence = 0.0
            elif not e.auditing:
                self.kinds.add(f"sentenced, {self.offences} before")

        if self.back == 1 and self.sentence and not e.auditing:
            # As far as the bounds let the rate fall.
            self.owed = max(self.owed + self.before - e.log_scale, 0.0)
        if e.repeat:
            self.before = e.log_scale
        repays = self.conditions.every(
            "repays",
            seen=e.seen,
            sound=not e.bad,
            resting=e.resting,
            passed=not e.auditing,
        )
        repaid = min(self.owed, 4 / (e.age + 20)) if repays else 0.0
        self.owed = max(self.owed - repaid, 0.0)
        if offended:
            self.watched, self.offences = max(31, e.age / 5), self.offences + 1
        elif e.seen and not e.bad:
            self.watched = max(self.watched - 1, 0)
        taken = not (e.skipped or e.repeat or e.restore)
        self.moved = (self.moved or taken) and not e.restore
        self.strikes = 0 if e.restore else self.strikes
        self.back = 2 if e.restore else max(self.back - 1, 0)
        self.restores += e.restore
        kinds = {"convicted": e.convicted, "acquitted": e.repeat and e.bad}
        kinds |= {"taken back": offended and correction > 0, "restored": e.restore}
        self.kinds |= {kind for kind, so in kinds.items() if so}
        return correction + repaid

    def fill_the_bucket(self, e):
        """Each batch far outside fills it, each other loss drains it."""
        if e.far and not e.repeat:
            self.bucket, self.skipped = self.bucket + 1, self.skipped + 1
        elif e.seen:
            self.bucket = max(self.bucket - self.share, 0.0)
        if e.accepted:
            self.unsettled = max(31, e.age / 5)
        elif e.seen:
            self.unsettled = max(self.unsettled - 1, 0)

    def learn(self, e, healthy):
        """Whether these parameters are the new good ones; the levels."""
        loss = e.s.objective
        error = loss.noise * math.sqrt(0.1 / 1.9)
        free = self.conditions.every(
            "kept",
            healthy=healthy,
            arrived=e.arrived,
            passed=not e.auditing,
            resting=e.resting,
            due=self.keep_wait <= 0,
            settled=self.unsettled == 0,
        )
        keep = free and (not e.known or loss.fast <= self.good + 2 * error)
        copied = keep or (free and self.keep_wait <= -10)
        self.keep_wait = 19 if copied else max(self.keep_wait - 1, -20)
        next_good = not e.known and healthy and not e.auditing
        if e.seen and (keep or not e.started or next_good):
            self.good = loss.fast
            if e.known or not e.started:
                self.noise = loss.noise
        if e.accepted and not e.auditing:
            self.good = math.inf
        if e.seen and e.auditing and not e.restore and not e.bad:
            self.jitter = max(self.jitter, abs(loss.change))
            self.calm += loss.change != 0
        return copied

    def weigh(self, s, log_scale, nonfinite):
        """Judge one step; the entries of a `Verdict`."""
        e = self.look(s, nonfinite)
        e.log_scale = log_scale
        correction = self.try_it(e, self.opposes(e))
        late = self.pass_the_start(e)
        self.fill_the_bucket(e)
        correction += late
        if e.accepted and not e.auditing:
            half = HALF if math.isfinite(self.trust) else 0.0
            correction += min(self.trusted + half - log_scale, 0.0)
        healthy = not (e.bad or e.repeat or e.restore)
        keep = self.learn(e, healthy)
        if (e.convicted and e.auditing) or late < 0:
            self.trusted = min(self.trusted, log_scale + correction)
        return (
            e.restore,
            e.repeat,
            keep,
            healthy,
            e.restore and e.auditing,
            e.accepted,
            self.unsettled > 0,
            self.watched > 0 or self.owed > 0,
            correction,
        )
