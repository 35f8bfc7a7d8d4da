"""Training that regulates itself: controllers for any Optax optimizer."""

# First of all the versions, before a module asks an old JAX for a new name.
from adaptive_optax import _versions, law, rules  # noqa: F401
from adaptive_optax._arguments import NoFeedbackWarning
from adaptive_optax._reasons import EventKind
from adaptive_optax._types import Rule, Signals
from adaptive_optax.act import filters
from adaptive_optax.act.average import average_params, eval_params
from adaptive_optax.act.dither import add_dither
from adaptive_optax.act.scale_by_rule import scale_by_rule
from adaptive_optax.freeze.criterion import Freeze
from adaptive_optax.freeze.hold import apply_updates, hold_frozen
from adaptive_optax.freeze.labels import block_labels
from adaptive_optax.freeze.staged_step import StagedStep
from adaptive_optax.freeze.transform import freeze_by_grad_norm, frozen_mask, skip_mask
from adaptive_optax.freeze.value_and_grad import frozen_value_and_grad
from adaptive_optax.law import Law
from adaptive_optax.online import online_adagrad, online_sgd
from adaptive_optax.optimizers import (
    adaptive_adam,
    adaptive_adamw,
    adaptive_sgd,
    restore_on_divergence,
)
from adaptive_optax.rules.blend import blend
from adaptive_optax.scale.checkpoint import load_state, state_arrays
from adaptive_optax.scale.memory import state_bytes
from adaptive_optax.scale.shardings import state_shardings
from adaptive_optax.scheduler import adaptive_scheduler
from adaptive_optax.state import AdaptiveSchedulerState
from adaptive_optax.supervise.recovery import Recovery
from adaptive_optax.supervise.repair import LostParametersWarning, repair
from adaptive_optax.watch.describe import describe
from adaptive_optax.watch.event_log import Event
from adaptive_optax.watch.explain import explain
from adaptive_optax.watch.history import History
from adaptive_optax.watch.log_every import log_every
from adaptive_optax.watch.plot import plot_history
from adaptive_optax.watch.plot_freezing import plot_freezing
from adaptive_optax.watch.shot import Snapshot
from adaptive_optax.watch.snapshot import snapshot

__version__ = "0.1.0"

__all__ = [
    "AdaptiveSchedulerState",
    "Event",
    "EventKind",
    "Freeze",
    "History",
    "Law",
    "LostParametersWarning",
    "NoFeedbackWarning",
    "Recovery",
    "Rule",
    "Signals",
    "Snapshot",
    "StagedStep",
    "adaptive_adam",
    "adaptive_adamw",
    "adaptive_scheduler",
    "adaptive_sgd",
    "add_dither",
    "apply_updates",
    "average_params",
    "blend",
    "block_labels",
    "describe",
    "eval_params",
    "explain",
    "filters",
    "freeze_by_grad_norm",
    "frozen_mask",
    "frozen_value_and_grad",
    "hold_frozen",
    "law",
    "load_state",
    "log_every",
    "online_adagrad",
    "online_sgd",
    "plot_freezing",
    "plot_history",
    "repair",
    "restore_on_divergence",
    "rules",
    "scale_by_rule",
    "skip_mask",
    "snapshot",
    "state_arrays",
    "state_bytes",
    "state_shardings",
]
