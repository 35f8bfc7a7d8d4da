"""Who is compared: ours, and what a user would pick instead.

Files are split by what drives the rate: `ours`, `schedules` (the step), `loss_driven`
(the loss), `loss_slope` (how fast it falls), `alignment` (how gradients agree),
`distance` (how far the parameters went), `averaging` (nothing: the average does its
work, but for one). `inner` holds the optimizers that most of them wrap.
"""

import difflib

from benchmarks.contract import Peer
from benchmarks.peers import (
    alignment,
    averaging,
    distance,
    loss_driven,
    loss_slope,
    ours,
    schedules,
)

PEERS: dict[str, Peer] = {
    peer.name: peer
    for file in (
        ours,
        schedules,
        loss_driven,
        loss_slope,
        alignment,
        distance,
        averaging,
    )
    for peer in file.PEERS
}
"""In the order of the report."""


def get(name: str) -> Peer:
    """The peer of that name.

    Args:
      name: A key of `PEERS`; ``"ours(mode=search)"`` for a configuration of ours, see
        `ours.configured`; or ``"crippled"``, which no ranking holds.

    Raises:
      ValueError: If there is none; the message lists the known names.
    """
    if name == ours.CRIPPLED.name:
        return ours.CRIPPLED
    if name.startswith("ours(") and name.endswith(")"):
        return ours.configured(name[len("ours(") : -1])
    if name not in PEERS:
        close = difflib.get_close_matches(name, PEERS, 1)
        guess = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(
            f"unknown peer {name!r}{guess}; known are {', '.join(PEERS)}, and "
            "'ours(option=value, ...)'."
        )
    return PEERS[name]
