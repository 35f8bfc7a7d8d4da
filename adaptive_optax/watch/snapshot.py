"""The loop's present values, from anywhere in an optimizer state.

`snapshot` never waits for the device, so the jitted step may call it.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptive_optax import _trees, events
from adaptive_optax.act.average import AverageState
from adaptive_optax.act.dither import DitherState
from adaptive_optax.act.scale_by_rule import ScaleByRuleState
from adaptive_optax.agreement import AgreementState
from adaptive_optax.freeze.criterion import FreezeState
from adaptive_optax.rules.blend import BlendState
from adaptive_optax.rules.momentum import MomentumRuleState
from adaptive_optax.sense.sensor import FED
from adaptive_optax.sense.series import Bank
from adaptive_optax.state import READINGS, AdaptiveSchedulerState
from adaptive_optax.supervise import stage as supervision
from adaptive_optax.supervise.stage import RecoveryState
from adaptive_optax.watch.shot import Snapshot

_PIECES = (
    AdaptiveSchedulerState,
    ScaleByRuleState,
    FreezeState,
    AverageState,
    RecoveryState,
    DitherState,
)


def snapshot(state: Any) -> Snapshot:
    """Read the loop's present values, from anywhere in an optimizer state.

    Keys, if the state has them:

    - ``learning_rate``, ``momentum``, ``sigma``: the gains of the last update, and
      ``lr_scale``, what the controller multiplies the base rate with;
    - ``loss``, ``loss_fast``, ``loss_trend``, ``loss_variance_ratio``, ``success``,
      ``reward``, ``reward_trend``, ``grad_norm``, ``grad_norm_z``, ``alignment``,
      ``alignment_mean``, ``alignment_sem``, ``dog_step_size``: see `Signals`;
    - ``fed``, bool[]: a loss or a reward has come; until then these and what is derived
      from them are 0;
    - ``frozen_fraction``: share of the parameters that are frozen
      (``frozen_leaves``, share of the leaves, for `freeze_by_grad_norm` by itself);
    - ``weights``, ``momentum_weights``, ``sigma_weights``: f32[n], of a blend;
    - ``momentum_restarts``: how often `rules.momentum` has emptied the buffer;
    - ``steps``, and of these ``nonfinite_values``, ``nonfinite_rewards``,
      ``nonfinite_gradients``, and ``nonfinite_steps``, in which the inner optimizer
      made non-finite entries from a finite gradient (as far as the sketch shows it);
    - ``restores``, ``strikes``, ``audit_left``, ``audit_failures``, ``skipped``: see
      `supervise`;
    - ``replica_mismatches``: checks at which replicas differed (``check_replicas``);
    - ``lost_parameters``: parameters with entries that are not finite any more, which
      no step can bring back: see `repair`;
    - ``average_count``: parameters that the evaluation average reaches back to;
    - ``dither_count``: steps of `add_dither` by itself;
    - ``event_count``: things that have happened, and ``event_observed``, bool[]: they
      would have happened, in ``mode="observe"``. The 8 newest are in the attribute
      ``events``, for `History`.

    Args:
      state: Of `adaptive_scheduler` or any of its parts, in whatever holds it: a chain,
        a mask, a partition, `optax.MultiSteps`, a train state, a Flax nnx optimizer.
        Where several pieces have a key in common (two schedulers in a partition), the
        keys of each are prefixed with its label or place: ``"encoder/learning_rate"``.

    Returns:
      New arrays, so the state may be donated to the next step. Nothing waits for the
      device; call it inside or outside of `jax.jit`, `jax.lax.scan` and `jax.vmap`.

    Raises:
      ValueError: If there is no state of this package in ``state``.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import adaptive_optax as ao
      >>> tx = optax.chain(optax.clip(1.0), ao.adaptive_adam(1e-3))
      >>> state = tx.init(jnp.ones(3))
      >>> print(f"{ao.snapshot(state)['learning_rate']:.4f}")
      0.0010
    """
    found = read(state, events.RECENT)
    tables = {key: x for key, x in found.items() if key.endswith(events.TABLES)}
    return Snapshot({key: x for key, x in found.items() if key not in tables}, tables)


def read(state: Any, newest: int) -> dict[str, jax.Array]:
    """The numbers of a `snapshot`, and that many of the newest events, in one dict."""
    paths, _ = jax.tree_util.tree_flatten_with_path(
        state, is_leaf=lambda node: isinstance(node, _PIECES)
    )
    found = [(path, node) for path, node in paths if isinstance(node, _PIECES)]
    if not found:
        raise ValueError(
            f"`state` holds nothing of adaptive_optax, got {type(state).__name__}; "
            "try snapshot(opt_state) with the state that tx.update returned, "
            "tx = adaptive_scheduler(optax.adamw, learning_rate=3e-4)."
        )
    pieces = [_fields(node) for _, node in found]
    keys = [key for piece in pieces for key in piece]
    if len(set(keys)) < len(keys):
        pieces = [
            {f"{_place(path)}{key}": x for key, x in piece.items()}
            for (path, _), piece in zip(found, pieces, strict=True)
        ]
    merged = {key: x for piece in pieces for key, x in piece.items()}
    return _read({key: _trees.scalar_of(x) for key, x in merged.items()}, newest)


def _fields(node: Any) -> dict[str, Any]:
    """The readings of one piece, under the names that users see."""
    if isinstance(node, AdaptiveSchedulerState):
        fields: dict[str, Any] = {
            "learning_rate": node.learning_rate,
            "momentum": node.momentum,
            "sigma": node.sigma_annealed,
            "frozen_fraction": node.frozen_fraction,
            "lr_scale": node.lr_scale,
            "nonfinite_steps": node.nonfinite_steps,
            "readings": node.readings,
            **_sensor(node.sensor),
            **node.events._asdict(),
        }
        for prefix, rule in (
            ("", node.lr_rule),
            ("momentum_", node.momentum_rule),
            ("sigma_", node.sigma_rule),
        ):
            fields |= _weights(rule, prefix)
        for part in (node.recovery, node.averaging, node.agreement):
            fields |= _fields(part)
        return fields
    if isinstance(node, ScaleByRuleState):
        return {
            "lr_scale": node.rule_scale,
            **_sensor(node.rule_sensor),
            **_weights(node.rule_state, ""),
        }
    if isinstance(node, FreezeState):
        return {"frozen_leaves": node.freeze_mask}
    if isinstance(node, AverageState):
        return {"average_count": node.average_count}
    if isinstance(node, RecoveryState):
        return {"remembered": node.remembered, "lost": node.lost_entries}
    if isinstance(node, AgreementState):
        return node._asdict()
    if isinstance(node, DitherState):
        return {"dither_count": node.dither_count}
    return {}


@functools.partial(jax.jit, static_argnums=1, inline=True)
def _read(fields: dict[str, jax.Array], newest: int) -> dict[str, jax.Array]:
    """Unpack and copy, in one dispatch: what is returned shares no buffer."""
    result = {}
    for key, x in fields.items():
        prefix, name = key[: key.rfind("/") + 1], key[key.rfind("/") + 1 :]
        if name == "readings":
            values = _trees.unpack(x, [np.float32(0)] * len(READINGS))
            found = dict(zip(READINGS, values, strict=True))
            result |= {prefix + reading: y for reading, y in found.items()}
        elif name == "remembered":
            found = _remembered(supervision.judges_of(x))
            result |= {prefix + what: y for what, y in found.items()}
        elif name == "nonfinite":
            result |= {f"{prefix}nonfinite_{of}": x[..., i] for i, of in enumerate(FED)}
        elif name == "series":
            begun = x[..., Bank._fields.index("begun"), :]
            result[f"{prefix}fed"] = jnp.any(begun > 0, axis=-1)
        elif name == "lost":
            count = jnp.sum(x > 0, axis=-1, dtype=jnp.int32)
            result[f"{prefix}lost_parameters"] = count
        elif name in events.TABLES:
            ring = events.EventsState(*(fields[prefix + f] for f in events.FIELDS))
            result[key] = events.newest(ring, newest)[events.TABLES.index(name)]
        elif name == "frozen_leaves":
            result[key] = jnp.mean(x.astype(jnp.float32), axis=-1)
        else:
            result[key] = jnp.copy(x)
    return result


def _sensor(sensor: Any) -> dict[str, Any]:
    return {
        "steps": sensor.signal_count,
        "nonfinite": sensor.nonfinite,
        "series": sensor.series,
    }


def _remembered(judges: Any) -> dict[str, Any]:
    return {
        "restores": judges.trial.restores,
        "strikes": judges.trial.strikes,
        "skipped": judges.skip.skipped,
        "audit_left": judges.audit.audit_left,
        "audit_failures": judges.audit.audit_failures,
    }


def _weights(rule: Any, prefix: str) -> dict[str, Any]:
    blends = _trees.find_states(rule, BlendState)
    found = {f"{prefix}weights": blends[0].weights} if blends else {}
    for one in _trees.find_states(rule, MomentumRuleState)[:1]:
        found["momentum_restarts"] = one.momentum_restarts
    return found


def _place(path: Any) -> str:
    """A partition's label or a chain's index, as far as the path has any."""
    names = (getattr(key, "key", getattr(key, "idx", None)) for key in path)
    return "".join(f"{name}/" for name in names if name is not None)
