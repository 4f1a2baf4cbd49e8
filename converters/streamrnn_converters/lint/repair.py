"""Repairs of an ONNX file, made on a copy in memory: the same edits for the import and for onnxruntime, which judges it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from streamrnn.errors import BindingError, GraphError
from streamrnn_converters.lint.file import denormals
from streamrnn_converters.lint.rules import RULES, Edit, Finding, findings_of
from streamrnn_converters.onnx.functions import inline_functions


def chosen(findings: Iterable[Finding], codes: Sequence[str]) -> list[Finding]:
    """The findings that `--fix codes` repairs; "all" stands for every code that can be repaired.

    Raises BindingError for a code that does not exist or cannot be repaired, or that nothing in the file has.
    """
    found = [f for f in findings if f.edits and ("all" in codes or f.code in codes)]
    for code in codes:
        if code == "all":
            continue
        if code not in RULES or not RULES[code].fix:
            fixable = ", ".join(rule.code for rule in RULES.values() if rule.fix)
            raise BindingError(f"--fix {code}: the codes that can be repaired are {fixable}, or all")
        if code not in {f.code for f in found}:
            raise BindingError(
                f"--fix {code}: lint finds nothing of that kind in the file (`streamrnn lint` lists what it finds)"
            )
    return found


def repaired_file(path: str | Path, findings: Iterable[Finding]) -> bytes:
    """The content of an ONNX file, external data and local functions included, in which these findings are repaired."""
    model = inline_functions(onnx.load(str(path)), Path(path))
    return bytes(repaired(model, [edit for found in findings for edit in found.edits]).SerializeToString())


def as_judged(path: str | Path, meta: Mapping[str, object]) -> str | bytes:
    """What onnxruntime has to run to judge a converted model: its file, or the file with the repairs that were recorded."""
    fixes = findings_of(meta, "fixes")
    return repaired_file(path, fixes) if fixes else str(path)


def repaired(model: ModelProto, edits: Iterable[Edit]) -> ModelProto:
    """A copy of `model` with all edits made. Raises GraphError where one has no place in it."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for edit in edits:
        _ACTIONS[edit.action](copy, edit)
    return copy


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _graphs(attribute.g)


def _nodes(model: ModelProto) -> Iterator[NodeProto]:
    for graph in _graphs(model.graph):
        yield from graph.node


def _missing(edit: Edit) -> GraphError:
    return GraphError(
        f"'{edit.target}' is not in the file, so that it cannot be repaired there; it is not the file that was linted"
    )


def _set(model: ModelProto, edit: Edit) -> None:
    op, name, value = edit.value
    # branches of one If may share names
    nodes = [node for node in _nodes(model) if edit.target in node.output and node.op_type == op]
    if not nodes:
        raise _missing(edit)
    for node in nodes:
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute(str(name), int(value))])


def _flush(model: ModelProto, edit: Edit) -> None:
    tensors = [t for graph in _graphs(model.graph) for t in graph.initializer if t.name == edit.target]
    for node in _nodes(model):
        if node.op_type == "Constant" and edit.target in node.output:
            tensors += [attribute.t for attribute in node.attribute if attribute.type == AttributeProto.TENSOR]
    if not tensors:
        raise _missing(edit)
    for tensor in tensors:
        _flush_tensor(tensor)


def _flush_tensor(tensor: TensorProto) -> None:
    array = numpy_helper.to_array(tensor)
    mended = np.where(denormals(array), array.dtype.type(0), array)
    tensor.CopyFrom(numpy_helper.from_array(mended, tensor.name))


def _drop(model: ModelProto, edit: Edit) -> None:
    kept = [o for o in model.graph.output if o.name != edit.target]
    if len(kept) == len(model.graph.output) or not kept:
        raise _missing(edit)
    del model.graph.output[:]
    model.graph.output.extend(kept)


def _resize(model: ModelProto, edit: Edit) -> None:
    axis, size = edit.value
    for declared in model.graph.input:
        if declared.name == edit.target:
            declared.type.tensor_type.shape.dim[int(axis)].dim_value = int(size)
            break
    else:
        raise _missing(edit)
    # shapes that depend on it are found again by whoever reads the file
    for graph in _graphs(model.graph):
        del graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")


_ACTIONS = {"set": _set, "flush": _flush, "drop": _drop, "resize": _resize}
