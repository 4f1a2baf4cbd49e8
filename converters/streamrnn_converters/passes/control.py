"""If, Loop and Scan of a file on the walk of `fold`: branches and loops of the new graph, or nothing at all.

If on a constant      the chosen branch in its place
If                    an If with both branches
Loop of known length  a Scan: `x[i]` is a slice of a scan input, counters are tables, what never changes is a capture
Loop                  a Loop, which may not stack anything: nobody knows how much
Scan                  a Scan along axis 0
Loop, Scan            unrolled, where they run once, carry sequences, or have other shapes in each iteration
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from streamrnn.errors import ShapeError
from streamrnn_converters.onnx.raw import RawNode
from streamrnn_converters.passes.bodies import (
    blame,
    body_of,
    captures,
    enter,
    graph_of,
    inside,
    malformed,
    open_value,
    problems,
    walked,
)
from streamrnn_converters.passes.repeat import Repeat
from streamrnn_converters.passes.unroll import Form, Scanned

if TYPE_CHECKING:
    from streamrnn_converters.passes.fold import Scope, Walk

#: a trip count from here on is the file's way to say "no bound"
_NO_BOUND = 1 << 62


# -- If -------------------------------------------------------------------------------------------------------------


def _if(walk: Walk, raw: RawNode, inputs: tuple[str, ...], scope: Scope) -> None:
    wanted = [k for k, name in enumerate(raw.outputs) if name]
    if not inputs[0]:
        raise malformed(raw, "its condition is missing")
    condition = walk.constants.get(inputs[0])
    if condition is not None:
        if condition.size != 1:
            raise malformed(raw, f"its condition has {condition.size} elements")
        body = body_of(raw, "then_branch" if condition.any() else "else_branch", 0, len(raw.outputs))
        results = inside(walk, raw, body, scope.new_child(), [body.outputs[k].name for k in wanted])
        scope.update(zip((raw.outputs[k] for k in wanted), results, strict=True))
        return
    branches = [body_of(raw, key, 0, len(raw.outputs)) for key in ("then_branch", "else_branch")]
    names = [[body.outputs[k].name for k in wanted] for body in branches]
    bodies = [walked(walk, raw, body, scope, (), list_) for body, list_ in zip(branches, names, strict=True)]
    if any(problems(walk, body) for body in bodies):
        blame(walk, raw, inputs, scope, bodies)
        return
    for then, other in zip(bodies[0].outputs, bodies[1].outputs, strict=True):
        if then in walk.sequences or other in walk.sequences:
            raise open_value(walk, raw, "its condition is computed at run time, and its branches give sequences", inputs)
        if walk.types[then] != walk.types[other]:
            raise open_value(
                walk,
                raw,
                f"its condition is computed at run time, and its branches give {walk.types[then]} and {walk.types[other]}, "
                f"but a compiled step has fixed shapes",
                inputs,
            )
    shared = captures(walk, bodies)
    outputs = [walk.define(raw.outputs[k], scope) for k in wanted]
    graphs = tuple(graph_of(walk, raw.name, body, shared) for body in bodies)
    enter(walk, "If", raw.name, (inputs[0], *shared), outputs, graphs)


# -- Loop -----------------------------------------------------------------------------------------------------------


def _loop(walk: Walk, raw: RawNode, inputs: tuple[str, ...], scope: Scope) -> None:
    carried = inputs[2:]
    if "" in carried:
        raise malformed(raw, "one of the values that it carries is missing")
    body = body_of(raw, "body", len(inputs), 1 + len(carried))
    if len(raw.outputs) > len(body.outputs) - 1:
        raise malformed(raw, f"it has {len(raw.outputs)} outputs, its body gives {len(body.outputs) - 1}")
    trips = _limit(walk, raw, inputs[0])
    start = walk.constants.get(inputs[1]) if inputs[1] else np.True_
    if start is not None and not start.any():
        trips = 0
    stacked = tuple((0, False) for _ in body.outputs[1 + len(carried) :])
    form = Form(raw, body, scope, True, carried, (), trips, stacked)
    trip = inputs[0] if inputs[0] not in walk.constants and trips is None else ""
    Repeat(walk, form, trip, inputs[1] if start is None else "").run()


def _limit(walk: Walk, raw: RawNode, trip: str) -> int | None:
    """The trip count where it is a constant that bounds anything."""
    value = walk.constants.get(trip) if trip else None
    if value is None:
        return None
    if value.size != 1:
        raise malformed(raw, f"its trip count has {value.size} elements")
    found = int(value.item())
    return max(0, found) if found < _NO_BOUND else None


# -- Scan -----------------------------------------------------------------------------------------------------------


def _ways(raw: RawNode, name: str, count: int) -> tuple[int, ...]:
    found = raw.attrs.get(name) or (0,) * count
    if not isinstance(found, tuple) or len(found) != count or not all(isinstance(n, int) for n in found):
        raise malformed(raw, f"its attribute {name} is {found!r}, not {count} numbers")
    return tuple(int(n) for n in found)


def _scan(walk: Walk, raw: RawNode, inputs: tuple[str, ...], scope: Scope) -> None:
    count = raw.attrs.get("num_scan_inputs")
    if not isinstance(count, int) or not 0 < count <= len(inputs):
        raise malformed(raw, f"it has {count} scan inputs among {len(inputs)} inputs")
    if "" in inputs:
        raise malformed(raw, "one of its inputs is missing")
    states = len(inputs) - count
    body = body_of(raw, "body", len(inputs), states)
    stacked = len(body.outputs) - states
    if len(raw.outputs) > len(body.outputs):
        raise malformed(raw, f"it has {len(raw.outputs)} outputs, its body gives {len(body.outputs)}")
    axes, ways = _ways(raw, "scan_input_axes", count), _ways(raw, "scan_input_directions", count)
    scanned, lengths = [], set()
    for k, (name, axis, way) in enumerate(zip(inputs[states:], axes, ways, strict=True)):
        type_ = walk.types[name]
        if not -type_.rank <= axis < type_.rank:
            raise ShapeError(f"node '{raw.name}' (Scan): scan input {k} has no axis {axis}, it is {type_}")
        axis %= type_.rank
        lengths.add(type_.shape[axis])
        if axis:
            order = (axis, *(d for d in range(type_.rank) if d != axis))
            name = walk.add("Transpose", f"{raw.name}.in{k}", (name,), {"perm": order})
        scanned.append(Scanned(name, way == 1))
    if len(lengths) != 1:
        raise ShapeError(f"node '{raw.name}' (Scan): its scan inputs have {sorted(lengths)} slices")
    out_ways, out_axes = (_ways(raw, f"scan_output_{what}", stacked) for what in ("directions", "axes"))
    form = Form(
        raw, body, scope, False, inputs[:states], tuple(scanned), lengths.pop(),
        tuple((axis, way == 1) for axis, way in zip(out_axes, out_ways, strict=True)),
    )  # fmt: skip
    Repeat(walk, form).run()


Handler = Callable[["Walk", RawNode, tuple[str, ...], "Scope"], None]

HANDLERS: Mapping[str, Handler] = {"If": _if, "Loop": _loop, "Scan": _scan}
