"""Which output of a step model is the next value of which input: the state map.

No naming rule covers real files, so pairs are looked for in this order, each with its evidence:

    given   the user says so (`pair=`)
    traced  the initial state of a recurrent node comes from the input, its final state goes to the output, element for
            element, through ops that only move data
    name    the names differ by a word like in/out, by N, n or a number, and the types agree (the first input and the first
            output pair only under a name for memory: spec_in and spec_out are data); or several outputs are named like
            several inputs, all with the same letters added: h, c and h2, c2
    shape   exactly one input and one output of that type are left (the first input and the first output, and whatever has
            a time axis, are data)

What stays open is an error that lists the candidates; nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamrnn.errors import ShapeError, StatePairError, UnsupportedError
from streamrnn.ir.graph import Array, Graph, Node, State
from streamrnn.ir.op import get_op
from streamrnn.ir.types import TensorType
from streamrnn.ir.verify import infer_node, site_of, verify

#: ops that move elements and compute nothing
MOVES = frozenset(
    {"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice", "Split", "Gather", "Concat"}
    | {"ScatterND", "ScatterElements"}
)  # fmt: skip
CELLS: Mapping[str, Sequence[tuple[int, int]]] = {
    "LSTM": ((5, 1), (6, 2)),
    "GRU": ((5, 1),),
    "RNN": ((5, 1),),
    "DynamicQuantizeLSTM": ((5, 1), (6, 2)),
}


def recurrences(node: Node) -> Sequence[tuple[int, int]]:
    """(input, output) of a node for each value that goes round in it: what it begins with, and what that is in the end."""
    if node.op == "Scan":
        return [(k, k) for k in range(int(str(node.attrs.get("states", 0))))]
    return CELLS.get(node.op, ())


@dataclass(frozen=True)
class Pair:
    """State input `source` takes `target`, or rows start .. stop of it on axis 0, at the next step.

    of_cell: whether it is the state of a recurrent node, element for element; only such a state may advance frame by frame.
    """

    source: str
    target: str
    evidence: str
    start: int | None = None
    stop: int | None = None
    of_cell: bool = False

    @property
    def target_text(self) -> str:
        return self.target if self.start is None else f"{self.target}[{self.start}:{self.stop}]"


def find_pairs(graph: Graph, given: Mapping[str, str], data: Iterable[str] = ()) -> list[Pair]:
    """The state map of a typed graph whose inputs and outputs are those of the file.

    given: {"state": "stateN"}, {"h1": "packed[0:1]"}; {"x": ""} says that x is no state.
    data:  inputs and outputs that have a time axis.

    Raises StatePairError where a given pair does not fit or the rest is ambiguous.
    """
    pairs = [_given(graph, source, text) for source, text in given.items() if text]
    open_inputs = [n for n in graph.inputs if n not in given]
    taken = {p.target for p in pairs if p.start is None}
    for find in (_traced, _named, _affixed, _shaped):
        outputs = [n for n in graph.outputs if n not in taken]
        found = find(graph, open_inputs, outputs, frozenset(data))
        pairs += found
        taken |= {p.target for p in found}
        open_inputs = [n for n in open_inputs if n not in {p.source for p in found}]
    traced = {(p.source, p.target_text) for p in _traced(graph, graph.inputs, graph.outputs, frozenset())}
    pairs = [replace(p, of_cell=(p.source, p.target_text) in traced) for p in pairs]
    _refuse_ambiguous(graph, open_inputs, [n for n in graph.outputs if n not in taken], frozenset(data))
    return sorted(pairs, key=lambda p: graph.inputs.index(p.source))


def attach_states(graph: Graph, pairs: Sequence[Pair]) -> Graph:
    """The graph with its paired inputs and outputs turned into states. Where nothing but state outputs is left, they stay
    outputs as well."""
    nodes, types, constants = list(graph.nodes), dict(graph.types), dict(graph.constants)
    states = []
    for pair in pairs:
        type_ = types[pair.source]
        write = pair.target
        if pair.start is not None:
            write = f"{pair.source}.next"
            bounds = [np.array([v], np.int64) for v in (pair.start, pair.stop, 0)]
            names = [f"{write}.{part}" for part in ("start", "stop", "axis", "shape")]
            for name, value in zip(names, [*bounds, np.array(type_.shape, np.int64)], strict=True):
                constants[name] = value
                types[name] = TensorType.of(value)
            rows = Node("Slice", f"{write}.rows", (pair.target, *names[:3]), (f"{write}.rows",))
            shaped = Node("Reshape", write, (f"{write}.rows", names[3]), (write,))
            nodes += [rows, shaped]
            for node in (rows, shaped):
                infer_node(types, site_of(graph.replace(types=types, constants=constants), node))
        init = np.zeros(type_.shape, type_.dtype.numpy)
        states.append(State(pair.source, pair.source, write, init, "explicit", pair.evidence))
    sources = {p.source for p in pairs}
    targets = {p.target for p in pairs}
    outputs = tuple(n for n in graph.outputs if n not in targets) or graph.outputs
    return verify(
        graph.replace(
            nodes=tuple(nodes),
            types=types,
            constants=constants,
            inputs=tuple(n for n in graph.inputs if n not in sources),
            outputs=outputs,
            states=(*graph.states, *states),
        )
    )


def _given(graph: Graph, source: str, text: str) -> Pair:
    match = re.fullmatch(r"(.+?)(?:\[(\d+):(\d+)\])?", text)
    target = match[1] if match else text
    for name, known, kind in ((source, graph.inputs, "input"), (target, graph.outputs, "output")):
        if name not in known:
            raise StatePairError(f"--pair {source}={text}: there is no {kind} '{name}'; there are {list(known)}")
    assert match is not None
    into, out = graph.types[source], graph.types[target]
    if match[2] is None:
        if into != out:
            raise StatePairError(f"--pair {source}={text}: input is {into}, output is {out}; a state keeps its type")
        return Pair(source, target, "given")
    start, stop = int(match[2]), int(match[3])
    rows = out.shape[0] if out.rank else 0
    if not 0 <= start < stop <= rows or (stop - start) * (out.size // max(1, rows)) != into.size:
        raise StatePairError(f"--pair {source}={text}: rows {start}:{stop} of {out} are not {into}")
    return Pair(source, target, "given", start, stop)


# -- traced -------------------------------------------------------------------------------------------------------


def _traced(graph: Graph, inputs: Sequence[str], outputs: Sequence[str], data: frozenset[str]) -> list[Pair]:
    """Follow every element of a state input into a recurrent node's initial state, and of its final state to an output.

    Elements are followed by running the moving ops on arrays of element numbers.
    """
    small = {n: (i, graph.types[n]) for i, n in enumerate(inputs) if graph.types[n].size <= MAX_FOLLOWED}
    back = element_numbers(graph, {name: _labels(*labelled) for name, labelled in small.items()})
    links: dict[str, dict[int, tuple[str, int]]] = {}
    for node in graph.nodes:
        for source, final in recurrences(node):
            initial = node.inputs[source] if source < len(node.inputs) else ""
            if initial not in back:
                continue
            forward = element_numbers(graph, _finals(graph, node, final))
            for output in outputs:
                if output in forward:
                    _link(back[initial].reshape(-1), forward[output].reshape(-1), output, inputs, links)
    return [pair for name in inputs if (pair := _whole(graph, name, links.get(name, {}))) is not None]


#: values with more elements are not followed through a graph
MAX_FOLLOWED = 1 << 20
_SPAN = 1 << 32  # more elements than any value has


def _labels(index: int, type_: TensorType) -> Array:
    return np.arange(type_.size, dtype=np.int64).reshape(type_.shape) + index * _SPAN


def _finals(graph: Graph, node: Node, final: int) -> dict[str, Array]:
    """Numbers of the elements of a node's final state, also as they stand in Y where there is one frame."""
    seeds: dict[str, Array] = {}
    if node.op == "Scan":
        name = node.outputs[final]
        return {name: _labels(0, graph.types[name])} if name else seeds
    S, B, _ = graph.types[node.inputs[0]].shape
    D, _, hidden = graph.types[node.inputs[2]].shape
    numbers = np.arange(D * B * hidden, dtype=np.int64).reshape(D, B, hidden)
    if final < len(node.outputs) and node.outputs[final]:
        seeds[node.outputs[final]] = numbers
    if final == 1 and node.outputs[0] and S == 1:
        seeds[node.outputs[0]] = numbers[None]
    return seeds


