"""From a sequence graph to a step graph: time leaves the tensors and becomes state.

Every op says by its own local rule how time runs through it (`Op.stream`); this pass walks the graph once, applies the rules
and infers the types again with the frames of one step where the whole clip was.

The laws that hold afterwards, checked by `tests/contract.py` and by `validate`:

    prefix    after t frames the output is what the sequence graph gives for the first t frames, `delay` frames later
    warm-up   what a wire carries before frame 0 (filler) never reaches a state
    grid      integers on a grid that every step makes anew (`Op.regrids`) are numbers again before a state keeps them

An op that makes such a grid is the exception to the first law: it sees the frames of a step, not of the clip.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from streamrnn.errors import GraphError, NotStreamableError, ShapeError
from streamrnn.ir.graph import Array, Attr, Graph, Node, Stage, State
from streamrnn.ir.op import Site, Streamed, get_op
from streamrnn.ir.types import StreamType, TensorType
from streamrnn.ir.verify import infer_node, site_of, verify
from streamrnn.ops._bodies import typed_node
from streamrnn.ops.window import fill_of
from streamrnn.plan import bounded
from streamrnn_converters.names import Names
from streamrnn_converters.passes.edit import add_state, put


def streamify(graph: Graph, axes: Mapping[str, int], chunk: int = 1) -> Graph:
    """The step graph of a sequence graph.

    axes:  the time axis of each input that is a stream; other inputs stand still while a step runs.
    chunk: frames that one step takes at least. With more than one, a reverse direction along time starts anew at the end
           of each chunk (bounded look-ahead) instead of being refused.

    Raises NotStreamableError with node, reason and remedy.
    """
    if graph.stage is not Stage.SEQUENCE:
        raise GraphError(f"graph '{graph.name}' is at stage {graph.stage.value} already")
    walk = _Walk(graph, chunk)
    for name, axis in axes.items():
        walk.streams[name] = StreamType(axis % graph.types[name].rank)
        walk.reach[name] = 1
    for node in graph.nodes:
        walk.visit(node)
    return verify(walk.step_graph())


@dataclass
class _Walk:
    """The step graph as far as it is built.

    reach:   receptive field of a wire in input frames, inf for recurrence.
    held:    what states of the file are moved to.
    gridded: values in units of a grid that each step makes anew, and what describes it.
    anew:    values without time that each step computes from its frames all the same.
    """

    graph: Graph
    chunk: int
    streams: dict[str, StreamType] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    states: list[State] = field(default_factory=list)
    rings: dict[str, Node] = field(default_factory=dict)
    reach: dict[str, float] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    gridded: set[str] = field(default_factory=set)
    anew: set[str] = field(default_factory=set)
    names: Names = field(default_factory=Names)

    def __post_init__(self) -> None:
        self.names = Names(self.graph.types)
        self.constants.update(self.graph.constants)
        self.states.extend(self.graph.states)
        self.held.update(state.read for state in self.graph.states)
        for state in self.graph.states:
            if state.kind != "generator":  # random numbers are no memory of the input
                self.reach[state.read] = math.inf

    def visit(self, node: Node) -> None:
        streams = [self.streams.get(name) if name else None for name in node.inputs]
        if not any(streams):
            if not get_op(node).deterministic:
                raise site_of(self.graph, node).not_streamable("draws its random numbers once for the whole clip")
            self.reach.update(dict.fromkeys(node.outputs, self._reach(node)))
            self._check_grid(site_of(self.graph, node), Streamed(()))
            self.nodes.append(node)
            return
        site = site_of(self.graph, node)
        if self.chunk > 1 and node.attrs.get("direction") == "reverse":
            site = Site(_with(node, {"chunked": 1}), site.types, site.constants, site.outputs)
        rule = get_op(node).stream(site, streams)
        for name, stream in zip(node.outputs, rule.outputs, strict=False):
            if name and stream is not None:
                self.streams[name] = stream
        self._check_grid(site, rule)
        present = [s for s in streams if s is not None]
        self._emit(site.node, rule, present[0], max(s.delay for s in present))

    def _check_grid(self, site: Site, rule: Streamed) -> None:
        """Follow scale, zero point and integers of a grid that the step makes, up to where integers meet their scale."""
        node = site.node
        inside = [name for name in node.inputs if name in self.gridded]
        if inside and (rule.before is not None or rule.states):
            raise site.not_streamable(
                f"remembers '{inside[0]}', which is in units of a grid that each step makes anew; quantise with fixed scales "
                f"(quantize_static), or leave this node in floats (nodes_to_exclude of quantize_dynamic)"
            )
        made = node.op == "DynamicQuantizeLinear" and None in rule.outputs
        if made or not self.anew.isdisjoint(node.inputs):
            self.anew.update(name for name in node.outputs if name and name not in self.streams)
        if made or (inside and not (node.op in ("Mul", "DequantizeLinear") and len(inside) > 1)):
            self.gridded.update(name for name in node.outputs if name)

    def _reach(self, node: Node) -> float:
        return max((self.reach.get(name, 0) for name in node.inputs), default=0)

    def _emit(self, node: Node, rule: Streamed, stream: StreamType, warmup: int) -> None:
        """Enter the node that the rule makes of `node`. `stream` is the first of its streams, `warmup` the largest delay."""
        inputs, outputs = list(node.inputs), list(node.outputs)
        reach = self._reach(node)
        attrs = {**node.attrs, **rule.attrs}
        bodies = node.bodies if rule.bodies is None else rule.bodies
        if rule.before is not None:
            target = outputs[0] if rule.forward else f"{node.name}.window"
            reach = self._window(node, rule.before[1], inputs[0], target, stream, reach)
            inputs[0] = target
        elif rule.forward:
            self.nodes.append(Node("Identity", node.name, (inputs[0],), (outputs[0],)))
        for index, value in rule.consts.items():
            put(inputs, index, self.names.fresh(f"{node.name}.in{index}"))
            self.constants[inputs[index]] = value
        for index, name in enumerate(node.inputs):
            steady = name not in self.streams and name not in self.anew
            if index not in rule.kept and steady and math.isinf(self.reach.get(name, 0)):
                raise NotStreamableError(
                    f"node '{node.name}' ({node.op}): its input '{name}' is what a state of the file was before the clip, and "
                    f"in a stream that state moves on with each frame; use window mode (--mode window)"
                )
        for index in rule.kept:
            name = node.inputs[index]
            if name not in self.held and not math.isinf(self.reach.get(name, 0)):
                raise NotStreamableError(
                    f"node '{node.name}' ({node.op}): it begins with '{name}', which is no state of the file, so it would "
                    f"begin anew at every step; pair the input behind it (--pair), or use window mode (--mode window)"
                )
        if warmup and (rule.states or rule.kept):
            attrs["warmup"] = warmup
        for spec in rule.states:
            reach = math.inf
            self.states.append(add_state(node, spec, inputs, outputs, "streamify"))
        self.reach.update(dict.fromkeys(outputs, reach))
        if not rule.forward:
            self.nodes.append(replace(node, inputs=tuple(inputs), outputs=tuple(outputs), attrs=attrs, bodies=bodies))

    def _window(
        self, node: Node, attrs: Mapping[str, Attr], source: str, target: str, stream: StreamType, reach: float
    ) -> float:
        """Put a Window between `source` and `target`; the receptive field behind it."""
        window = Node("Window", f"{node.name}.window", (source,), (target,), dict(attrs))
        taps, dilation = int(str(attrs.get("taps", 1))), int(str(attrs.get("dilation", 1)))
        self.add_window(window, stream)
        return reach + (taps - 1) * dilation * stream.stride

    def add_window(self, window: Node, stream: StreamType) -> None:
        attrs = dict(window.attrs)
        if stream.delay:
            attrs["warmup"] = stream.delay
        if attrs.get("history", 0) == 0:
            self.nodes.append(_with(window, attrs))
            return
        ring, head = (f"{window.name}.{part}" for part in ("ring", "head"))
        inputs = (*window.inputs, f"{ring}.read", f"{head}.read")
        outputs = (*window.outputs, f"{ring}.write", f"{head}.write")
        node = Node("Window", window.name, inputs, outputs, attrs)
        self.nodes.append(node)
        self.rings[node.name] = node

    def step_graph(self) -> Graph:
        """All types anew, with one step's frames on every time axis."""
        frames = math.lcm(*(s.stride for s in self.streams.values())) * self.chunk
        types: dict[str, TensorType] = {}
        for name in self.graph.inputs:
            types[name] = _with_frames(self.graph.types[name], self.streams.get(name), frames)
        for name, value in self.constants.items():
            types[name] = TensorType.of(value)
        for state in self.states:
            types[state.read] = TensorType.of(state.init)
        states = list(self.states)
        for k, node in enumerate(self.nodes):
            if node.name in self.rings:
                states += ring_states(node, types)
            try:
                self.nodes[k] = node = typed_node(node, Site(node, *_seen(node, types, self.constants)))
                infer_node(types, Site(node, *_seen(node, types, self.constants)))
            except ShapeError as error:
                raise NotStreamableError(
                    f"{error}: the shapes of a whole clip fit, those of a step (frames: {frames}) do not; use window mode "
                    f"(--mode window)"
                ) from None
            self._check_frames(node, types, frames)
        used = {name for node in self.nodes for name in node.inputs} | set(self.graph.outputs)
        field_ = max((self.reach.get(name, 0) for name in self.graph.outputs), default=0)
        known = {name for node in self.nodes for name in node.outputs} | set(self.graph.inputs)
        constants = {n: v for n, v in self.constants.items() if n in used or any(s.write == n for s in states)}
        known |= set(constants) | {s.read for s in states}
        return self.graph.replace(
            stage=Stage.STEP,
            nodes=tuple(self.nodes),
            constants=constants,
            states=tuple(states),
            types={name: t for name, t in types.items() if name in known},
            streams={name: s for name, s in self.streams.items() if name in known},
            meta={
                **self.graph.meta,
                "frames": frames,
                "receptive_field": None if math.isinf(field_) else int(field_),
            },
        )

    def _check_frames(self, node: Node, types: Mapping[str, TensorType], frames: int) -> None:
        for name in node.outputs:
            stream = self.streams.get(name)
            if stream is None or stream.axis is None:
                continue
            found = types[name].shape[stream.axis]
            if node.op == "DynamicQuantizeLinear" and stream.delay % found:
                raise NotStreamableError(
                    f"node '{node.name}' ({node.op}): a step has {found} frames, and the first real ones come amid a step, so "
                    f"that filler would be quantised with them; quantise with fixed scales (quantize_static), or use window "
                    f"mode (--mode window)"
                )
            if found * stream.stride != frames:
                raise NotStreamableError(
                    f"node '{node.name}' ({node.op}): gives {found} frames for {frames // stream.stride} a step; "
                    f"use window mode (--mode window)"
                )


