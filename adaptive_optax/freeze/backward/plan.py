"""What is run under which conditional, decided once a trace and without the mask.

All operations with one key make a *group*, if together they cost enough. No order can
conflict: what an operation of a group feeds serves no more than the group does, what
feeds it serves no less, so a path that leaves a group never returns to it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from adaptive_optax.freeze.backward import flops
from adaptive_optax.freeze.backward.liveness import (
    ALWAYS,
    CHEAP,
    EVERYBODY,
    NOBODY,
    Flag,
    Key,
    Liveness,
    reached,
    sweep,
)
from adaptive_optax.freeze.backward.program import (
    Op,
    Program,
    flatten,
    scan_counts,
    slots_of,
)


class Options(NamedTuple):
    """What decides how much is worth a conditional."""

    min_flops: float
    recompute: bool  # cheap operations are repeated inside the branches


class Unit(NamedTuple):
    """Operations that are run together, under a conditional if they are a group."""

    key: Key
    ops: tuple[int, ...]
    ins: tuple[int, ...]
    outs: tuple[int, ...]
    is_group: bool


class ScanPlan(NamedTuple):
    """The plan of a scan's body; its outputs have keys of a `Flag` each."""

    body: "Plan"
    flags: tuple[Flag, ...]


class Plan(NamedTuple):
    """Units in an order in which they can run."""

    program: Program
    units: tuple[Unit, ...]
    scans: dict[int, ScanPlan]
    keys: tuple[Key, ...]  # of every operation
    costs: tuple[float, ...]  # likewise, in FLOPs


def build(
    program: Program, keys: Sequence[Key], by_row: Sequence[bool], options: Options
) -> Plan:
    """Plan a program whose outputs have these keys (see `liveness.sweep`)."""
    live = sweep(program, keys, by_row)
    costs = tuple(flops.of_equation(op.eqn) for op in program.ops)
    scans = {}
    for i, op in enumerate(program.ops):
        if op.name == "scan" and live.ops[i] and not op.eqn.effects:
            planned = _plan_scan(op, live, options)
            if planned is not None:
                scans[i] = planned
    totals: dict[Key, float] = {}
    for key, cost in zip(live.ops, costs, strict=True):
        totals[key] = totals.get(key, 0.0) + cost
    sunk = {
        key
        for key, total in totals.items()
        if key and ALWAYS not in key and total >= options.min_flops
    }
    members: dict[Key | int, list[int]] = {}
    for i, key in enumerate(live.ops):
        if key:
            members.setdefault(key if key in sunk else i, []).append(i)
    makers = {
        slot: name
        for name, indices in members.items()
        for i in indices
        for slot in program.ops[i].outs
    }
    if options.recompute:
        for key in sunk:
            members[key] = _with_recomputed(members[key], makers, program)
    units = _order(_units(members, makers, live, program), makers)
    return Plan(program, units, scans, live.ops, costs)


def _with_recomputed(
    own: list[int], makers: dict[int, Key | int], program: Program
) -> list[int]:
    """A group and the cheap operations outside of groups that lead to it."""
    found = set(own)
    work = [slot for i in own for slot in slots_of(program.ops[i].ins)]
    while work:
        index = makers.get(work.pop())
        if isinstance(index, int) and index not in found:
            if program.ops[index].name in CHEAP:
                found.add(index)
                work += slots_of(program.ops[index].ins)
    return sorted(found)


def _units(
    members: dict[Key | int, list[int]],
    makers: dict[int, Key | int],
    live: Liveness,
    program: Program,
) -> dict[Key | int, Unit]:
    # Who reads a slot; None stands for the outputs.
    readers: dict[int, set[Key | int | None]] = {
        slot: {None} for slot in slots_of(program.outputs)
    }
    for name, indices in members.items():
        for i in indices:
            for slot in slots_of(program.ops[i].ins):
                readers.setdefault(slot, set()).add(name)
    units = {}
    for name, indices in members.items():
        ops = [program.ops[i] for i in indices]
        own = {slot for op in ops for slot in op.outs}
        ins = dict.fromkeys(s for op in ops for s in slots_of(op.ins) if s not in own)
        outs = [
            slot
            for op in ops
            for slot in op.outs
            if makers[slot] == name and readers.get(slot, set()) - {name}
        ]
        key = live.ops[name] if isinstance(name, int) else name
        is_group = not isinstance(name, int)
        units[name] = Unit(key, tuple(indices), tuple(ins), tuple(outs), is_group)
    return units


