"""Small rewrites that take out what exporters leave behind, run until nothing changes.

`REWRITES` is the list. A rewrite looks at one node and says what it becomes: other nodes, or one of its inputs (an alias), or
nothing. It changes no value of an output beyond the sign of a zero. What nothing reads any more disappears.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from streamrnn.errors import GraphError
from streamrnn.ir.graph import Array, Attr, Graph, Node, Stage
from streamrnn.ir.op import Site
from streamrnn.ir.types import TensorType
from streamrnn.ir.verify import infer_node, verify
from streamrnn_converters.names import Names
from streamrnn_converters.passes.edit import everywhere, live_nodes, renamed


@dataclass(frozen=True)
class Replacement:
    """What a node becomes: `nodes`, the last of which gives the node's output, or, without nodes, the value `alias`."""

    nodes: tuple[Node, ...] = ()
    constants: Mapping[str, Array] = field(default_factory=dict)
    alias: str = ""


class View:
    """What a rewrite may ask: everything in front of the node it looks at, as it is by then."""

    def __init__(self, graph: Graph) -> None:
        self.types = dict(graph.types)
        self.constants = dict(graph.constants)
        self.makers: dict[str, Node] = {}
        self.names = Names(graph.types)
        self.node_names = Names(node.name for node in graph.nodes)
        self.uses = Counter(name for node in graph.nodes for name in node.inputs)
        self.uses.update(graph.results())

    def maker(self, name: str, *ops: str) -> Node | None:
        """The node that computes `name` where it is one of `ops`."""
        node = self.makers.get(name)
        return node if node is not None and node.op in ops else None

    def const(self, node: Node, index: int) -> Array | None:
        """Input `index` of `node` where it is a constant."""
        return self.constants.get(node.inputs[index]) if given(node, index) else None

    def site(self, node: Node) -> Site:
        return Site(
            node,
            tuple(self.types[name] if name else None for name in node.inputs),
            tuple(self.constants.get(name) if name else None for name in node.inputs),
        )

    def unchanged(self, node: Node) -> bool:
        """Whether output 0 has the type of input 0."""
        return self.types[node.outputs[0]] == self.types[node.inputs[0]]


Rewrite = Callable[[View, Node], Replacement | None]


def declutter(graph: Graph) -> Graph:
    """The same model with fewer nodes. Raises GraphError."""
    return rewritten(graph, REWRITES)


def rewritten(graph: Graph, rewrites: Sequence[Rewrite]) -> Graph:
    """The graph, and the bodies in it, after `rewrites` until nothing changes, verified after each that changed something.
    Raises GraphError."""

    @everywhere
    def run(graph: Graph) -> Graph:
        if graph.stage is Stage.STEP:
            raise GraphError(f"graph '{graph.name}' is at stage {graph.stage.value}; declutter runs before streamify")
        changed = True
        while changed:
            changed = False
            for rewrite in rewrites:
                new = sweep(graph, rewrite)
                if new is not None:
                    graph, changed = verify(new), True
        return graph

    return run(graph)


# -- rewrites -------------------------------------------------------------------------------------------------------


def given(node: Node, index: int) -> bool:
    """Whether input `index` is there."""
    return index < len(node.inputs) and bool(node.inputs[index])


def permutation(view: View, node: Node) -> tuple[int, ...]:
    """The axes of a Transpose; reversed where it names none."""
    rank = view.types[node.inputs[0]].rank
    return view.site(node).attr_ints("perm", range(rank)[::-1])


def _all(array: Array | None, value: float) -> bool:
    return array is not None and bool((array == value).all())


def _whole(view: View, node: Node) -> bool:
    """A Slice that takes everything, forwards."""
    return view.unchanged(node) and (not given(node, 4) or _all(view.const(node, 4), 1))


def _single(view: View, node: Node) -> bool:
    return len(node.inputs) == 1


_NO_OPS: Mapping[str, Callable[[View, Node], bool]] = {
    "Identity": _single,
    "Transpose": lambda view, node: permutation(view, node) == tuple(range(view.types[node.inputs[0]].rank)),
    "Reshape": View.unchanged,
    "Flatten": View.unchanged,
    "Squeeze": View.unchanged,
    "Unsqueeze": View.unchanged,
    "Expand": View.unchanged,
    "Tile": View.unchanged,
    "Cast": View.unchanged,
    "Split": lambda view, node: len(node.outputs) == 1 and view.unchanged(node),
    "Slice": _whole,
    "Pad": lambda view, node: view.unchanged(node) and _all(view.const(node, 1), 0),
    "Concat": _single,
    "Sum": _single,
    "Max": _single,
    "Min": _single,
    "Mean": _single,
    "Clip": lambda view, node: not given(node, 1) and not given(node, 2),
}


