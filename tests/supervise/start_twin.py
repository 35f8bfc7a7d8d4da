"""The audit of the start once more, slowly, as `start_audit` describes it."""

import math

from tests.helpers import Conditions

FIFTH, HALF = math.log(0.2), math.log(0.5)


class Start:
    """The memory of the audit; `judges_twin.Judges` has the rest."""

    def __init__(self, audit=True, trust=6.0):
        self.trust, self.audited = trust, audit
        self.left, self.agreed, self.failures = 60 if audit else 0, False, 0
        self.length = self.left
        self.first = None  # the first loss
        self.kinds = set()
        self.conditions = Conditions()

    def warm_up(self):
        """Share of the rate: over the first 20 steps of an audit it rises."""
        rises = self.left > 0 and self.first is not None
        return min((self.length + 1 - self.left) / 20, 1.0) if rises else 1.0

    def opposes(self, e):
        """Gradients oppose this start."""
        s = e.s
        agrees = s.alignment.slow > 0.02 + s.alignment.slow_sem
        self.agreed = self.agreed or (agrees and s.alignment.count >= 8)
        if not e.auditing or self.failures >= 12 or not e.seen or e.skipped:
            return False
        carries = s.step_correlation.mean > 0
        mean, sem = s.alignment.mean, s.alignment.sem
        opposed = self.conditions.every(
            "opposed",
            late=s.alignment.count >= 8,
            clear=mean < -0.02 - self.trust / 4 * sem,
            no_fall=s.objective.trend < 1,
            no_gain=s.objective.drop < (0.5 if carries else 0.1),
            started=e.started,
        )
        lost = self.conditions.every(
            "agreement lost",
            early=8 <= s.alignment.count <= 20,
            agreed=self.agreed,
            clear=mean < -sem,
            carries=carries,
            no_gain=s.objective.drop < 0.5,
            started=e.started,
        )
        kinds = {"opposed": opposed, "agreement lost": lost}
        self.kinds |= {kind for kind, so in kinds.items() if so}
        return opposed or lost

    def pass_the_start(self, e):
        """Count a good step of the audit; the correction of a start that passes."""
        counts = e.auditing and not (e.skipped or e.repeat or e.restore)
        counts = counts and (e.arrived or self.left > 1)
        self.failures += e.auditing and e.convicted
        anew = e.auditing and (e.restore or e.convicted)
        begins = e.accepted and not e.auditing and self.audited
        if self.failures or begins:
            self.length = 20
        self.left = self.length if anew or begins else self.left - counts
        self.agreed = self.agreed and not anew and e.auditing
        late = counts and self.left == 0 and self.failures > 0
        if begins:
            self.failures = 0
            self.kinds.add("begun again")
        return HALF if late else 0.0
