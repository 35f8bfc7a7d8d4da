"""adaptive_optax itself: its modes, any configuration of it, and a broken one.

alpha <- clip(alpha exp(f(signals))), and the polynomial average is evaluated
"""

import ast
import difflib
import inspect
import math
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
HINT = f"; try {EXAMPLE!r}."


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
      text: ``option=value`` pairs, separated by commas. ``law__skip=None`` and
        ``law__audit__steps=20`` replace a part or a number of the default law. Values
        are Python literals or ``inf``; a string needs no quotes; a rule is named as in
        `adaptive_optax.rules`, at its defaults; ``total_steps=True`` is the horizon of
        the workload.

    Returns:
      A peer named ``ours(text)``.

    Raises:
      TypeError: If an option is of the wrong kind.
      ValueError: If ``text`` cannot be read, an option or a rule is unknown, or
        `adaptive_scheduler` refuses a value.
    """
    call = _call(text)
    peer = _peer(f"ours({ast.unparse(call)[2:-1]})", options_of(text))
    peer.make(optax.adam, 1e-3, 100)  # what the scheduler refuses is told now
    return peer


def options_of(text: str) -> dict[str, Any]:
    """The keyword arguments that a configuration stands for; see `configured`."""
    options: dict[str, Any] = {}
    for keyword in _call(text).keywords:
        name = str(keyword.arg)
        value = _value(name, keyword.value)
        if name.startswith("law__"):
            law = options.get("law", ao.Law())
            options["law"] = _replaced(law, name.split("__")[1:], value)
        elif name in OPTIONS:
            options[name] = value
        else:
            known, guess = _known(name, OPTIONS)
            raise ValueError(f"unknown option {name!r}{guess}; known are {known}.")
    return options


def _call(text: str) -> ast.Call:
    try:
        call = ast.parse(f"f({text})", mode="eval").body
    except SyntaxError:
        call = None
    if not isinstance(call, ast.Call) or call.args:
        raise ValueError(f"a configuration is option=value pairs, got {text!r}{HINT}")
    return call


def _value(name: str, node: ast.expr) -> Any:
    is_rule = name in ("rule", "momentum_rule", "sigma_rule")
    if is_rule and isinstance(node, ast.Name):
        if node.id not in ao.rules.__all__:
            known, guess = _known(node.id, ao.rules.__all__)
            raise ValueError(f"unknown rule {node.id!r}{guess}; known are {known}.")
        return getattr(ao.rules, node.id)()
    if isinstance(node, ast.Name):
        return math.inf if node.id == "inf" else node.id
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(name, node.operand)
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise ValueError(
            f"`{name}` must be a Python literal, got {ast.unparse(node)!r}{HINT}"
        ) from error


def _replaced(part: Any, path: list[str], value: Any) -> Any:
    """A law with one of its parts or numbers replaced."""
    name, *rest = path
    if name not in part._fields:
        known, guess = _known(name, part._fields)
        raise ValueError(f"the law has no {name!r}{guess}; known are {known}.")
    if rest:
        value = _replaced(getattr(part, name), rest, value)
    return part._replace(**{name: value})


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