def no_op(view: View, node: Node) -> Replacement | None:
    """Ops that give their input back."""
    test = _NO_OPS.get(node.op)
    return Replacement(alias=node.inputs[0]) if test is not None and test(view, node) else None


#: op -> (neutral element, inputs that may hold it)
_NEUTRAL: Mapping[str, tuple[float, tuple[int, ...]]] = {
    "Add": (0, (0, 1)), "Sub": (0, (1,)), "Mul": (1, (0, 1)), "Div": (1, (1,)), "Pow": (1, (1,)),
}  # fmt: skip


def neutral_constant(view: View, node: Node) -> Replacement | None:
    """x + 0, x - 0, x * 1, x / 1, x ** 1."""
    value, places = _NEUTRAL.get(node.op, (0, ()))
    for index in places:
        other = node.inputs[1 - index]
        if _all(view.const(node, index), value) and view.types[other] == view.types[node.outputs[0]]:
            return Replacement(alias=other)
    return None


def known_choice(view: View, node: Node) -> Replacement | None:
    """A Where that always takes the same side, of the shape of the result."""
    condition = view.const(node, 0) if node.op == "Where" else None
    if condition is None or condition.size == 0 or condition.any() != condition.all():
        return None
    taken = node.inputs[1 if condition.all() else 2]
    return Replacement(alias=taken) if view.types[taken] == view.types[node.outputs[0]] else None


def cast_like(view: View, node: Node) -> Replacement | None:
    """A CastLike is a Cast, which does not read the value whose type it takes."""
    if node.op != "CastLike":
        return None
    attrs: dict[str, Attr] = {"to": view.types[node.inputs[1]].dtype.value}
    return Replacement((replace(node, op="Cast", inputs=node.inputs[:1], attrs=attrs),))


def merged_transposes(view: View, node: Node) -> Replacement | None:
    """Two Transposes in a row are one."""
    inner = view.maker(node.inputs[0], "Transpose") if node.op == "Transpose" else None
    if inner is None:
        return None
    first = permutation(view, inner)
    perm = tuple(first[axis] for axis in permutation(view, node))
    return Replacement((replace(node, inputs=inner.inputs, attrs={"perm": perm}),))


_RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def merged_reshapes(view: View, node: Node) -> Replacement | None:
    """Two ops in a row that only change the shape cancel each other, or are one Reshape."""
    inner = view.maker(node.inputs[0], *_RESHAPES) if node.op in _RESHAPES else None
    if inner is None:
        return None
    source, result = inner.inputs[0], view.types[node.outputs[0]]
    if view.types[source] == result:
        return Replacement(alias=source)
    # a Squeeze or Unsqueeze says which axis is meant, where a Reshape leaves several readings
    if not {node.op, inner.op} <= {"Reshape", "Flatten"} or result.size == 0:
        return None
    shape = view.names.fresh(f"{node.name}.shape")
    merged = Node("Reshape", node.name, (source, shape), node.outputs)
    return Replacement((merged,), {shape: np.array(result.shape, np.int64)})


def softmax_between_reshapes(view: View, node: Node) -> Replacement | None:
    """Softmax over rows of a reshaped tensor (the Softmax of opsets before 13) where a row is one axis of that tensor."""
    inner = view.maker(node.inputs[0], "Softmax", "LogSoftmax", "Hardmax") if node.op in _RESHAPES else None
    outer = view.maker(inner.inputs[0], *_RESHAPES) if inner is not None else None
    if inner is None or outer is None or view.uses[inner.outputs[0]] != 1:
        return None
    source, flat = view.types[outer.inputs[0]], view.types[inner.inputs[0]]
    axis = max((d for d, size in enumerate(source.shape) if size != 1), default=source.rank - 1)
    over = view.site(inner).attr_int("axis", -1) % flat.rank if flat.rank else -1
    if source != view.types[node.outputs[0]] or over != flat.rank - 1 or axis < 0 or source.shape[axis] != flat.shape[-1]:
        return None
    attrs: dict[str, Attr] = {**inner.attrs, "axis": axis}
    return Replacement((replace(inner, inputs=outer.inputs[:1], outputs=node.outputs, attrs=attrs),))


