"""One answer for a clip, behind a delay: what onnxruntime would say after the frames that have arrived.

A prefix of the clip is no oracle for it, because the file pads the prefix's end where the stream waits for frames behind it.
So the file is cut: its first part runs on the whole clip; its last part, behind the values that still have a time axis, runs on
as many of their frames as the engine has seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import onnx

from streamrnn import Engine
from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.plan import Port
from streamrnn_converters.oracle import Calls
from streamrnn_converters.surgery import computed_values, inlined, read_model, tail, with_outputs


class Answers:
    """Answers so far for one clip. `feeds` are the file's inputs for the whole of it."""

    def __init__(self, engine: Engine, session: Calls, feeds: Mapping[str, Array]) -> None:
        self.engine = engine
        self.session = session
        self.feeds = feeds
        self._tails: dict[str, tuple[Calls, dict[str, Array]]] = {}

    def at(self, port: Port, steps: int) -> Array | None:
        """The answer of output `port` after `steps` steps, or None while no frame has arrived at it.

        Raises UnsupportedError where the file cannot be cut there.
        """
        assert port.stream is not None
        arrived = steps * self.engine.frames - port.stream.delay * port.stream.stride
        if port.name not in self._tails:
            self._tails[port.name] = self._cut(port)
        session, values = self._tails[port.name]
        cut = {}
        for name, value in values.items():
            stream = self.engine.graph.streams[name]
            assert stream.axis is not None
            if arrived < stream.stride:
                return None
            cut[name] = np.take(value, range(arrived // stream.stride), stream.axis)
        return session.run({**self.feeds, **cut})[port.name]

    @cached_property
    def _model(self) -> onnx.ModelProto:
        values = {name for node in self.engine.graph.nodes for name in node.outputs if name}
        return inlined(read_model(self.session.model), values)

    def _cut(self, port: Port) -> tuple[Calls, dict[str, Array]]:
        names = self._frontier(port)
        graph = self.engine.graph
        still = [name for name in self.feeds if name not in graph.streams]
        end = tail(self._model, {n: graph.types[n] for n in names}, still, port.name)
        part = self.session.on(end)
        values = {name: self.feeds[name] for name in names if name in self.feeds}
        computed = [name for name in names if name not in values]
        if computed:
            values |= self.session.on(with_outputs(self._model, computed)).run(self.feeds)
        return part, values

    def _frontier(self, port: Port) -> list[str]:
        """The last values before `port` that have a time axis."""
        graph, producers = self.engine.graph, self.engine.graph.producers()
        in_file = {*computed_values(self._model), *self.feeds}
        found: dict[str, None] = {}
        pending, seen = [port.name], set()
        while pending:
            name = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            node, stream = producers.get(name), graph.streams.get(name)
            if stream is None:
                continue
            if stream.axis is not None and name in in_file:
                found[name] = None
            elif node is not None and stream.axis is None:
                pending += [n for n in node.inputs if n]
            elif node is not None and node.op == "Window":
                pending.append(node.inputs[0])
            else:
                raise UnsupportedError(
                    f"it lags behind the input, and the value '{name}', which it is computed from, is not in the file"
                )
        return list(found)