def moved_inputs(node: Node) -> Collection[int]:
    """Which inputs of a moving op its elements come from."""
    return range(len(node.inputs)) if node.op == "Concat" else (0, 2) if node.op.startswith("Scatter") else (0,)


def element_numbers(graph: Graph, seeds: Mapping[str, Array]) -> dict[str, Array]:
    """Element numbers of all values that moving ops make of `seeds`; -1 for elements from elsewhere. Very large values are not
    followed."""
    known = {name: numbers for name, numbers in seeds.items() if numbers.size <= MAX_FOLLOWED}
    for node in graph.nodes:
        if node.op not in MOVES or not any(n in known for n in node.inputs):
            continue
        if any(graph.types[name].size > MAX_FOLLOWED for name in (*node.inputs, *node.outputs) if name):
            continue
        site = site_of(graph, node)
        moved = moved_inputs(node)
        arrays = [
            known.get(name, np.full(graph.types[name].shape, -1, np.int64)) if name and k in moved else graph.const(name)
            for k, name in enumerate(node.inputs)
        ]
        if any(name and array is None for name, array in zip(node.inputs, arrays, strict=True)):
            continue  # indices that are computed at run time
        try:
            values = get_op(node).reference(site, *arrays)
        except (ShapeError, UnsupportedError, TypeError, ValueError):
            continue
        known.update({n: v for n, v in zip(node.outputs, values, strict=False) if n})
    return known


