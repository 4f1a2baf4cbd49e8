"""Where wires of unequal delay meet, the earlier ones wait: a Window of one tap holds them back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from streamrnn.errors import NotStreamableError
from streamrnn.ir.graph import Graph, Node, Stage, State
from streamrnn.ir.types import StreamType
from streamrnn.ir.verify import verify
from streamrnn_converters.passes.edit import renamed
from streamrnn_converters.passes.streamify import ring_states


def align(graph: Graph) -> Graph:
    """Delay inputs of joins, and the outputs among each other, to the largest delay. Step graphs only."""
    if graph.stage is not Stage.STEP or not graph.streams:
        return graph
    work = _Align(graph)
    for node in graph.nodes:
        work.visit(node)
    outputs = work.level(graph.outputs, "output")
    aligned = graph.replace(
        nodes=tuple(work.nodes), types=work.types, streams=work.streams, states=tuple(work.states), outputs=outputs
    )
    return verify(_renamed(aligned, dict(zip(outputs, graph.outputs, strict=True))))


def _renamed(graph: Graph, wanted: Mapping[str, str]) -> Graph:
    """Give delayed outputs the names that the file knows; what had the name is called <name>.early."""
    names = {late: name for late, name in wanted.items() if late != name}
    for name in names.values():
        if name in graph.inputs:
            raise NotStreamableError(
                f"output '{name}' is the input of that name as it is, and the other outputs lag behind it; leave it out "
                f"(--outputs), or use window mode (--mode window)"
            )
    names.update({name: f"{name}.early" for name in names.values()})

    def new(name: str) -> str:
        return names.get(name, name)

    return graph.replace(
        inputs=tuple(map(new, graph.inputs)),
        outputs=tuple(map(new, graph.outputs)),
        nodes=tuple(renamed(node, names) for node in graph.nodes),
        types={new(k): t for k, t in graph.types.items()},
        constants={new(k): a for k, a in graph.constants.items()},
        streams={new(k): s for k, s in graph.streams.items()},
        states=tuple(State(s.name, new(s.read), new(s.write), s.init, s.kind, s.evidence) for s in graph.states),
    )


class _Align:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Node] = []
        self.types = dict(graph.types)
        self.streams = dict(graph.streams)
        self.states = list(graph.states)
        self.delayed: dict[tuple[str, int], str] = {}

    def visit(self, node: Node) -> None:
        self.nodes.append(replace(node, inputs=self.level(node.inputs, node.name)))

    def level(self, names: tuple[str, ...], where: str) -> tuple[str, ...]:
        """`names` with those that lag less replaced by delayed ones."""
        streams = {n: s for n in names if n and (s := self.streams.get(n)) is not None}
        # delays are compared in input frames: outputs may run at different rates
        latest = max((s.delay * s.stride for s in streams.values()), default=0)
        return tuple(self.delay(n, latest, where) if n in streams else n for n in names)

    def delay(self, name: str, latest: int, where: str) -> str:
        stream = self.streams[name]
        missing = latest - stream.delay * stream.stride
        if missing == 0:
            return name
        rate = stream.stride if stream.axis is not None else self._frames()
        if missing % rate:
            raise NotStreamableError(
                f"'{where}': '{name}' would have to wait {missing} input frames, which is not a whole number of its own "
                f"frames ({rate} input frames each); use window mode (--mode window)"
            )
        key = (name, missing)
        if key not in self.delayed:
            self.delayed[key] = self._insert(name, stream, missing // rate, latest // stream.stride)
        return self.delayed[key]

    def _frames(self) -> int:
        frames = self.graph.meta.get("frames", 1)
        return frames if isinstance(frames, int) else 1

    def _insert(self, name: str, stream: StreamType, history: int, delay: int) -> str:
        out = f"{name}.late{history}"
        window = f"{name}.delay{history}"
        axis = -1 if stream.axis is None else stream.axis
        attrs: dict[str, int | float] = {"axis": axis, "taps": 1, "dilation": 1, "stride": 1, "history": history, "fill": 0.0}
        if stream.delay:
            attrs["warmup"] = stream.delay
        node = Node(
            "Window",
            window,
            (name, f"{window}.ring.read", f"{window}.head.read"),
            (out, f"{window}.ring.write", f"{window}.head.write"),
            attrs,
        )
        self.nodes.append(node)
        self.types[out] = self.types[name]
        self.streams[out] = StreamType(stream.axis, delay, stream.stride)
        states: list[State] = ring_states(node, self.types)
        for state in states:
            self.types[state.write] = self.types[state.read]
        self.states += states
        return out
