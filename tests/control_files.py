"""Small ONNX files with branches, loops and sequences, and what is asked of each: the step gives what onnxruntime gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from contract import as_dict
from onnx import helper
from onnx_files import BOOL, F32, I64, Typed, make, run_file, save
from pools import joined
from streamrnn_converters import convert

from streamrnn import Engine, Stream
from streamrnn.codegen.interpret import Interpreter
from streamrnn.ir.graph import Array, Graph

node = helper.make_node
NUMBER: Typed = ("i", I64, [])
CONDITION: Typed = ("cond", BOOL, [])
KINDS = {"": F32, "int64": I64, "int32": onnx.TensorProto.INT32, "bool": BOOL}


def body(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Typed],
    outputs: Sequence[Typed],
    constants: Mapping[str, Array] | None = None,
) -> onnx.GraphProto:
    return make(nodes, inputs, outputs, constants).graph


def typed(array: Any, name: str) -> Typed:
    array = np.asarray(array)
    return (name, int(helper.np_dtype_to_tensor_dtype(array.dtype)), list(array.shape))


def converted(model: onnx.ModelProto, folder: Path, **options: Any) -> Graph:
    return convert(save(model, folder), **{"mode": "window", **options})


def check(model: onnx.ModelProto, folder: Path, *feeds: Mapping[str, Array], bind: Sequence[str] = ()) -> Graph:
    """The step graph in window mode, without states. Each step, compiled and as plain Python, gives what onnxruntime gives for
    the call; in a pool whose slots are given a call each, every slot goes its own way."""
    first = {name: np.asarray(array) for name, array in feeds[0].items()}
    options = {"bind": {name: first[name] for name in bind}, "pair": dict.fromkeys(first, "")}
    shapes = {name: array.shape for name, array in first.items() if array.shape and name not in bind}
    graph = converted(model, folder, shape=shapes, **options)
    engine = Engine(graph)
    stream, plain = Stream(engine), Interpreter(engine.plan)
    calls = [{name: np.asarray(array) for name, array in given.items()} for given in feeds]
    frames = [{n: arrays[n].reshape(engine.inputs[n].shape) for n in engine.inputs} for arrays in calls]
    together = as_dict(engine, joined(engine, len(feeds)).step({n: np.stack([f[n] for f in frames]) for n in engine.inputs}))
    for slot, (arrays, frame) in enumerate(zip(calls, frames, strict=True)):
        found = as_dict(engine, stream.step(frame))
        for name, value in found.items():
            np.testing.assert_array_equal(together[name][slot], value)
        again = plain.step([arrays[port.name] for port in engine.plan.inputs])
        names = [output.name for output in model.graph.output]
        expected = dict(zip(names, run_file(folder / "model.onnx", arrays), strict=True))
        for port, interpreted in zip(engine.plan.outputs, again, strict=True):
            wanted = expected[port.name]
            assert port.type.shape == wanted.shape
            assert interpreted.dtype == wanted.dtype
            np.testing.assert_array_equal(found[port.name].reshape(wanted.shape), interpreted)
            np.testing.assert_allclose(interpreted, wanted, rtol=2e-5, atol=2e-6, err_msg=port.name)
    return graph


def ops(graph: Graph) -> list[str]:
    """The ops of a graph, bodies included."""
    return [n.op for n in graph.all_nodes()]


def out(*names: str) -> list[Typed]:
    """Results; "name:int64" for one that is not float32."""
    pairs = (name.partition(":") for name in names)
    return [(name, KINDS[kind], None) for name, _, kind in pairs]  # type: ignore[misc]


def loop(
    nodes: Sequence[onnx.NodeProto],
    carried: Sequence[tuple[str, Any, str]],
    stacked: Sequence[str] = (),
    *,
    trip: str = "trip",
    cond: str = "",
    going: str = "cond",
    constants: dict[str, Array] | None = None,
    results: Sequence[str] = (),
) -> onnx.NodeProto:
    """A Loop; carried values as (name in the body, an array of their type, name of the next value), initial value <name>0."""
    inputs = [NUMBER, CONDITION, *(typed(array, name) for name, array, _ in carried)]
    nexts = [(following, typed(array, "")[1], None) for _, array, following in carried]
    outputs = [(going, BOOL, []), *nexts, *out(*stacked)]
    names = results or [f"{name}_end" for name, _, _ in carried] + [f"{name}_all" for name in stacked]
    given = [trip, cond, *(f"{name}0" for name, _, _ in carried)]
    return node("Loop", given, list(names), body=body(nodes, inputs, outputs, constants))
