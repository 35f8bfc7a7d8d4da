"""A traced function as one flat list of operations.

A jaxpr nests: jitted and rematerialised parts are equations with a jaxpr inside. Which
leaf an equation serves is only seen from inside, so these are unrolled here. Values are
numbered slots, so nothing is traced again and no JAX variable has to be made.
"""

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import dtypes, lax
from jax.extend import core as jex

REMAT = ("checkpoint", "remat2", "remat")
NESTED = ("jit", "pjit", "closed_call", "core_call", "eval_jaxpr", *REMAT)
BARRIER = "optimization_barrier"
# These may run in any order with others; those of references and of ordered callbacks
# may not, and an operation of a later equation can move before an earlier one.
UNORDERED = ("NamedAxisEffect", "DebugEffect", "IOEffect")

Operand = Any
"""A slot (int), or a `jax.extend.core.Literal`."""


class UnsupportedEquation(Exception):
    """The rewrite cannot handle an equation; the message names it."""


class Op(NamedTuple):
    """One operation."""

    name: str
    eqn: Any  # the `JaxprEqn` to evaluate; None for a barrier of ours
    ins: tuple[Operand, ...]
    outs: tuple[int, ...]


class Program(NamedTuple):
    """A flat function of ``inputs``."""

    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[Operand, ...]
    avals: tuple[Any, ...]  # of every slot
    consts: dict[int, Any]  # slots whose value is known


def is_slot(operand: Operand) -> bool:
    """Whether an operand is a slot and not a literal."""
    return isinstance(operand, int)


def slots_of(operands: tuple[Operand, ...]) -> list[int]:
    """The slots among operands."""
    return [operand for operand in operands if is_slot(operand)]


def opened(jaxpr: Any) -> tuple[Any, Sequence[Any]]:
    """A jaxpr and the values of its constants.

    Up to JAX 0.11 a `ClosedJaxpr` holds a `Jaxpr` and these values. Since 0.12 the two
    are one class, and what led from one to the other is to be deleted. An open jaxpr of
    before has no values.
    """
    if hasattr(jaxpr, "invars"):
        return jaxpr, getattr(jaxpr, "consts", ())
    return jaxpr.jaxpr, jaxpr.consts


def flatten(closed: Any) -> Program:
    """Unroll the nested calls of a jaxpr, which `jax.make_jaxpr` gives.

    Raises:
      UnsupportedEquation: If an equation's effects forbid reordering.
    """
    ops: list[Op] = []
    avals: list[Any] = []
    consts: dict[int, Any] = {}

    def new(aval: Any) -> int:
        avals.append(aval)
        return len(avals) - 1

    def constant(var: Any, value: Any) -> int:
        slot = new(var.aval)
        consts[slot] = value
        return slot

    def walk(inner: Any, arguments: Any) -> list[Operand]:
        jaxpr, values = opened(inner)
        env = {v: constant(v, c) for v, c in zip(jaxpr.constvars, values, strict=True)}
        env.update(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> Operand:
            return atom if isinstance(atom, jex.Literal) else env[atom]

        for eqn in jaxpr.eqns:
            _check_effects(eqn)
            ins = tuple(read(atom) for atom in eqn.invars)
            body = _nested(eqn)
            if body is None:
                outs = tuple(new(v.aval) for v in eqn.outvars)
                ops.append(Op(eqn.primitive.name, eqn, ins, outs))
            else:
                outs = walk(body, _guarded(eqn, ins, avals, ops, new))
            env.update(zip(eqn.outvars, outs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    inputs = tuple(new(v.aval) for v in opened(closed)[0].invars)
    outputs = tuple(walk(closed, inputs))
    return Program(tuple(ops), inputs, outputs, tuple(avals), consts)


def evaluate(op: Op, values: list[Any]) -> list[Any]:
    """The results of an operation.

    Raises:
      UnsupportedEquation: If it cannot be evaluated anew.
    """
    if op.eqn is None:
        return list(lax.optimization_barrier(tuple(values)))
    primitive = op.eqn.primitive
    manager = getattr(op.eqn.ctx, "manager", None) or contextlib.nullcontext()
    try:
        # (functions, params) up to JAX 0.9, params since.
        found = primitive.get_bind_params(op.eqn.params)
        functions, params = found if isinstance(found, tuple) else ((), found)
        with manager:
            result = primitive.bind(*functions, *values, **params)
    except Exception as error:
        raise UnsupportedEquation(f"{op.name} ({error})") from error
    return list(result) if primitive.multiple_results else [result]


def is_plain(aval: Any) -> bool:
    """Whether a value is an array of numbers, so that zeros can stand in for it."""
    dtype = getattr(aval, "dtype", None)
    return dtype is not None and not jnp.issubdtype(dtype, dtypes.extended)


def scan_counts(eqn: Any) -> tuple[int, int]:
    """How many operands of a scan are constants, and how many are carries.

    Raises:
      UnsupportedEquation: If this version of JAX does not tell.
    """
    try:
        if "num_consts" in eqn.params:
            return eqn.params["num_consts"], eqn.params["num_carry"]
        consts, carries, _ = eqn.params["ft_in"].unpack()  # since JAX 0.11
        return len(consts), len(carries)
    except Exception as error:
        raise UnsupportedEquation(f"scan ({error!r})") from error


def _nested(eqn: Any) -> Any:
    """The jaxpr of a call that may be unrolled, or None."""
    if eqn.primitive.name not in NESTED:
        return None
    # Unrolling would drop what the user asked of the compiler.
    shardings = (
        *eqn.params.get("in_shardings", ()),
        *eqn.params.get("out_shardings", ()),
    )
    if any(type(s).__name__ != "UnspecifiedValue" for s in shardings):
        return None
    if eqn.params.get("compiler_options_kvs"):
        return None
    return eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))


def _guarded(eqn: Any, ins: Any, avals: Any, ops: Any, new: Any) -> Any:
    """The operands behind a barrier where XLA must not merge a recomputation."""
    prevent = eqn.params.get("prevent_cse", False)
    if eqn.primitive.name not in REMAT or not eqn.params.get("differentiated", True):
        return ins
    flags = prevent if isinstance(prevent, tuple | list) else [prevent] * len(ins)
    behind = tuple(x for x, flag in zip(ins, flags, strict=True) if flag and is_slot(x))
    if not behind:
        return ins
    fresh = {x: new(avals[x]) for x in behind}
    unique = tuple(fresh)
    ops.append(Op(BARRIER, None, unique, tuple(fresh[x] for x in unique)))
    return tuple(
        fresh[x] if flag and is_slot(x) else x
        for x, flag in zip(ins, flags, strict=True)
    )


def _check_effects(eqn: Any) -> None:
    for effect in eqn.effects:
        if type(effect).__name__ not in UNORDERED:
            raise UnsupportedEquation(
                f"{eqn.primitive.name} (its effect {type(effect).__name__} is ordered)"
            )
