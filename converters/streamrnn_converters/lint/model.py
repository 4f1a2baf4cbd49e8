"""What shows once types and states are known: states without a partner, sizes that do not fit a stream, unrolled loops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from streamrnn.ir.graph import Graph, Node
from streamrnn.ir.op import get_op
from streamrnn_converters.lint.rules import Edit, Finding, finding, listed
from streamrnn_converters.onnx.moves import CELLS, Moves
from streamrnn_converters.onnx.raw import RawInput, RawModel
from streamrnn_converters.onnx.state_map import STATE_WORDS, Pair, stem
from streamrnn_converters.passes.edit import Contents

#: repetitions of one cell that make a loop written out
_UNROLLED = 3
_PRODUCTS = frozenset({"MatMul", "Gemm", "Conv"})


def model_findings(
    model: RawModel, graph: Graph, step: Graph, pairs: Sequence[Pair], axes: Mapping[str, int], window: str = ""
) -> list[Finding]:
    """Everything that lint finds in the typed sequence graph of a file.

    graph:  with its explicit states attached, `pairs`.
    step:   what one step runs: the same graph in window mode.
    axes:   of time, in frame mode.
    window: why the model runs in window mode, "" in frame mode.
    """
    found: list[Finding] = []
    found += _lone_outputs(graph, window)
    found += _lone_inputs(graph)
    found += _other_axes(step)
    found += _unrolled(graph)
    found += _batch(model, graph, axes)
    found += _clips(model, graph, axes, window)
    found += _idle(graph, pairs)
    return found


def _cells(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op in CELLS]


# -- states ---------------------------------------------------------------------------------------------------------


def _lone_outputs(graph: Graph, window: str) -> Iterator[Finding]:
    """Final states of recurrent ops among the outputs, which no state takes."""
    alive = _alive(graph)
    taken = {state.write for state in graph.states}
    candidates = [name for name in graph.outputs[1:] if name not in taken and name in alive]
    moves = Moves(graph)
    for node in _cells(graph):
        for _, final in CELLS[node.op]:
            if final >= len(node.outputs) or not node.outputs[final]:
                continue
            numbers = moves.spread(node.outputs[final])
            for name in candidates:
                if name in numbers and (numbers[name] >= 0).all():
                    candidates = [other for other in candidates if other != name]
                    yield _lone_output(name, node, window)
    for name in candidates:
        if graph.states and STATE_WORDS.search(stem(name)):
            yield finding(
                "SR201", f"output '{name}'", "it is called a state, and no input takes it", edits=[Edit("drop", name)]
            )


def _lone_output(name: str, node: Node, window: str) -> Finding:
    edits = [Edit("drop", name)]
    where, what = f"output '{name}'", f"it is the final state of node '{node.name}' ({node.op}), and no input takes it"
    if not window:
        return finding("SR201", where, f"{what}; the stream carries that state itself", level="note", edits=edits)
    return finding("SR201", where, f"{what}: each call starts anew", edits=edits)


def _lone_inputs(graph: Graph) -> Iterator[Finding]:
    moves = Moves(graph)
    for k, name in enumerate(graph.inputs):
        taker = next((node for node, _ in moves.begins(moves.spread(name)) if node.op in CELLS), None)
        if taker is not None:
            text = f"it is the initial state of node '{taker.name}' ({taker.op}), and no output is its next value"
            yield finding("SR202", f"input '{name}'", text)
        elif k and STATE_WORDS.search(stem(name)) and (graph.states or len(stem(name)) > 1):
            yield finding("SR202", f"input '{name}'", "it is called a state, and no output is its next value")


# -- recurrence -----------------------------------------------------------------------------------------------------


def _length(graph: Graph, node: Node) -> int:
    return graph.types[node.inputs[0]].shape[0]


def _other_axes(step: Graph) -> Iterator[Finding]:
    """Recurrent ops whose sequence axis lies inside one step."""
    if not step.streams and not step.states:
        return  # then it is the time of the clip
    streams = ((node, step.streams.get(node.inputs[0])) for node in _cells(step) if _length(step, node) > 1)
    inside = [node for node, stream in streams if stream is None or stream.axis != 0]
    if inside:
        sizes = sorted({_length(step, node) for node in inside})
        text = f"runs along an axis of {' or '.join(map(str, sizes))} elements of one step; nothing of it is carried"
        yield finding("SR102", listed("node", [node.name for node in inside]), text)


def _unrolled(graph: Graph) -> Iterator[Finding]:
    """Weights that are applied to what they gave, several times. An exporter may have cut them out anew each time."""
    rerolled = graph.meta.get("rerolled")
    if isinstance(rerolled, list):
        frames = " and ".join(map(str, dict.fromkeys(rerolled)))
        text = f"a recurrence is written out over {frames} frames; frame mode runs it as the loop that it was"
        yield finding("SR103", "model", text, level="note", remedy="nothing; window mode runs it as it is written")
    contents = Contents(graph.constants)
    users: dict[object, list[Node]] = {}
    for node in graph.nodes:
        weights = contents.of(_weights(node))
        if weights is not None:
            users.setdefault((node.op, weights), []).append(node)
    for nodes in users.values():
        if len(nodes) >= _UNROLLED and _chain(graph, nodes) >= _UNROLLED:
            text = f"{len(nodes)} nodes ({nodes[0].op}) apply it one behind the other, '{nodes[0].name}' first"
            yield finding("SR103", f"tensor '{_weights(nodes[0])}'", text)
            return  # the other weights of the same cell say the same


def _weights(node: Node) -> str:
    return node.inputs[2] if node.op in CELLS else node.inputs[1] if node.op in _PRODUCTS else ""


def _chain(graph: Graph, nodes: Sequence[Node]) -> int:
    """How often `nodes` are applied one behind the other, each time with something new of the input in between: layers that
    share their weights have nothing new."""
    wanted = {node.name for node in nodes}
    alive = _alive(graph)
    depth: dict[str, int] = {}
    fresh: dict[int, set[str]] = {}
    for node in graph.nodes:
        before = max((depth.get(name, 0) for name in node.inputs), default=0)
        if before:
            fresh.setdefault(before, set()).update(n for n in node.inputs if n in alive and not depth.get(n, 0))
        for name in node.outputs:
            depth[name] = before + (node.name in wanted)
    seen: set[str] = set()
    count = 0
    for level in sorted(fresh):
        count += bool(fresh[level] - seen)
        seen |= fresh[level]
    return count


# -- sizes ----------------------------------------------------------------------------------------------------------


def _batch(model: RawModel, graph: Graph, axes: Mapping[str, int]) -> Iterator[Finding]:
    """A size above 1 that all inputs share on an axis other than time, and that is the batch of every recurrent op."""
    live = [name for name in (*graph.inputs, *(s.read for s in graph.states)) if len(graph.types[name].shape) > 1]
    declared = {i.name: i for i in model.inputs}
    inputs = [declared[name] for name in live if name in declared]
    if not inputs:
        return
    for size in dict.fromkeys(dim for dim in inputs[0].dims if isinstance(dim, int) and dim > 1):
        places = {i.name: _axis(i, size, axes.get(i.name)) for i in inputs}
        if None in places.values() or not _is_batch(graph, places, size):
            continue
        edits = [Edit("resize", name, (axis, 1)) for name, axis in places.items()]
        where = listed("input", list(places))
        text = f"axis {', '.join(map(str, dict.fromkeys(places.values())))} has the fixed size {size}"
        yield finding("SR301", where, text, edits=edits)
        return


def _axis(declared: RawInput, size: int, time: int | None) -> int | None:
    found = (
        axis for axis, dim in enumerate(declared.dims) if dim == size and (time is None or axis != time % len(declared.dims))
    )
    return next(found, None)


def _is_batch(graph: Graph, places: Mapping[str, int | None], size: int) -> bool:
    cells = _cells(graph)
    if cells:
        return all(graph.types[node.inputs[0]].shape[1] == size for node in cells)
    first = set(places.values()) == {0} and all(graph.types[n].shape[:1] == (size,) for n in graph.outputs)
    return first and bool(graph.states)


def _clips(model: RawModel, graph: Graph, axes: Mapping[str, int], window: str) -> Iterator[Finding]:
    declared = {i.name: i.dims for i in model.inputs}
    if not window:
        dims = ((name, declared[name][axis]) for name, axis in axes.items() if declared[name])
        fixed = {name: dim for name, dim in dims if isinstance(dim, int) and dim > 1}
        for name, dim in list(fixed.items())[:1]:
            yield finding("SR303", f"input '{name}'", f"it holds clips of {dim} frames")
        regrids = [node.name for node in graph.nodes if get_op(node).regrids]
        if regrids:
            yield finding("SR304", listed("node", regrids), "its grid comes from the frames of a step, not from the clip")
        return
    cells = [node for node in _cells(graph) if _length(graph, node) > 1]
    if cells and not graph.states:
        lengths = ", ".join(str(n) for n in sorted({_length(graph, node) for node in cells}))
        text = f"each call runs over {lengths} frames and forgets them; frame mode: {window.splitlines()[0]}"
        yield finding("SR302", listed("node", [node.name for node in cells]), text)


# -- what is idle ---------------------------------------------------------------------------------------------------


def _alive(graph: Graph) -> set[str]:
    """Values that depend on an input or a state."""
    alive = {*graph.inputs, *(state.read for state in graph.states)}
    for node in graph.nodes:
        if alive.intersection(node.inputs):
            alive.update(node.outputs)
    return alive


def _idle(graph: Graph, pairs: Sequence[Pair]) -> Iterator[Finding]:
    alive = _alive(graph)
    constant = [name for name in graph.outputs if name not in alive]
    rest = [name for name in graph.outputs if name in alive]
    if constant:
        kept = ",".join((*rest, *dict.fromkeys(pair.target for pair in pairs)))
        remedy = f"leave them out: --outputs {kept}" if rest else ""
        yield finding("SR504", listed("output", constant), "always the same", remedy=remedy)
    unused = graph.meta.get("unused_inputs")
    if isinstance(unused, list) and unused:
        yield finding("SR505", listed("input", unused), "no output depends on them")
