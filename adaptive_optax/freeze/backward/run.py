"""Evaluate a plan: every group under one conditional on whether its key is live."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from adaptive_optax.freeze.backward.liveness import ALWAYS, NOBODY, Flag, Key
from adaptive_optax.freeze.backward.plan import Plan, ScanPlan, Unit
from adaptive_optax.freeze.backward.program import (
    Op,
    UnsupportedEquation,
    evaluate,
    is_slot,
    scan_counts,
)

Truth = Any
"""A bool that is known now, or a traced one."""


class Live(NamedTuple):
    """Which labels are live."""

    labels: dict[Any, Truth]
    rows: dict[Any, jax.Array]  # bool[L] of those that know it layer by layer

    def any(self, key: Key) -> Truth:
        """Whether any label of a key is live."""
        if ALWAYS in key:
            return True
        return either([self.labels[label] for label in key])

    def at_rows(self, key: Key, length: int) -> jax.Array:
        """bool[length], whether layer i of any label of a key is live."""
        found = []
        for label in key:
            rows = self.rows.get(label)
            fits = rows is not None and rows.shape == (length,)
            found.append(rows if fits else jnp.full(length, self.labels[label]))
        return functools.reduce(jnp.logical_or, found, jnp.zeros(length, bool))


def either(truths: Sequence[Truth]) -> Truth:
    """Their disjunction, known as soon as one of them is known to be true."""
    if any(truth is True for truth in truths):
        return True
    open_ones = [truth for truth in truths if truth is not False]
    return functools.reduce(jnp.logical_or, open_ones) if open_ones else False


def run(plan: Plan, arguments: Sequence[Any], live: Live) -> list[Any]:
    """The outputs of a plan. Those that only frozen labels need may be anything."""
    program = plan.program
    env = {**program.consts, **dict(zip(program.inputs, arguments, strict=True))}
    for unit in plan.units:
        values = tuple(env[slot] for slot in unit.ins)
        env.update(zip(unit.outs, _run_unit(plan, unit, values, live), strict=True))
    return [_read(env, out) for out in program.outputs]


def _read(env: dict[int, Any], operand: Any) -> Any:
    return env[operand] if is_slot(operand) else jnp.asarray(operand.val)


def _run_unit(plan: Plan, unit: Unit, values: Any, live: Live) -> Sequence[Any]:
    needed = live.any(unit.key)

    def compute(*values: Any) -> tuple[Any, ...]:
        env = dict(zip(unit.ins, values, strict=True))
        for i in unit.ops:
            op = plan.program.ops[i]
            operands = [env[x] if is_slot(x) else x.val for x in op.ins]
            if i in plan.scans:
                results = _run_scan(op, plan.scans[i], operands, live)
            else:
                results = evaluate(op, operands)
            env.update(zip(op.outs, results, strict=True))
        return tuple(env[slot] for slot in unit.outs)

    def skip(*values: Any) -> tuple[Any, ...]:
        del values
        return tuple(zeros(plan.program.avals[slot]) for slot in unit.outs)

    if needed is False:
        return skip()
    if needed is True or not unit.is_group:
        return compute(*values)
    try:
        return lax.cond(needed, compute, skip, *values)
    except UnsupportedEquation:
        raise
    except Exception as error:
        names = ", ".join(dict.fromkeys(plan.program.ops[i].name for i in unit.ops))
        raise UnsupportedEquation(f"a conditional on {names} ({error})") from error


def _run_scan(
    op: Op, planned: ScanPlan, operands: Sequence[Any], live: Live
) -> Sequence[Any]:
    """A scan whose iterations skip what only frozen layers need."""
    params = op.eqn.params
    n_consts, n_carry = scan_counts(op.eqn)
    length, reverse = params["length"], params["reverse"]
    consts = operands[:n_consts]
    carry, xs = operands[n_consts : n_consts + n_carry], operands[n_consts + n_carry :]
    known = {flag: _known(flag, live) for flag in planned.flags}
    open_flags = [flag for flag, truth in known.items() if truth is None]
    flags = [_at_iterations(flag, live, length, reverse) for flag in open_flags]

    def body(carry: Any, x: Any) -> tuple[Any, Any]:
        now, xs = x
        labels = {**known, **dict(zip(open_flags, now, strict=True))}
        outs = run(planned.body, [*consts, *carry, *xs], Live(labels, {}))
        return outs[:n_carry], outs[n_carry:]

    try:
        carry, ys = lax.scan(
            body,
            list(carry),
            (flags, list(xs)),
            length=length,
            reverse=reverse,
            unroll=params["unroll"],
        )
    except UnsupportedEquation:
        raise
    except Exception as error:
        raise UnsupportedEquation(f"scan ({error})") from error
    return [*carry, *ys]


def _known(flag: Flag, live: Live) -> Truth:
    """True or False if it is that at every iteration, whatever the mask, else None."""
    everything = NOBODY.union(*flag)
    if live.any(everything) is False:
        return False
    return True if live.any(flag.now) is True else None


def _at_iterations(flag: Flag, live: Live, length: int, reverse: bool) -> jax.Array:
    """bool[length], one flag at every iteration."""
    later = live.at_rows(flag.later_rows, length) | jnp.full(
        length, live.any(flag.later)
    )
    later = lax.cummax(later.astype(jnp.int32), reverse=not reverse) > 0
    # Of the iterations after this one.
    shifted = jnp.roll(later, 1 if reverse else -1)
    later = shifted.at[0 if reverse else -1].set(False)
    now = live.at_rows(flag.now_rows, length) | jnp.full(length, live.any(flag.now))
    return now | later


def zeros(aval: Any) -> jax.Array:
    """Zeros of exactly this type: on an explicit mesh and in manual axes as well."""
    sharding = aval.sharding if getattr(aval.sharding, "mesh", None) else None
    if sharding is not None and sharding.mesh.empty:
        sharding = None
    zero = lax.full(aval.shape, 0, aval.dtype, sharding=sharding)
    manual = getattr(aval, "manual_axis_type", None)
    varying = manual.varying if manual is not None else getattr(aval, "vma", ())
    if not varying:
        return zero
    if hasattr(lax, "pcast"):
        return lax.pcast(zero, tuple(varying), to="varying")
    return getattr(lax, "pvary")(zero, tuple(varying))  # noqa: B009
