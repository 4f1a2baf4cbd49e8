"""RawModel -> Graph: one forward walk that types every node and computes what does not depend on the inputs.

In topological order: a node whose inputs are all constants is replaced by its value, which the op's own `reference` gives;
Shape and its like are constants as soon as the type is known; an If on a constant is replaced by the chosen branch, walked in
turn, and the other branch is never looked at; Identity is a change of name; bodies of other control ops are walked like the
graph around them (`control`), sequences are lists that exist during the walk alone (`sequences`), weights of 8 bits that a
product reads stay as the file stores them (`stored`). Everything else is typed by the op's `infer`.

What goes wrong at a node counts only if an output needs that node. So failures are collected on the way and judged at the end.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

import streamrnn.ops  # noqa: F401  fills the op table
from streamrnn.errors import BindingError, ModelFileError, OpenValueError, ShapeError, StreamRNNError, UnsupportedError
from streamrnn.ir.graph import Array, Attr, Graph, Node, Stage
from streamrnn.ir.op import Op, Site, find_op
from streamrnn.ir.types import DType, TensorType
from streamrnn.ir.verify import verify
from streamrnn_converters.names import Names
from streamrnn_converters.onnx.raw import RawGraph, RawModel, RawNode, reads
from streamrnn_converters.passes import control, half, sequences, stored
from streamrnn_converters.passes.edit import live_nodes, renamed
from streamrnn_converters.passes.effort import Budget, effort
from streamrnn_converters.passes.inputs import Inputs, bind_inputs
from streamrnn_converters.passes.unroll import count_down, weight
from streamrnn_converters.passes.unsupported import unsupported_op, unsupported_report

#: errors of which it is said what inputs they depend on
MAX_TRACED = 64

#: ops that are no nodes of a Graph as they stand, or have bodies
_HANDLERS = {**control.HANDLERS, **sequences.HANDLERS}

#: name in the file's graph -> name in the new graph; one map for each graph that the walk is inside of
Scope = ChainMap[str, str]


def fold(
    model: RawModel,
    shapes: Mapping[str, Sequence[int]] | None = None,
    bind: Mapping[str, Array] | None = None,
    outputs: Sequence[str] | None = None,
) -> Graph:
    """The model as a typed Graph at stage SEQUENCE, without what does not depend on its inputs.

    shapes:  shapes of inputs whose dimensions the file leaves open. A symbol fixed there counts for the other inputs too.
    bind:    values of inputs that become constants (a sample rate, say) and are inputs no more.
    outputs: the outputs to keep, all by default; what only the others need is not looked at.

    An input that no output needs is dropped and named in `meta["unused_inputs"]`. Raises BindingError where a dimension stays
    open or a binding does not fit, UnsupportedError with all ops that are not supported, ShapeError, ModelFileError.
    """
    wanted = _wanted(model, outputs)
    walk = Walk(bind_inputs(model, shapes or {}, bind or {}))
    scope: Scope = ChainMap({})
    with np.errstate(all="ignore"):
        walk.start(model, scope)
        walk.graph(model, scope, wanted)
    results = [walk.resolve(name, scope, "the list of outputs") for name in wanted]
    sequences.refuse_results(walk, results)
    walk.nodes = live_nodes(walk.nodes, results)
    walk.judge(wanted, results)
    stored.restore(walk)
    _check_declared(model, walk, dict(zip(wanted, results, strict=True)))
    return _finish(model, walk, wanted, results)


def _check_declared(model: RawModel, walk: Walk, results: Mapping[str, str]) -> None:
    """ModelFileError where an output is declared with an element type that it has not."""
    for declared in model.outputs:
        found = walk.types.get(results.get(declared.name, ""))
        if found is not None and declared.dtype in {d.value for d in DType} and declared.dtype != found.dtype.value:
            raise ModelFileError(
                f"output '{declared.name}' is declared as {declared.dtype} and computed as {found.dtype.value}; the file is "
                f"altered, export it again"
            )


def known(node: RawNode) -> bool:
    """Whether there is a way to type nodes of this op, in the bodies that it carries too."""
    bodies = all(known(inner) for body in node.subgraphs.values() for inner in body.nodes)
    return not node.problem and bodies and (node.op in _HANDLERS or find_op(node.op) is not None or _to_expand(node))


def _to_expand(node: RawNode) -> bool:
    """Whether the node is to be replaced by the ops that define it, because its own is not in the table."""
    return node.expand is not None and not node.problem and find_op(node.op) is None


def _wanted(model: RawModel, outputs: Sequence[str] | None) -> tuple[str, ...]:
    declared = tuple(dict.fromkeys(o.name for o in model.outputs))
    unknown = [name for name in outputs or () if name not in declared]
    if unknown or (outputs is not None and not outputs):
        raise BindingError(f"{unknown or 'an empty list'} is not among the outputs; the model has {', '.join(declared)}")
    return tuple(dict.fromkeys(outputs)) if outputs is not None else declared


class Walk:
    """What is known so far. A value without a type is in `failed`; why is known of an input or constant (`bad_values`) or of
    the node where it began (`bad_nodes`)."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.types: dict[str, TensorType] = dict(inputs.types)
        self.constants: dict[str, Array] = {}
        self.stored: dict[str, Node] = {}  # constant -> the node that gives it from weights of 8 bits
        self.nodes: list[Node] = []
        self.failed: set[str] = set(inputs.problems)
        self.bad_values: dict[str, StreamRNNError] = dict(inputs.problems)
        self.bad_nodes: dict[str, StreamRNNError] = {}
        self.values = Names()
        self.node_names = Names()
        self.budget = Budget()
        self.sequences: dict[str, sequences.TensorList] = {}
        self.listed = 0  # values that they name
        self.written = 0  # nodes that they became
        self.around: list[list[Node]] = []  # the nodes of the graphs that the walk is inside of, outermost first
        self.left: int | None = None  # nodes that may still be walked where a loop is unrolled
        self.unrolled = 0

    # -- names ------------------------------------------------------------------------------------------------------

    def start(self, model: RawModel, scope: Scope) -> None:
        """Enter the inputs and reserve all names of the main graph, so that they stay what the file calls them."""
        for declared in model.inputs:
            self.values.take(declared.name)
            scope[declared.name] = declared.name
        for name, array in model.constants.items():
            self.values.take(name)
            self.budget.given += array.nbytes
        for node in model.nodes:
            for name in node.outputs:
                if name in scope:
                    raise ModelFileError(f"input '{name}' is also computed by node '{node.name}'; export the model again")
                self.values.take(name)
        for name, array in self.inputs.bound.items():
            self.enter_constant(name, array)

    def define(self, name: str, scope: Scope) -> str:
        """The new graph's name for a value that the file's innermost graph defines."""
        new = name if len(scope.maps) == 1 else self.values.fresh(name)
        scope[name] = new
        return new

    def resolve(self, name: str, scope: Mapping[str, str], where: str) -> str:
        if not name:
            return ""
        if name not in scope:
            raise ModelFileError(f"{where} reads '{name}', which nothing computes; the file is altered, export it again")
        return scope[name]

    def enter_constant(self, name: str, array: Array) -> None:
        self.constants[name] = array
        self.types[name] = TensorType.of(array)

    # -- the walk ---------------------------------------------------------------------------------------------------

    def graph(self, graph: RawGraph, scope: Scope, wanted: Iterable[str]) -> None:
        order = graph.order(wanted)
        for name in order.constants:
            self.enter_constant(self.define(name, scope), graph.constants[name])
        for node in order.nodes:
            self.node(node, scope)

    def node(self, raw: RawNode, scope: Scope) -> None:
        count_down(self, weight(raw))
        where = f"node '{raw.name}' ({raw.op})"
        inputs = tuple(self.resolve(name, scope, where) for name in raw.inputs)
        handler = _HANDLERS.get(raw.op)
        if raw.op == "Identity" and inputs and not raw.problem:
            scope[raw.outputs[0]] = inputs[0]
        elif _to_expand(raw) and self.failed.isdisjoint(inputs):
            self.expand(raw, inputs, scope)
        elif handler is None or raw.problem or not self.failed.isdisjoint(inputs):
            self.compute(raw, inputs, scope)
        else:
            try:
                handler(self, raw, inputs, scope)
            except (ShapeError, UnsupportedError) as error:
                self.refuse(raw, inputs, scope, error)

    def expand(self, raw: RawNode, inputs: tuple[str, ...], scope: Scope) -> None:
        """Walk the graph by which ONNX defines an op in place of the node."""
        assert raw.expand is not None
        try:
            body = raw.expand([sequences.type_of(self, name) for name in inputs])
        except UnsupportedError as error:
            outputs = tuple(self.define(name, scope) if name else "" for name in raw.outputs)
            node = Node(raw.op, self.node_names.fresh(raw.name), inputs, outputs, raw.attrs)
            self.bad_nodes[node.name] = error
            self.fail(node)
            return
        inner = scope.new_child({formal.name: "" for formal in body.inputs})
        inner.update((formal.name, name) for formal, name in zip(body.inputs, inputs, strict=False))
        results = [(out, found.name) for out, found in zip(raw.outputs, body.outputs, strict=False) if out]
        self.graph(body, inner, [name for _, name in results])
        for out, name in results:
            scope[out] = self.resolve(name, inner, f"the definition of node '{raw.name}' ({raw.op})")

    def compute(self, raw: RawNode, inputs: tuple[str, ...], scope: Scope) -> None:
        """Type the node, and compute it where its inputs are constants."""
        outputs = tuple(self.define(name, scope) if name else "" for name in raw.outputs)
        node = Node(raw.op, self.node_names.fresh(raw.name), inputs, outputs, raw.attrs)
        op = find_op(raw.op)
        try:
            if raw.problem:
                raise UnsupportedError(f"node '{node.name}' ({node.op}): {raw.problem}")
            if op is None and raw.op not in _HANDLERS and not _to_expand(raw):
                raise unsupported_op(node)
            if op is not None and self.failed.isdisjoint(inputs):
                sequences.refuse(self, node)
                self.apply(op, node)
            else:
                self.fail(node)
        except (ShapeError, UnsupportedError) as error:
            self.bad_nodes[node.name] = self.traced(error, inputs)
            self.fail(replace(node, inputs=(*inputs, *self.captured(raw, scope))))

    def refuse(
        self, raw: RawNode, inputs: tuple[str, ...], scope: Scope, error: StreamRNNError | None, through: Iterable[str] = ()
    ) -> None:
        """Enter a node that cannot be used. `through`: values in its bodies that are to blame where there is no error."""
        outputs = tuple(self.define(name, scope) if name else "" for name in raw.outputs)
        node = Node(
            raw.op, self.node_names.fresh(raw.name), (*inputs, *self.captured(raw, scope), *through), outputs, raw.attrs
        )
        if error is not None:
            self.bad_nodes[node.name] = self.traced(error, inputs)
        self.fail(node)

    def traced(self, error: StreamRNNError, inputs: Sequence[str]) -> StreamRNNError:
        """The error, with the model's inputs that the open value of a node with these inputs depends on."""
        if isinstance(error, OpenValueError) and not error.inputs and len(self.bad_nodes) < MAX_TRACED:
            return error.depending_on(self.open_inputs(inputs[error.index : error.index + 1]))
        return error

    def captured(self, raw: RawNode, scope: Scope) -> list[str]:
        """What the bodies of a node read from around them."""
        given = sum(map(bool, raw.inputs))
        return [self.resolve(name, scope, f"node '{raw.name}' ({raw.op})") for name in list(reads(raw))[given:]]

    def add(self, op: str, base: str, inputs: Sequence[str], attrs: Mapping[str, Attr] | None = None) -> str:
        """The value of a new node; `base` is what its names begin with."""
        return self.add_all(op, base, inputs, attrs or {}, 1)[0]

    def add_all(
        self, op: str, base: str, inputs: Sequence[str], attrs: Mapping[str, Attr], count: int, bodies: tuple[Graph, ...] = ()
    ) -> tuple[str, ...]:
        """The `count` values of a new node."""
        outputs = tuple(self.values.fresh(base) for _ in range(count))
        node = Node(op, self.node_names.fresh(base), tuple(inputs), outputs, attrs, bodies)
        if self.failed.isdisjoint(inputs):
            found = find_op(op)
            assert found is not None
            self.apply(found, node)
        else:
            self.fail(node)
        return outputs

    def constant(self, base: str, value: npt.ArrayLike) -> str:
        """The name of a new constant."""
        name = self.values.fresh(base)
        array = np.array(value)
        array.flags.writeable = False
        self.enter_constant(name, array)
        return name

    def fail(self, node: Node) -> None:
        self.nodes.append(node)
        self.failed.update(name for name in node.outputs if name)

    def apply(self, op: Op, node: Node) -> None:
        constants = tuple(self.constants.get(name) if name else None for name in node.inputs)
        site = Site(node, tuple(self.types[name] if name else None for name in node.inputs), constants)
        try:
            types = op.infer(site)
        except UnsupportedError:
            if not any(type_ is not None and type_.dtype is DType.F16 for type_ in site.types):
                raise
            half.in_float32(self, op, node)
            return
        if len(node.outputs) > len(types):
            raise site.shape_error(f"has {len(node.outputs)} outputs, the op gives {len(types)}")
        fixed = all(
            array is not None or not name or index in op.type_only
            for index, (name, array) in enumerate(zip(node.inputs, constants, strict=True))
        )
        if fixed and op.deterministic and self.budget.hold(types) and self.budget.spend(effort(site, types)):
            site = replace(site, outputs=types[: len(node.outputs)])
            self.enter(node, evaluated(op, site, types))
            stored.note(self, node)
            return
        self.nodes.append(node)
        self.types.update((name, type_) for name, type_ in zip(node.outputs, types, strict=False) if name)

    def enter(self, node: Node, values: Sequence[Array]) -> None:
        for name, value in zip(node.outputs, values, strict=False):
            if name:
                self.enter_constant(name, value)

    def open_inputs(self, names: Iterable[str]) -> list[str]:
        """The model's inputs that `names` depend on."""
        nodes = [node for outer in (*self.around, self.nodes) for node in outer]
        reached = {name for node in live_nodes(nodes, names) for name in node.inputs} | set(names)
        return [name for name in self.inputs.types if name in reached]

    # -- the end ----------------------------------------------------------------------------------------------------

    def judge(self, wanted: Sequence[str], results: Sequence[str]) -> None:
        """Raise what went wrong on the way to the results: open inputs first, then all that is not supported."""
        reached = {name for node in self.nodes for name in node.inputs} | set(results)
        values = [error for name, error in self.bad_values.items() if name in reached]
        nodes = [(node, self.bad_nodes[node.name]) for node in self.nodes if node.name in self.bad_nodes]
        bindings = [str(error) for error in values if isinstance(error, BindingError)]
        if bindings:
            raise BindingError("\n".join(bindings))
        lacking = [(node, error) for node, error in nodes if isinstance(error, UnsupportedError)]
        if lacking or values:
            usable = [name for name, found in zip(wanted, results, strict=True) if found not in self.failed]
            text = unsupported_report(lacking, map(str, values), usable)
            opened = [name for _, error in lacking if isinstance(error, OpenValueError) for name in error.inputs]
            raise OpenValueError(text, tuple(dict.fromkeys(opened))) if opened else UnsupportedError(text)
        for _, error in nodes:
            raise error


