"""The engine behind ONNX's standard backend interface: `prepare(model).run(inputs)`.

One run is one call of the model: a step in window mode without states. A compiled step has fixed shapes, so a model is compiled
at its first run with arrays of these shapes and kept for the next one. An input becomes a constant of the compiled step exactly
where the conversion says that a value computed from it must be one: it decides a shape (the target of a Reshape), or it is a
packed weight (the filter of a Conv); such a model is kept for these values. Every other input stays an input.

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
from streamrnn.ir.graph import Array, Graph
from streamrnn.planner import make_plan
from streamrnn_converters.importer import convert_model
from streamrnn_converters.onnx.raw import RawModel
from streamrnn_converters.onnx.reader import read_bytes
from streamrnn_converters.options import Options
from streamrnn_converters.passes.fold import known

_Signature = tuple[tuple[int, ...], ...]
_Key = tuple[_Signature, tuple[bytes, ...]]


class Rep(BackendRep):
    """A model that is compiled for the shapes it is run with.

    bound: the inputs that the last run needed as constants.
    """

    def __init__(self, model: RawModel) -> None:
        self.model = model
        self.bound: tuple[str, ...] = ()
        self._graphs: dict[_Key, Graph] = {}
        self._engines: dict[_Key, Engine] = {}
        self._bound: dict[_Signature, tuple[str, ...]] = {}
        self._results = namedtupledict("Outputs", [o.name for o in model.outputs])

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The model's outputs, by position and by name.

        inputs: arrays in the order of the model's inputs (those with an initializer left out), a dict of them by name, or the
                only one.

        Raises InputError where they do not fit the model, and what `convert` raises.
        """
        arrays = self._named(inputs)
        key = self._key(arrays)
        engine = self._engines.get(key) or self._engines.setdefault(key, Engine(self._graphs[key]))
        stream = Stream(engine)
        for port in engine.plan.inputs:
            array = arrays[port.name]
            if array.dtype != port.type.dtype.numpy:
                raise InputError(f"input '{port.name}' is {array.dtype}, the model takes {port.type}")
            view = stream.inputs[port.name]
            view[...] = array.reshape(view.shape)
        stream.step()
        shapes = {port.name: port.type.shape for port in engine.plan.outputs}
        return self._results(*(stream.outputs[o.name].reshape(shapes[o.name]).copy() for o in self.model.outputs))

    def graph(self, inputs: Any) -> Graph:
        """The step graph that `run` compiles for these inputs. Raises as `run` does."""
        return self._graphs[self._key(self._named(inputs))]

    def _named(self, inputs: Any) -> dict[str, Array]:
        names = [i.name for i in self.model.inputs]
        if isinstance(inputs, np.ndarray | np.generic):
            inputs = [inputs]
        if not isinstance(inputs, Mapping):
            if len(inputs) != len(names):
                raise InputError(f"{len(inputs)} inputs were given, the model takes {names}")
            inputs = dict(zip(names, inputs, strict=True))
        if set(inputs) != set(names):
            raise InputError(f"inputs {sorted(inputs)} were given, the model takes {names}")
        for declared in self.model.inputs:
            if not declared.ranked and declared.dtype in ("sequence", "optional", "map", "sparse_tensor"):
                raise UnsupportedError(f"input '{declared.name}' is of type {declared.dtype}, which a step cannot take")
        return {name: np.asarray(inputs[name]) for name in names}

    def _key(self, arrays: Mapping[str, Array]) -> _Key:
        """What decides the compiled model: the shapes of all inputs and the values of those that are bound. Its graph is made
        if it is not there."""
        signature = tuple(array.shape for array in arrays.values())
        self.bound = self._bound.get(signature, ())
        while True:
            key = signature, tuple(arrays[name].tobytes() for name in self.bound)
            if key in self._graphs:
                return key
            try:
                graph = convert_model(self.model, self._options(arrays))
                make_plan(graph)
                self._graphs[key] = graph
            except OpenValueError as error:
                more = [name for name in error.inputs if name not in self.bound]
                if not more:
                    raise
                self.bound = self._bound[signature] = (*self.bound, *more)

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
