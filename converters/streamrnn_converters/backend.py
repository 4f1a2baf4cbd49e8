"""The engine behind ONNX's standard backend interface: `prepare(model).run(inputs)`.

One run is one call of the model: a step in window mode without states. A compiled step has fixed shapes, so a model is compiled
at its first run with arrays of these shapes and kept for the next one. An input becomes a constant of the compiled step exactly
where the conversion says that a value computed from it must be one: it decides a shape (the target of a Reshape), or it is a
packed weight (the filter of a Conv); such a model is kept for these values. Every other input stays an input. Sequences and
optional values are taken and given as what they hold, see `containers`.

Source: onnx/backend/base.py, "Implementing an ONNX backend" in the ONNX documentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, helper
from onnx.backend.base import Backend, BackendRep, Device, DeviceType, namedtupledict

from streamrnn import Engine, Stream
from streamrnn.errors import InputError, OpenValueError, StreamRNNError, UnsupportedError
from streamrnn.ir.evaluate import evaluate
from streamrnn.ir.graph import Array, Graph
from streamrnn.planner import make_plan
from streamrnn_converters.containers import Given, Layout, asking, packed, unpacked, with_tensors_out
from streamrnn_converters.importer import convert_model
from streamrnn_converters.onnx.raw import RawModel
from streamrnn_converters.onnx.reader import read_bytes
from streamrnn_converters.options import Options
from streamrnn_converters.passes.fold import fold, known

_Key = tuple[object, tuple[bytes, ...]]


class Rep(BackendRep):
    """A model that is compiled for the shapes it is run with.

    bound: the inputs that the last run needed as constants; the items of a sequence have names of their own.
    """

    def __init__(self, model: RawModel) -> None:
        self.model = model
        self.bound: tuple[str, ...] = ()
        self._graphs: dict[_Key, tuple[Graph, dict[str, Layout]]] = {}
        self._engines: dict[_Key, Engine] = {}
        self._bound: dict[object, tuple[str, ...]] = {}
        self._results = namedtupledict("Outputs", [o.name for o in model.outputs])

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The model's outputs, by position and by name.

        inputs: arrays in the order of the model's inputs (those with an initializer left out), a dict of them by name, or the
                only one. A sequence is a list of arrays, an optional value that is not there is None; so they come out too.

        Raises InputError where they do not fit the model, and what `convert` raises.
        """
        given = self._given(inputs)
        key = self._key(given)
        graph, layouts = self._graphs[key]
        engine = self._engines.get(key) or self._engines.setdefault(key, Engine(graph))
        stream = Stream(engine)
        for port in engine.plan.inputs:
            array = given.arrays[port.name]
            if array.dtype != port.type.dtype.numpy:
                raise InputError(f"input '{port.name}' is {array.dtype}, the model takes {port.type}")
            view = stream.inputs[port.name]
            view[...] = array.reshape(view.shape)
        stream.step()
        found = {port.name: stream.outputs[port.name].reshape(port.type.shape).copy() for port in engine.plan.outputs}
        return self._results(*(packed(layouts[o.name], found) for o in self.model.outputs))

    def graph(self, inputs: Any) -> Graph:
        """The step graph that `run` compiles for these inputs. Raises as `run` does."""
        return self._graphs[self._key(self._given(inputs))][0]

    def _given(self, inputs: Any) -> Given:
        names = [i.name for i in self.model.inputs]
        if isinstance(inputs, np.ndarray | np.generic):
            inputs = [inputs]
        if not isinstance(inputs, Mapping):
            if len(inputs) != len(names):
                raise InputError(f"{len(inputs)} inputs were given, the model takes {names}")
            inputs = dict(zip(names, inputs, strict=True))
        if set(inputs) != set(names):
            raise InputError(f"inputs {sorted(inputs)} were given, the model takes {names}")
        return unpacked(self.model, inputs)

    def _key(self, given: Given) -> _Key:
        """What decides the compiled model: the form of the inputs and the values of those that are bound. Its graph is made if
        it is not there."""
        self.bound = self._bound.get(given.form, ())
        while True:
            key = given.form, tuple(given.arrays[name].tobytes() for name in self.bound)
            if key in self._graphs:
                return key
            try:
                self._graphs[key] = self._converted(given)
            except OpenValueError as error:
                more = [name for name in error.inputs if name not in self.bound]
                if not more:
                    raise
                self.bound = self._bound[given.form] = (*self.bound, *more)

    def _converted(self, given: Given) -> tuple[Graph, dict[str, Layout]]:
        """The step graph, and what its outputs are of the model's."""
        options = self._options(given.arrays)
        bind = {name: np.asarray(value) for name, value in options.bind.items()}

        def ask(op: str, name: str) -> Array:
            (answer,) = evaluate(fold(asking(given.model, op, name), options.shape, bind), [])
            return answer

        model, layouts = with_tensors_out(given.model, ask)
        graph = convert_model(model, options)
        make_plan(graph)
        return graph, layouts

    def _options(self, arrays: Mapping[str, Array]) -> Options:
        return Options(
            mode="window",
            bind={name: arrays[name] for name in self.bound},
            shape={name: array.shape for name, array in arrays.items() if name not in self.bound},
            pair=dict.fromkeys(arrays, ""),
        )


class StreamRNNBackend(Backend):
    """ONNX's backend interface on this engine; it runs on the CPU."""

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether the model can be read and every op in it is known. Types and shapes are looked at by the first run."""
        try:
            nodes = cls.prepare(model, device).model.nodes
        except StreamRNNError:
            return False
        return all(known(node) for node in nodes)

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> Rep:
        """The model, read and checked. Raises ModelFileError, UnsupportedError."""
        if not cls.supports_device(device):
            raise UnsupportedError(f"device '{device}' is not supported; the engine runs on the CPU")
        return Rep(read_bytes(model.SerializeToString(), Path(model.graph.name or "model")))

    @classmethod
    def run_node(
        cls, node: NodeProto, inputs: Any, device: str = "CPU", outputs_info: Sequence[Any] | None = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        """The outputs of one node. `outputs_info` is not needed; `opset_version` is that of the node, the newest by default.

        inputs: arrays for the node's inputs, those left out ("") not counted.
        """
        names = list(dict.fromkeys(name for name in node.input if name))
        arrays = [np.asarray(value) for value in inputs]
        if len(arrays) != len(names):
            raise InputError(f"{len(arrays)} inputs were given, the node takes {names}")
        typed = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in zip(names, arrays, strict=True)
        ]
        graph = helper.make_graph(
            [node], "node", typed, [helper.make_empty_tensor_value_info(name) for name in node.output if name]
        )
        opsets = [helper.make_opsetid(node.domain, kwargs["opset_version"])] if "opset_version" in kwargs else None
        return cls.run_model(helper.make_model(graph, opset_imports=opsets), arrays, device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        try:
            return bool(Device(device).type == DeviceType.CPU)
        except (AttributeError, ValueError):
            return False


is_compatible = StreamRNNBackend.is_compatible
prepare = StreamRNNBackend.prepare
run_model = StreamRNNBackend.run_model
run_node = StreamRNNBackend.run_node
supports_device = StreamRNNBackend.supports_device