def pad_into_conv(view: View, node: Node) -> Replacement | None:
    """Zeros that a Pad puts around the spatial axes in front of a Conv are the Conv's own padding."""
    pad = view.maker(node.inputs[0], "Pad") if node.op == "Conv" else None
    if pad is None or view.site(node).attr_str("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    rank = view.types[node.inputs[0]].rank
    added = _zeros_around(view, pad, rank)
    if added is None or any((*added[:2], *added[rank : rank + 2])):
        return None
    spatial = (*added[2:rank], *added[rank + 2 :])
    own = view.site(node).attr_ints("pads", (0,) * len(spatial))
    attrs = {key: value for key, value in node.attrs.items() if key != "auto_pad"}
    attrs["pads"] = tuple(a + b for a, b in zip(own, spatial, strict=True))
    return Replacement((replace(node, inputs=(pad.inputs[0], *node.inputs[1:]), attrs=attrs),))


def _zeros_around(view: View, pad: Node, rank: int) -> tuple[int, ...] | None:
    """What a Pad adds, in front of each axis and then behind it, where it adds zeros that are known; else None."""
    amounts, site = view.const(pad, 1), view.site(pad)
    zero = not given(pad, 2) or _all(view.const(pad, 2), 0)
    if amounts is None or not zero or site.attr_str("mode", "constant") != "constant" or (amounts < 0).any():
        return None
    axes = view.const(pad, 3) if given(pad, 3) else np.arange(rank)
    if axes is None:
        return None
    full = np.zeros((2, rank), np.int64)
    full[:, [site.axis(int(axis), rank) for axis in axes]] = amounts.reshape(2, -1)
    return tuple(int(n) for n in full.reshape(-1))


def pad_of_concat(view: View, node: Node) -> Replacement | None:
    """A Concat of one value and of constants that are the same number throughout is a Pad: over time that is a start with
    frames of silence, in front of a Conv it is the Conv's own padding."""
    live = [k for k, name in enumerate(node.inputs) if name not in view.constants]
    if node.op != "Concat" or len(live) != 1 or len(node.inputs) < 2:
        return None
    around = [view.constants[name] for name in node.inputs if name in view.constants]
    numbers = np.concatenate([array.reshape(-1) for array in around])
    if numbers.size == 0 or not (numbers == numbers[0]).all():
        return None
    source = node.inputs[live[0]]
    axis = view.site(node).axis(view.site(node).attr_int("axis", 0), view.types[source].rank)
    pads = np.zeros((2, view.types[source].rank), np.int64)
    for k, name in enumerate(node.inputs):
        if k != live[0]:
            pads[int(k > live[0]), axis] += view.types[name].shape[axis]
    amounts, value = (view.names.fresh(f"{node.name}.{part}") for part in ("pads", "value"))
    pad = Node("Pad", node.name, (source, amounts, value), node.outputs)
    return Replacement((pad,), {amounts: pads.reshape(-1), value: numbers[:1].reshape(())})


REWRITES: tuple[Rewrite, ...] = (
    cast_like,
    no_op,
    neutral_constant,
    known_choice,
    merged_transposes,
    softmax_between_reshapes,
    merged_reshapes,
    pad_of_concat,
    pad_into_conv,
)


# -- applying them --------------------------------------------------------------------------------------------------


def sweep(graph: Graph, rewrite: Rewrite) -> Graph | None:
    """One rewrite tried on every node, in order; None where nothing changed. Not verified."""
    view = View(graph)
    results = set(graph.results())
    aliases: dict[str, str] = {}  # value -> the value that stands for it, for nodes still to come
    kept_names: dict[str, str] = {}  # value -> the result that it is, for all nodes
    nodes: list[Node] = []
    changed = False
    for old in graph.nodes:
        node = renamed(old, aliases)
        found = rewrite(view, node)
        if found is not None and not found.nodes:
            found = _alias(view, node, found.alias, results, aliases, kept_names)
        changed = changed or found is not None
        for new in (node,) if found is None else found.nodes:
            _enter(view, new, found)
            nodes.append(new)
    kept = live_nodes([renamed(node, kept_names) for node in nodes], results)
    if not changed and len(kept) == len(graph.nodes):
        return None
    used = {name for node in kept for name in (*node.inputs, *node.outputs)} | results | set(graph.inputs)
    used |= {state.read for state in graph.states}
    types: dict[str, TensorType] = {kept_names.get(name, name): type_ for name, type_ in view.types.items()}
    return graph.replace(
        nodes=tuple(kept),
        types={name: type_ for name, type_ in types.items() if name in used},
        constants={name: array for name, array in view.constants.items() if name in used},
    )


def _alias(
    view: View, node: Node, value: str, results: set[str], aliases: dict[str, str], kept_names: dict[str, str]
) -> Replacement | None:
    """Let `value` stand for the output of `node`. A result keeps its name: the value takes it where it can, and where it
    cannot, because it has to keep its own, an Identity stays."""
    out = node.outputs[0]
    if out not in results:
        aliases[out] = value
        return Replacement()
    if value in view.makers and value not in results and value not in kept_names:
        kept_names[value] = out
        aliases[out] = value
        return Replacement()
    if node.op == "Identity":
        return None
    return Replacement((Node("Identity", node.name, (value,), (out,)),))


def _enter(view: View, node: Node, found: Replacement | None) -> None:
    if found is not None:
        view.constants.update(found.constants)
        view.types.update((name, TensorType.of(array)) for name, array in found.constants.items())
        infer_node(view.types, view.site(node))
    view.makers.update((name, node) for name in node.outputs if name)