def evaluated(op: Op, site: Site, types: Sequence[TensorType]) -> list[Array]:
    """The values of a node whose inputs are constants, in the inferred types."""
    try:
        values = op.reference(site, *site.constants)
    except (ValueError, TypeError, IndexError, ArithmeticError) as error:
        raise site.shape_error(f"cannot be computed on its constant inputs ({error})") from error
    found = []
    for value, type_ in zip(values, types, strict=False):
        array = np.array(value, type_.dtype.numpy, order="C")
        if array.shape != type_.shape:
            raise site.shape_error(f"gives shape {array.shape} on its constant inputs, where {type_} was inferred")
        array.flags.writeable = False
        found.append(array)
    return found


def _finish(model: RawModel, walk: Walk, wanted: Sequence[str], results: Sequence[str]) -> Graph:
    """Outputs under the file's names, and only what is used."""
    renames: dict[str, str] = {}
    copies: list[tuple[str, str]] = []  # (output, the value it is)
    computed = {name for node in walk.nodes for name in node.outputs}
    for name, found in zip(wanted, results, strict=True):
        if found == name and (found in computed or found not in walk.constants):
            continue
        if found in computed and found not in wanted and found not in renames:
            renames[found] = name
        else:
            copies.append((name, found))
    # a constant that is itself an output gives its name to the copy
    for name, found in copies:
        if name == found:
            renames[found] = walk.values.fresh(f"{name}.value")
    nodes = [renamed(node, renames) for node in walk.nodes]
    for name, found in copies:
        nodes.append(Node("Identity", walk.node_names.fresh(f"{name}.Identity"), (renames.get(found, found),), (name,)))
    types = {renames.get(name, name): type_ for name, type_ in walk.types.items()}
    types.update((name, walk.types[found]) for name, found in copies)
    constants = {renames.get(name, name): array for name, array in walk.constants.items()}
    used = {name for node in nodes for name in (*node.inputs, *node.outputs)} | set(wanted)
    inputs = tuple(name for name in walk.inputs.types if name in used)
    unused = [name for name in walk.inputs.declared if name not in inputs and name not in walk.inputs.bound]
    graph = Graph(
        name=model.name,
        stage=Stage.SEQUENCE,
        inputs=inputs,
        outputs=tuple(wanted),
        nodes=tuple(nodes),
        types={name: type_ for name, type_ in types.items() if name in used},
        constants={name: array for name, array in constants.items() if name in used},
        meta={"unused_inputs": unused} if unused else {},
    )
    return verify(graph)
