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
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamrnn.errors import StatePairError
from streamrnn.ir.graph import Array, Graph, Node, State
from streamrnn.ir.types import TensorType
from streamrnn.ir.verify import infer_node, site_of, verify
from streamrnn_converters.onnx.moves import Moves, recurrences


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
        paired = {p.source for p in found}
        open_inputs = [n for n in open_inputs if n not in paired]
    traced = {(p.source, p.target_text) for p in _traced(graph, graph.inputs, graph.outputs, frozenset())}
    pairs = [replace(p, of_cell=(p.source, p.target_text) in traced) for p in pairs]
    _refuse_ambiguous(graph, open_inputs, [n for n in graph.outputs if n not in taken], frozenset(data))
    order = {name: k for k, name in enumerate(graph.inputs)}
    return sorted(pairs, key=lambda p: order[p.source])


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
    unused = graph.meta.get("unused_inputs", ())
    if isinstance(unused, list) and source in unused:
        raise StatePairError(
            f"--pair {source}={text}: no output needs input '{source}', so it is no state; leave the option out"
        )
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
    moves, order = Moves(graph), {name: k for k, name in enumerate(outputs)}
    back = moves.follow({name: _labels(i, graph.types[name]) for i, name in enumerate(inputs) if moves.takes(name)})
    links: dict[str, Links] = {}
    for node in graph.nodes:
        for source, final in recurrences(node):
            initial = node.inputs[source] if source < len(node.inputs) else ""
            if initial not in back:
                continue
            forward = moves.follow(_finals(graph, node, final))
            for output in sorted(forward.keys() & order.keys(), key=order.__getitem__):
                for k, elements, places in _linked(back[initial].reshape(-1), forward[output].reshape(-1)):
                    found = links.setdefault(inputs[k], Links.none(graph.types[inputs[k]].size))
                    found.enter(order[output], elements, places)
    return [pair for name in inputs if name in links and (pair := _whole(graph, name, links[name], outputs)) is not None]


_SPAN = 1 << 32  # more elements than any value has


def _labels(index: int, type_: TensorType) -> Array:
    return np.arange(type_.size, dtype=np.int64).reshape(type_.shape) + index * _SPAN


def _finals(graph: Graph, node: Node, final: int) -> dict[str, Array]:
    """Numbers of the elements of a node's final state, also as they stand in Y where there is one frame."""
    seeds: dict[str, Array] = {}
    if node.op == "Scan":
        name = node.outputs[final]
        return {name: _labels(0, graph.types[name])} if name else seeds
    S = graph.types[node.inputs[0]].shape[0]
    D, B, hidden = next(graph.types[name] for name in node.outputs if name).shape[-3:]
    numbers = np.arange(D * B * hidden, dtype=np.int64).reshape(D, B, hidden)
    if final < len(node.outputs) and node.outputs[final]:
        seeds[node.outputs[final]] = numbers
    if final == 1 and node.outputs[0] and S == 1:
        seeds[node.outputs[0]] = numbers[None]
    return seeds


def _linked(initial: Array, final: Array) -> Iterator[tuple[int, Array, Array]]:
    """For each input k elements of it, and where in an output they are found in the next step."""
    where = np.full(initial.size, -1, np.int64)
    held = final >= 0
    where[final[held]] = np.flatnonzero(held)
    both = (initial >= 0) & (where >= 0)
    labels, places = initial[both], where[both]
    for k in np.unique(labels // _SPAN):
        own = labels // _SPAN == k
        yield int(k), labels[own] % _SPAN, places[own]


@dataclass(frozen=True)
class Links:
    """For each element of an input the output that is its next value (a number, -1 for none) and the place in it."""

    outputs: Array
    places: Array

    @staticmethod
    def none(size: int) -> Links:
        return Links(np.full(size, -1, np.int64), np.zeros(size, np.int64))

    def enter(self, output: int, elements: Array, places: Array) -> None:
        """What is known of an element already stays; of several places the first counts."""
        new = np.flatnonzero(self.outputs[elements] < 0)[::-1]
        self.outputs[elements[new]], self.places[elements[new]] = output, places[new]


def _whole(graph: Graph, name: str, found: Links, outputs: Sequence[str]) -> Pair | None:
    """The Pair, where all elements of an input go in order into one run of rows of one output."""
    size = found.outputs.size
    if size == 0 or found.outputs[0] < 0 or (found.outputs != found.outputs[0]).any():
        return None
    output, first = outputs[int(found.outputs[0])], int(found.places[0])
    if not np.array_equal(found.places, np.arange(first, first + size)):
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
    rivals = Counter((stem(name), graph.types[name]) for name in inputs)
    stems: dict[tuple[str, TensorType], list[str]] = {}
    for name in outputs:
        stems.setdefault((stem(name), graph.types[name]), []).append(name)
    pairs = []
    for name in inputs:
        key = stem(name), graph.types[name]
        same = stems.get(key, [])
        if len(same) > 1:  # y and y_next for y_prev: the one that says "after"
            same = [o for o in same if o.lower() != key[0]]
        is_data = (name, same) == (graph.inputs[0], [graph.outputs[0]]) and not STATE_WORDS.search(key[0])
        if len(same) == 1 and rivals[key] == 1 and key[0] and name not in data and not is_data:
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
    of_type: dict[TensorType, list[str]] = {}
    for name in open_outputs:
        of_type.setdefault(graph.types[name], []).append(name)
    return {n: of_type.get(graph.types[n], []) for n in open_inputs}


def _shaped(graph: Graph, inputs: Sequence[str], outputs: Sequence[str], data: frozenset[str]) -> list[Pair]:
    table = _candidates(graph, inputs, outputs, data)
    claims = Counter(found[0] for found in table.values() if found)  # inputs of one type share the whole list
    return [Pair(n, found[0], "shape") for n, found in table.items() if len(found) == 1 and claims[found[0]] == 1]


#: open inputs that an error names, and candidates for each of them
_LISTED = 32


def _choice(names: Sequence[str]) -> str:
    more = f" or {len(names) - _LISTED} others" if len(names) > _LISTED else ""
    return " or ".join(names[:_LISTED]) + more


def _refuse_ambiguous(graph: Graph, inputs: Sequence[str], outputs: Sequence[str], data: frozenset[str]) -> None:
    table = {n: found for n, found in _candidates(graph, inputs, outputs, data).items() if found}
    if not table:
        return
    lines = [f"  {name} {graph.types[name]}: {_choice(found)}" for name, found in list(table.items())[:_LISTED]]
    lines += [f"  and {len(table) - _LISTED} more"] if len(table) > _LISTED else []
    first, found = next(iter(table.items()))
    raise StatePairError(
        "which output is the next value of which input?\n"
        + "\n".join(lines)
        + f"\nsay it with --pair, for instance --pair {first}={found[0]}; --pair {first}= says that it is no state"
    )
