"""Whom every operation serves: a sweep from the outputs back.

An output has a *key*, the set of labels that need it: {label} for the gradient of a
leaf, {ALWAYS} for the loss and all else. The key of an operation is the union of those
of its results' users. If every label of a key is frozen, nobody needs the operation.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from adaptive_optax.freeze.backward.program import (
    BARRIER,
    Op,
    Program,
    is_plain,
    is_slot,
    slots_of,
)

# Labels are numbers (inside a scan: `Flag`s, tuples of sets of numbers), never
# strings: the order of a set of strings differs from process to process, and with it
# the program that the hosts of one run have to agree on.
Key = frozenset[Any]
ALWAYS = -1
NOBODY: Key = frozenset()
EVERYBODY: Key = frozenset({ALWAYS})

# Elementwise, so a matter of memory, not of arithmetic: cheaper to recompute in a
# branch than to keep for it.
ELEMENTWISE = frozenset(
    "abs add add_any and ceil clamp convert_element_type copy copy_p cos div eq erf "
    "exp exp2 expm1 floor ge gt integer_pow le log log1p logistic lt max min mul ne "
    "neg not or pow reduce_precision rsqrt select_n sign sin sqrt square stop_gradient "
    "sub tanh xor".split()
)
RESHAPING = frozenset(
    "broadcast_in_dim expand_dims iota reshape squeeze transpose".split()
)
CHEAP = ELEMENTWISE | RESHAPING


class Flag(NamedTuple):
    """A label inside the body of a scan: whether an iteration's result is needed."""

    now: Key = NOBODY  # labels that need it at every iteration
    now_rows: Key = NOBODY  # that need it at iteration i if their layer i is live
    later: Key = NOBODY  # at every iteration but the last
    later_rows: Key = NOBODY  # if a layer of a later iteration is live


class Liveness(NamedTuple):
    """The result of the sweep."""

    ops: tuple[Key, ...]  # of every operation
    slots: dict[int, Key]  # of every slot that anybody needs
    rows: dict[int, bool]  # whether row i of a slot serves row i of gradients only


def sweep(program: Program, keys: Sequence[Key], by_row: Sequence[bool]) -> Liveness:
    """Find the keys of all operations and slots.

    Args:
      program: What is computed.
      keys: Of its outputs.
      by_row: Whether an output is one whose leading axis runs over stacked layers.
    """
    slots: dict[int, Key] = {}
    rows: dict[int, bool] = {}
    for out, key, row in zip(program.outputs, keys, by_row, strict=True):
        if is_slot(out):
            slots[out] = slots.get(out, NOBODY) | key
            rows[out] = rows.get(out, True) and row
    of_ops: list[Key] = []
    for op in reversed(program.ops):
        key = NOBODY.union(*(slots.get(out, NOBODY) for out in op.outs))
        # A zero cannot stand in for a random key, and an effect is not ours to skip.
        # Collectives over a named axis have one: all replicas must meet there.
        if op.eqn is not None and op.eqn.effects:
            key |= EVERYBODY
        elif key and not all(is_plain(program.avals[out]) for out in op.outs):
            key |= EVERYBODY
        of_ops.append(key)
        if key:
            kept = all(rows.get(out, False) for out in op.outs)
            for slot in slots_of(op.ins):
                slots[slot] = slots.get(slot, NOBODY) | key
                rows[slot] = (
                    rows.get(slot, True) and kept and _by_row(op, slot, program)
                )
    return Liveness(tuple(reversed(of_ops)), slots, rows)


def reached(program: Program, sources: Sequence[int]) -> list[frozenset[int]]:
    """For every output, which of the sources (by their place) it depends on."""
    found: dict[int, frozenset[int]] = {}
    for place, slot in enumerate(sources):
        found[slot] = frozenset({place})
    for op in program.ops:
        union = frozenset[int]().union(
            *(found.get(slot, frozenset()) for slot in slots_of(op.ins))
        )
        found.update(dict.fromkeys(op.outs, union))
    return [
        found.get(out, frozenset()) if is_slot(out) else frozenset()
        for out in program.outputs
    ]


def _by_row(op: Op, slot: int, program: Program) -> bool:
    """Whether row i of every result is a function of row i of this operand."""
    if op.name == BARRIER:
        return False
    shape, out = program.avals[slot].shape, program.avals[op.outs[0]].shape
    if not shape or not out or shape[0] != out[0]:
        return False
    params: dict[str, Any] = op.eqn.params
    if op.name in ELEMENTWISE or op.name == "sharding_constraint":
        return shape == out
    if op.name == "transpose":
        return params["permutation"][0] == 0
    if op.name == "reshape":
        return params["dimensions"] is None
    if op.name == "squeeze":
        return 0 not in params["dimensions"]
    if op.name == "broadcast_in_dim":
        return params["broadcast_dimensions"][:1] == (0,)
    return False
