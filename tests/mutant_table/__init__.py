"""Single faults of the package, and the tests that ought to see them.

Each is a real change of behaviour that nothing crashes of: a sign, a bound, a condition
that is dropped, a step too many. A room of the package has a file here. See `mutants`.
"""

from tests.mutant_table.act import ACT
from tests.mutant_table.freeze import FREEZE
from tests.mutant_table.loop import LOOP
from tests.mutant_table.mutant import Mutant
from tests.mutant_table.rules import RULES
from tests.mutant_table.scale import SCALE
from tests.mutant_table.sense import SENSE
from tests.mutant_table.supervise import SUPERVISE
from tests.mutant_table.watch import WATCH

__all__ = ["MUTANTS", "Mutant"]

MUTANTS = (*LOOP, *SENSE, *SUPERVISE, *RULES, *ACT, *FREEZE, *WATCH, *SCALE)
