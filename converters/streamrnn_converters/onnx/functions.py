"""Ops that ONNX itself defines by a graph of other ops: Attention, SoftmaxCrossEntropyLoss, RotaryEmbedding and their kind.

Such a definition may depend on the types of the node's inputs, so it is asked for when these are known.
Source: FunctionProto in the ONNX IR specification, "Functions".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TypeProto, helper, inliner

from streamrnn.errors import ModelFileError, UnsupportedError
from streamrnn.ir.types import DType, TensorType
from streamrnn_converters.onnx.raw import SequenceType

#: nodes that the functions of a file may become
MAX_INLINED = 1 << 20


def inline_functions(model: ModelProto, path: Path) -> ModelProto:
    """The model with its local functions in place of the nodes that call them. `path` names it in messages.

    Raises ModelFileError where a function calls itself, or where functions that call functions would become too many nodes.
    """
    if not model.functions:
        return model
    try:
        if sum(_sizes(model)) > MAX_INLINED:
            raise ModelFileError(f"{path}: its local functions would become more than {MAX_INLINED} nodes; export without them")
        return inliner.inline_local_functions(model)
    except ModelFileError:
        raise
    except Exception as error:  # onnx raises whatever its C++ side raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelFileError(f"{path}: its local functions cannot be inlined ({reason}); export without them") from None


def _sizes(model: ModelProto) -> Iterator[int]:
    """Nodes that each node of the main graph becomes. Raises RecursionError where a function calls itself."""
    bodies = {(f.domain, f.name, f.overload): f for f in model.functions}
    known: dict[tuple[str, str, str], int] = {}

    def size(node: NodeProto, inside: frozenset[tuple[str, str, str]]) -> int:
        key = (node.domain, node.op_type, node.overload)
        count = 1 + sum(size(n, inside) for a in node.attribute if a.HasField("g") for n in a.g.node)
        if key not in bodies:
            return count
        if key in inside:
            raise RecursionError(f"function '{node.op_type}' calls itself")
        if key not in known:
            known[key] = min(MAX_INLINED + 1, sum(size(n, inside | {key}) for n in bodies[key].node))
        return known[key] + count

    return (size(node, frozenset()) for node in model.graph.node)


def has_function(node: NodeProto, opset: int) -> bool:
    """Whether ONNX defines this node's op by other ops. `opset` is that of the node's domain in the file."""
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)


def function_body(node: NodeProto, opset: int, types: Sequence[TensorType | SequenceType | None]) -> tuple[GraphProto, int]:
    """The graph behind a node with inputs of these types, and the opset that its nodes are written in.

    An input or output that the node leaves out keeps its name in the graph. Raises UnsupportedError where ONNX has no
    definition for these types.
    """
    schema: Any = onnx.defs.get_schema(node.op_type, opset, node.domain)
    full = NodeProto()
    full.CopyFrom(node)
    given = {attribute.name for attribute in node.attribute}
    full.attribute.extend(
        attribute.default_value
        for name, attribute in schema.attributes.items()
        if name not in given and attribute.default_value.name
    )
    try:
        if schema.has_context_dependent_function:
            version = _version(schema.context_dependent_function_opset_versions, opset)
            protos = [_type_proto(type_).SerializeToString() for type_ in types]
            data = schema.get_context_dependent_function_with_opset_version(version, full.SerializeToString(), protos)
        else:
            data = schema.get_function_with_opset_version(_version(schema.function_opset_versions, opset))
    except Exception:  # onnx raises whatever its C++ side raises
        data = b""
    function = FunctionProto.FromString(data)
    if len(function.output) < len(node.output):
        given_types = ", ".join(str(type_) if type_ else "none" for type_ in types)
        raise UnsupportedError(
            f"node '{node.name}' ({node.op_type}): ONNX has no definition of it for inputs ({given_types}); export the model "
            f"with simpler ops in its place"
        )
    attributes = {attribute.name: attribute for attribute in full.attribute}
    graph = GraphProto(name=node.op_type)
    graph.input.extend(helper.make_empty_tensor_value_info(name) for name in function.input)
    graph.output.extend(helper.make_empty_tensor_value_info(name) for name in function.output)
    graph.node.extend(_filled(inner, attributes) for inner in function.node)
    for inner in graph.node:
        inner.name = f"{node.name or node.op_type}.{inner.name or inner.op_type}"
    versions = [entry.version for entry in function.opset_import if entry.domain in ("", "ai.onnx")]
    return graph, max(versions, default=opset)


def _version(known: Iterable[int], opset: int) -> int:
    """The newest definition that is not newer than the file, else the oldest there is."""
    versions = sorted(known)
    return max((v for v in versions if v <= opset), default=versions[0])


def _type_proto(type_: TensorType | SequenceType | None) -> TypeProto:
    if type_ is None:
        return TypeProto()
    if isinstance(type_, SequenceType):
        dtype = type_.dtype or DType.F32
        return helper.make_sequence_type_proto(
            helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(dtype.numpy), None)
        )
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(type_.dtype.numpy), type_.shape)


def _filled(node: NodeProto, attributes: Mapping[str, AttributeProto]) -> NodeProto:
    """A node of a definition with the attributes of the node that it defines; what that one leaves out is left out."""
    found = NodeProto()
    found.CopyFrom(node)
    del found.attribute[:]
    for attribute in node.attribute:
        filled = AttributeProto()
        filled.CopyFrom(attribute)
        if attribute.ref_attr_name:
            if attribute.ref_attr_name not in attributes:
                continue
            filled.CopyFrom(attributes[attribute.ref_attr_name])
            filled.name = attribute.name
        elif attribute.type == AttributeProto.GRAPH:
            inner = [_filled(n, attributes) for n in attribute.g.node]
            del filled.g.node[:]
            filled.g.node.extend(inner)
        found.attribute.append(filled)
    return found
