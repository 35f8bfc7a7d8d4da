"""The rules that a law has a say in once more, slowly, as in `twins`."""

import itertools
import math

from tests.helpers import Conditions

DEFAULT_LAW = Conditions()
"""What has decided in `alignment`, `settle` and `search`, in this process."""


def may_vote(s):
    return DEFAULT_LAW.every(
        "vote",
        arrived=s.alignment.arrived,
        known=s.alignment.count > 3,
        warm=not s.standing.warming,
        resting=not s.standing.restored,
    )


def alignment(steps, rate=0.02, up_evidence=3.0, down_evidence=1.0):
    every = DEFAULT_LAW.every
    for s in steps:
        if not may_vote(s):
            yield 0.0
            continue
        carries = s.step_correlation.mean > 0
        z_up = (s.alignment.slow - 0.02) / s.alignment.slow_sem
        z_down = -s.alignment.mean / s.alignment.sem
        z_ahead = s.heading.slow / s.heading.slow_sem
        up = down = 0.0
        if every("up", clear=z_up > up_evidence, still=s.alignment.mean > 0.02):
            up = rate * min(z_up / 2, 1)
        opposed = every("opposed", slow=s.alignment.slow <= 0, carries=carries)
        if every("ahead", clear=z_ahead > up_evidence, sound=not opposed):
            up = max(up, rate / 2 * min(z_ahead / 2, 1))
        if every(
            "down",
            clear=z_down > down_evidence,
            rising=s.objective.trend < -1,
            carries=carries,
        ):
            down = rate * min(z_down / 2, 1)
        yield up - down


def momentum(steps, agreement=0.4, opposed=8):
    run = 0
    for s in steps:
        delta = 0.0
        if may_vote(s):
            run = run + 1 if s.alignment.value < 0 else 0
            if s.objective.success <= 0.5:
                pass
            elif run >= opposed and s.step_correlation.mean > 0.95:
                run, delta = 0, -min(math.log(2), max(s.standing.log_scale, 0.0))
            elif s.alignment.mean > max(agreement, 2 * s.alignment.sem):
                delta = 0.02
        yield delta


def kick(steps, patience=50):
    wait = 0
    for s in steps:
        if not s.objective.arrived or s.standing.restored:
            yield 0.0
            continue
        loss = s.objective
        level = abs(loss.trend) <= 1 and loss.long_trend < 2 and loss.success < 0.2
        still = max(abs(loss.slow - loss.fast), loss.noise) <= 1e-4 * abs(loss.fast)
        wait += (
            (level or still)
            and s.heading.slow >= -s.heading.slow_sem
            and s.objective.count > 8
            and not s.standing.warming
        )
        if wait >= patience:
            wait, patience = 0, 2 * patience
            yield 200.0
        else:
            yield -200.0 if s.standing.log_scale > 0 else 0.0


def settle(steps, power=1.5, trust=6.0):
    for s in steps:
        beyond = DEFAULT_LAW.every(
            "beyond",
            now=s.alignment.slow < -trust * s.alignment.slow_sem,
            way=s.heading.slow < -trust * s.heading.slow_sem,
        )
        level = not DEFAULT_LAW.every(
            "falls",
            long=s.objective.long_trend >= 2,
            doubtful=not beyond,
        )
        lowers = DEFAULT_LAW.every(
            "settle",
            votes=may_vote(s),
            judged=s.objective.arrived,
            old=s.objective.count >= 31,
            level=level,
            apart=s.alignment.slow < s.alignment.slow_sem,
            drawn_back=s.heading.slow < -s.heading.slow_sem,
        )
        yield -power / (s.count + 20) if lowers else 0.0


def search(
    steps, then=alignment, evidence=6.0, rate=0.06, early_rate=0.18, momentum=0.9
):
    every = DEFAULT_LAW.every
    steps, same = itertools.tee(steps)
    nudges = then(same)
    searching, quiet, lagged, proven = True, 0, 0.0, 0.0
    lag = 5 + min(1 / (1 - momentum), 20)
    for s in steps:
        nudge, own, judged = next(nudges), s.standing, s.objective
        m = own.log_scale
        quiet = 0 if own.warming else quiet + 1
        early = own.warming or every("early", new=quiet < 20, sound=own.failures == 0)
        agree = not every(
            "no agreement",
            slow=s.alignment.slow - 0.02 <= evidence * s.alignment.slow_sem,
            heading=s.heading.slow <= evidence * s.heading.slow_sem,
        )
        recedes = s.alignment.mean < s.alignment.slow - 2 * s.alignment.sem
        unmoved = every(
            "unmoved",
            arrived=judged.arrived,
            told=2 * judged.noise < abs(judged.fast),
            still=abs(judged.drop) < 0.1,
        )
        at_once = every(
            "at once", unmoved=unmoved, agree=agree, known=s.alignment.count > 8
        )
        waiting = every("wait", search=searching, early=early, patient=not at_once)
        improves = every("improves", arrived=judged.arrived, falls=judged.trend > 1)
        if improves or own.restored:
            proven = m
        ready = every(
            "ready",
            search=searching,
            on=not waiting,
            arrived=s.alignment.arrived,
            known=s.alignment.count > 5,
        )
        delta = 0.0
        if not searching:
            delta = nudge
        elif every(
            "stop", ready=ready, warm=not own.warming, over=s.alignment.mean < 0
        ):
            back = max(min(lagged, m), m - lag * max(rate, early_rate))
            landing, trusted = back, own.trusted_log_scale
            if every("still", told=judged.arrived, still=abs(judged.drop) < 0.1):
                landing = trusted
            elif every("lower", sound=own.failures == 0, trusted=trusted <= back):
                landing = trusted if trusted >= back - 0.7 else back - 0.7
            delta, searching = landing - m, False
        elif every("climb", ready=ready, agree=agree, steady=not recedes):
            delta = early_rate if unmoved else rate
        if m >= proven + 0.7:
            delta = min(delta, 0.0)
        if waiting or own.restored:
            delta = 0.0
        lagged = m if own.restored else lagged + (m + delta - lagged) / lag
        yield delta


def prior(steps, strength):
    if math.isinf(strength):
        yield from (0.0 for _ in steps)
        return

    def nudge(steps):
        steps, same = itertools.tee(steps)
        both = zip(
            alignment(steps, up_evidence=strength / 2),
            settle(same, trust=strength),
            strict=True,
        )
        yield from map(sum, both)

    yield from search(steps, nudge, evidence=strength)
