"""Small ONNX files made on the spot, and two ways to run them: onnxruntime on the file, `reference` on the folded graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from streamrnn.ir.graph import Array, Graph
from streamrnn.ir.op import get_op
from streamrnn.ir.verify import site_of

F32, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
Dims = Sequence[int | str | None]
Typed = tuple[str, int, Dims]


def make(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Typed],
    outputs: Sequence[Typed],
    constants: Mapping[str, Array] | None = None,
    *,
    opset: int = 18,
    domains: Sequence[str] = (),
    **model: Any,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(*typed) for typed in inputs],
        [helper.make_tensor_value_info(*typed) for typed in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **model)


def branch(nodes: Sequence[onnx.NodeProto], outputs: Sequence[Typed], constants: Mapping[str, Array] | None = None) -> Any:
    """A body of an If."""
    return make(nodes, (), outputs, constants).graph


def save(model: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def run_file(path: Path, feeds: Mapping[str, Array]) -> list[Array]:
    """What onnxruntime gives for the file as it is."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [np.asarray(y) for y in session.run(None, dict(feeds))]


def run_graph(graph: Graph, feeds: Mapping[str, Array]) -> list[Array]:
    """What the ops' references give, node after node."""
    values: dict[str, Array] = {**graph.constants, **{name: np.asarray(feeds[name]) for name in graph.inputs}}
    for node in graph.nodes:
        inputs = [values[name] if name else None for name in node.inputs]
        with np.errstate(all="ignore"):
            results = get_op(node).reference(site_of(graph, node), *inputs)
        for name, value in zip(node.outputs, results, strict=False):
            if name:
                values[name] = np.asarray(value).astype(graph.types[name].dtype.numpy)
    return [values[name] for name in graph.outputs]


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def noise(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
