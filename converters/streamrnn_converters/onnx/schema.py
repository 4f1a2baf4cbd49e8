"""Does a node fit what ONNX says about its op? Asked once, by the reader, so that nothing behind it has to ask again."""

from __future__ import annotations

import onnx
from onnx import AttributeProto, NodeProto

from streamrnn_converters.onnx.contrib import UNDECLARED
from streamrnn_converters.onnx.opset import NEWEST, OLDEST

#: inputs of one node; a file may not make the compiler work for hours
MAX_INPUTS = 1 << 14


def _since(op: str, opset: int) -> int:
    """The opset that brought the form which `op` has in `opset`; 0 where it has none."""
    try:
        return int(onnx.defs.get_schema(op, opset).since_version)
    except onnx.defs.SchemaError:
        return 0


def node_problem(node: NodeProto, opset: int) -> str:
    """Why this node of ONNX's own domain breaks the definition of its op in `opset`, and what to do; "" where it does not."""
    try:
        schema = onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        if node.op_type in UNDECLARED:
            return ""
        return f"opset {opset} has no op of that name; export the model again"
    if schema.since_version > NEWEST:
        return (
            f"it changed in opset {schema.since_version}, which this version does not know; export for opset {NEWEST} or "
            f"upgrade streamrnn"
        )
    if opset < OLDEST and schema.since_version != _since(node.op_type, OLDEST):
        return (
            f"its form in opset {opset} is not that of opset {OLDEST}, the oldest that is read; export it again, or convert it "
            f"with onnx.version_converter.convert_version(model, 17)"
        )
    for what, count, least, most in (
        ("inputs", len(node.input), schema.min_input, schema.max_input),
        ("outputs", len(node.output), schema.min_output, schema.max_output),
    ):
        if not least <= count <= most:
            return f"it has {count} {what}, the op takes {least} to {most}; export the model again"
    if len(node.input) > MAX_INPUTS:
        return f"it has {len(node.input)} inputs, at most {MAX_INPUTS} are read; export the model with a loop or a tensor"
    given = {attribute.name: AttributeProto.AttributeType.Name(attribute.type) for attribute in node.attribute}
    unknown = [name for name in given if name not in schema.attributes]
    if unknown:
        return f"the op has no attribute {unknown[0]!r} in opset {opset}; export the model again"
    for name, attribute in schema.attributes.items():
        if attribute.required and name not in given:
            return f"its attribute {name} is missing; export the model again"
        kind = str(attribute.type).rpartition(".")[2]
        if name in given and given[name] != kind:
            return f"its attribute {name} is of kind {given[name]}, the op takes {kind}; export the model again"
    return ""
