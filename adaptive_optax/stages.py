"""What the loop is made of: one stage for each line of its law."""

from typing import NamedTuple

from adaptive_optax.act import injection
from adaptive_optax.act import stage as acting
from adaptive_optax.act.base_rate import BaseRate
from adaptive_optax.act.gains import Driven
from adaptive_optax.agreement import Agreement
from adaptive_optax.freeze.stage import Freezing
from adaptive_optax.supervise.stage import Supervision


class Stages(NamedTuple):
    """What the loop is made of. Static: nothing here changes from step to step."""

    base: BaseRate
    rate: Driven  # of the multiplier
    momentum: Driven
    sigma: Driven
    supervision: Supervision
    averaging: acting.Averaging
    freezing: Freezing
    shadow: acting.Shadow
    dither: acting.Noise
    inner: injection.Inner
    needs_params: bool
    fraction: float  # of the coordinates that the sketch keeps
    axes: tuple[str, ...] | None  # over which devices are averaged; None: not said
    agreement: Agreement