def _order(
    units: dict[Key | int, Unit], makers: dict[int, Key | int]
) -> tuple[Unit, ...]:
    """Single operations in their own order, each group as late as it is needed."""
    ordered: dict[Key | int, Unit] = {}

    def visit(name: Key | int) -> None:
        stack = [name]
        while stack:
            top = stack[-1]
            needed = {makers[slot] for slot in units[top].ins if slot in makers}
            missing = [other for other in needed if other not in ordered]
            if top in ordered or not missing:
                stack.pop()
                ordered[top] = units[top]
            else:
                stack += missing

    for single in [name for name in units if isinstance(name, int)]:
        visit(single)
    for name in units:
        visit(name)
    return tuple(ordered.values())


def _plan_scan(op: Op, live: Liveness, options: Options) -> ScanPlan | None:
    """The plan of a scan's body, or None where every iteration needs all of it."""
    consts, carries = scan_counts(op.eqn)
    body = flatten(op.eqn.params["jaxpr"])
    inputs = body.inputs[consts : consts + carries]
    reaches = reached(body, inputs)  # of every output, the carries it depends on
    keys = [live.slots.get(slot, NOBODY) for slot in op.outs]

    flags = []
    for slot, key in zip(op.outs[carries:], keys[carries:], strict=True):
        rows = live.rows.get(slot, False)
        flags.append(Flag(now_rows=key) if rows else Flag(now=key))
    for place in reversed(range(carries)):
        # What this carry leads to over any number of iterations.
        heirs, work = {place}, [place]
        while work:
            origin = work.pop()
            new = {j for j in range(carries) if origin in reaches[j]} - heirs
            heirs |= new
            work += new
        followers = [
            flags[len(flags) - (len(keys) - carries) + j]
            for j in range(len(keys) - carries)
            if reaches[carries + j] & heirs
        ]
        flags.insert(
            0,
            Flag(
                now=NOBODY.union(*(keys[j] for j in heirs)),
                later=NOBODY.union(*(flag.now for flag in followers)),
                later_rows=NOBODY.union(*(flag.now_rows for flag in followers)),
            ),
        )
    labels: list[Key] = [_as_key(flag) for flag in flags]
    planned = build(body, labels, [False] * len(labels), options)
    if not planned.scans and not any(unit.is_group for unit in planned.units):
        return None
    named = [flag for key in labels if key != EVERYBODY for flag in key]
    return ScanPlan(planned, tuple(dict.fromkeys(named)))


def _as_key(flag: Flag) -> Key:
    needed = NOBODY.union(*flag)
    if ALWAYS in needed:
        return EVERYBODY
    return frozenset({flag}) if needed else NOBODY


class Share(NamedTuple):
    """A part of the cost."""

    key: Key  # labels of leaves that need it
    flops: float
    skippable: bool  # it is skipped when none of them is live


def shares(plan: Plan) -> list[Share]:
    """The cost of a plan in parts; the bodies of scans count once an iteration."""
    found = []
    grouped = {i for unit in plan.units if unit.is_group for i in unit.ops}
    for i, (key, cost) in enumerate(zip(plan.keys, plan.costs, strict=True)):
        skippable = i in grouped and ALWAYS not in key
        if i not in plan.scans:
            found.append(Share(key, cost, skippable))
            continue
        length = plan.program.ops[i].eqn.params["length"]
        for part in shares(plan.scans[i].body):
            if part.skippable:
                labels = NOBODY.union(*(s for flag in part.key for s in flag))
                found.append(Share(labels, length * part.flops, True))
            elif part.key:
                whole = EVERYBODY if ALWAYS in part.key else key - EVERYBODY
                found.append(Share(whole, length * part.flops, skippable))
    return [share for share in found if share.key and math.isfinite(share.flops)]