def ring_states(node: Node, types: dict[str, TensorType]) -> list[State]:
    """The two states of a Window node, and the types of what reads them."""
    x = types[node.inputs[0]]
    axis, history = int(str(node.attrs.get("axis", 0))), int(str(node.attrs["history"]))
    size = x.size // (x.shape[axis] if axis >= 0 else 1)
    bounded(history * x.nbytes, f"node '{node.name}': the past that it sees")
    ring = np.full((history, size), fill_of(node, x.dtype))
    head = np.array([-1 if node.attrs.get("edge") else 0], np.int64)
    types[node.inputs[1]], types[node.inputs[2]] = TensorType.of(ring), TensorType.of(head)
    return [
        State(f"{node.name}.ring", node.inputs[1], node.outputs[1], ring, "ring"),
        State(f"{node.name}.head", node.inputs[2], node.outputs[2], head, "head"),
    ]


def _seen(
    node: Node, types: Mapping[str, TensorType], constants: Mapping[str, Array]
) -> tuple[tuple[TensorType | None, ...], tuple[Array | None, ...]]:
    return (
        tuple(types[name] if name else None for name in node.inputs),
        tuple(constants.get(name) if name else None for name in node.inputs),
    )


def _with_frames(type_: TensorType, stream: StreamType | None, frames: int) -> TensorType:
    if stream is None or stream.axis is None:
        return type_
    shape = list(type_.shape)
    shape[stream.axis] = frames // stream.stride
    return type_.with_shape(tuple(shape))


def _with(node: Node, attrs: Mapping[str, Attr]) -> Node:
    return replace(node, attrs={**node.attrs, **attrs})