def spread(graph: Graph, name: str) -> dict[str, Array]:
    """Where the elements of a value are moved to: arrays of element numbers, -1 for elements from elsewhere."""
    type_ = graph.types[name]
    if type_.size > MAX_FOLLOWED:
        return {}
    return element_numbers(graph, {name: np.arange(type_.size, dtype=np.int64).reshape(type_.shape)})


def _link(
    initial: Array, final: Array, output: str, inputs: Sequence[str], links: dict[str, dict[int, tuple[str, int]]]
) -> None:
    """Enter: element e of input i becomes element j of `output`."""
    where = {int(number): j for j, number in enumerate(final) if number >= 0}
    for position, label in enumerate(initial):
        if label >= 0 and position in where:
            name, element = inputs[int(label) // _SPAN], int(label) % _SPAN
            links.setdefault(name, {}).setdefault(element, (output, where[position]))


def _whole(graph: Graph, name: str, found: Mapping[int, tuple[str, int]]) -> Pair | None:
    """The Pair, where all elements of an input go in order into one run of rows of one output."""
    size = graph.types[name].size
    if size == 0 or len(found) != size or len({output for output, _ in found.values()}) != 1:
        return None
    output, first = found[0]
    if any(found[e] != (output, first + e) for e in range(size)):
        return None
    type_ = graph.types[output]
    if first == 0 and type_ == graph.types[name]:
        return Pair(name, output, "traced")
    row = type_.size // type_.shape[0]
    if first % row or size % row:
        return None
    return Pair(name, output, "traced", first // row, (first + size) // row)


# -- name and shape ------------------------------------------------------------------------------------------------

#: what a state is called; spec_in and spec_out, first input and first output, are data although their names pair
STATE_WORDS = re.compile(r"state|hidden|cell|cache|mem|ctx|context|recurrent|buffer|^h|^c|^s$")
_WORDS = re.compile(r"(?<![a-z])(in|out|input|output|prev|previous|next|new|old|init|initial|final|last|t|n)(?![a-z])")


def stem(name: str) -> str:
    """What is left of a name without the words that tell before from after: cache_in_3 and cache_out_3 share one stem,
    so do state and stateN, h and hn, h0 and h_n, hidden.1 and hidden, X and X_out."""
    text = re.sub(r"(?<=[a-z])N$", "", name).lower()
    text = re.sub(r"^([hc])[n0]$", r"\1", text)
    text = re.sub(r"[.:]\d+$", "", text)
    text = _WORDS.sub("", text.replace("_", " "))
    text = re.sub(r"^\s*([hc])\s*0\s*$", r"\1", text)
    return " ".join(text.split())


def _named(graph: Graph, inputs: Sequence[str], outputs: Sequence[str], data: frozenset[str]) -> list[Pair]:
    pairs = []
    for name in inputs:
        same = [o for o in outputs if stem(o) == stem(name) and graph.types[o] == graph.types[name]]
        if len(same) > 1:  # y and y_next for y_prev: the one that says "after"
            same = [o for o in same if o.lower() != stem(o)]
        rivals = [n for n in inputs if stem(n) == stem(name) and graph.types[n] == graph.types[name]]
        is_data = (name, same) == (graph.inputs[0], [graph.outputs[0]]) and not STATE_WORDS.search(stem(name))
        if len(same) == 1 and len(rivals) == 1 and stem(name) and name not in data and not is_data:
            pairs.append(Pair(name, same[0], "name"))
    return pairs


def _affixed(graph: Graph, inputs: Sequence[str], outputs: Sequence[str], data: frozenset[str]) -> list[Pair]:
    """Two pairs or more that one and the same prefix or suffix makes; none where another one makes pairs as well."""
    made: dict[tuple[str, str], list[Pair]] = {}
    for name, candidates in _candidates(graph, inputs, outputs, data).items():
        for output in candidates:
            pair = Pair(name, output, "name")
            if output.startswith(name):
                made.setdefault(("", output.removeprefix(name)), []).append(pair)
            if output.endswith(name):
                made.setdefault((output.removesuffix(name), ""), []).append(pair)
    several = [pairs for pairs in made.values() if len(pairs) > 1]
    return several[0] if len(several) == 1 else []


def _candidates(graph: Graph, inputs: Sequence[str], outputs: Sequence[str], data: frozenset[str]) -> dict[str, list[str]]:
    """For each open input that may be a state, the outputs of its type. First input, first output and what has a time
    axis are data."""
    open_inputs = [n for n in inputs if n != graph.inputs[0] and n not in data]
    open_outputs = [n for n in outputs if n != graph.outputs[0] and n not in data]
    return {n: [o for o in open_outputs if graph.types[o] == graph.types[n]] for n in open_inputs}


def _shaped(graph: Graph, inputs: Sequence[str], outputs: Sequence[str], data: frozenset[str]) -> list[Pair]:
    table = _candidates(graph, inputs, outputs, data)
    claims = [o for found in table.values() for o in found]
    return [Pair(n, found[0], "shape") for n, found in table.items() if len(found) == 1 and claims.count(found[0]) == 1]


def _refuse_ambiguous(graph: Graph, inputs: Sequence[str], outputs: Sequence[str], data: frozenset[str]) -> None:
    table = {n: found for n, found in _candidates(graph, inputs, outputs, data).items() if found}
    if not table:
        return
    lines = [f"  {name} {graph.types[name]}: {' or '.join(found)}" for name, found in table.items()]
    first, found = next(iter(table.items()))
    raise StatePairError(
        "which output is the next value of which input?\n"
        + "\n".join(lines)
        + f"\nsay it with --pair, for instance --pair {first}={found[0]}; --pair {first}= says that it is no state"
    )
