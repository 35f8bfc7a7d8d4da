"""adaptive_optax itself: its modes, any configuration of it, and a broken one.

alpha <- clip(alpha exp(f(signals))), and the polynomial average is evaluated
"""

import ast
import difflib
import inspect
from typing import Any

import jax.numpy as jnp
import optax

import adaptive_optax as ao
from benchmarks.contract import Peer

OPTIONS = tuple(
    name
    for name in inspect.signature(ao.adaptive_scheduler).parameters
    if name not in ("inner", "learning_rate")
)
EXAMPLE = "mode=search, slew=0.1, momentum_rule=alignment, total_steps=True"


def _peer(name: str, options: dict[str, Any]) -> Peer:
    knows_horizon = options.get("total_steps") is True

    def make(inner, rate, horizon):
        now = {**options, "total_steps": horizon} if knows_horizon else options
        return ao.adaptive_scheduler(inner, learning_rate=rate, **now)

    return Peer(
        name,
        make,
        eval_params=ao.eval_params if options.get("average", True) else None,
        knows_horizon=knows_horizon,
        ours=True,
        trace=ao.snapshot,
        source="adaptive_optax.adaptive_scheduler",
    )


def configured(text: str) -> Peer:
    """A configuration of `adaptive_scheduler`, written as its keyword arguments.

    Args:
      text: ``option=value`` pairs, separated by commas. Values are Python literals; a
        string needs no quotes; a rule is named as in `adaptive_optax.rules`, at its
        defaults; ``total_steps=True`` is the horizon of the workload.

    Returns:
      A peer named ``ours(text)``.

    Raises:
      TypeError: If an option is of the wrong kind.
      ValueError: If ``text`` cannot be read, an option or a rule is unknown, or
        `adaptive_scheduler` refuses a value.
    """
    hint = f"; try {EXAMPLE!r}."
    try:
        call = ast.parse(f"f({text})", mode="eval").body
    except SyntaxError:
        call = None
    if not isinstance(call, ast.Call) or call.args:
        raise ValueError(f"a configuration is option=value pairs, got {text!r}{hint}")
    options: dict[str, Any] = {}
    for keyword in call.keywords:
        name = keyword.arg
        if name not in OPTIONS:
            known, guess = _known(str(name), OPTIONS)
            raise ValueError(f"unknown option {name!r}{guess}; known are {known}.")
        options[name] = _value(name, keyword.value, hint)
    peer = _peer(f"ours({ast.unparse(call)[2:-1]})", options)
    peer.make(optax.adam, 1e-3, 100)  # what the scheduler refuses is told now
    return peer


def _value(name: str, node: ast.expr, hint: str) -> Any:
    is_rule = name in ("rule", "momentum_rule", "sigma_rule")
    if is_rule and isinstance(node, ast.Name):
        if node.id not in ao.rules.__all__:
            known, guess = _known(node.id, ao.rules.__all__)
            raise ValueError(f"unknown rule {node.id!r}{guess}; known are {known}.")
        return getattr(ao.rules, node.id)()
    if isinstance(node, ast.Name):
        return node.id
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise ValueError(
            f"`{name}` must be a Python literal, got {ast.unparse(node)!r}{hint}"
        ) from error


def _known(name: str, names: Any) -> tuple[str, str]:
    """The names in a row, and a suggestion where one is close."""
    close = difflib.get_close_matches(name, names, 1)
    return ", ".join(names), f" (did you mean {close[0]!r}?)" if close else ""


_EXTINGUISH = ao.Rule(
    init=lambda: (),
    update=lambda signals, state: (jnp.full((), -0.5, jnp.float32), state),
)

PEERS = (
    _peer("nudge", {"mode": "nudge"}),
    _peer("search", {"mode": "search"}),
    _peer("safe", {"mode": "safe"}),
    _peer("nudge_horizon", {"mode": "nudge", "total_steps": True}),
)

# Down to the lower bound, a millionth of the base rate, within 28 steps. A judge
# that does not rank it last is no judge.
CRIPPLED = _peer("crippled", {"rule": _EXTINGUISH})
