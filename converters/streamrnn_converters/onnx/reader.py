"""ONNX file -> RawModel.

Model files are untrusted: sizes are checked before memory is taken, data outside the model's folder is not read, and whatever
is wrong with a file ends in one error with the reason and the remedy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto

from streamrnn.errors import ModelFileError, UnsupportedError
from streamrnn.ir.graph import Array, Attr
from streamrnn.ir.types import TensorType
from streamrnn_converters.names import Names
from streamrnn_converters.onnx import contrib
from streamrnn_converters.onnx.functions import function_body, has_function, inline_functions
from streamrnn_converters.onnx.opset import upgrade
from streamrnn_converters.onnx.raw import Dim, RawGraph, RawInput, RawModel, RawNode, SequenceType
from streamrnn_converters.onnx.schema import node_problem
from streamrnn_converters.onnx.tensors import dtype_name, external_files, read_tensor

#: protobuf's own limit (bytes); larger models keep their weights in files beside the model
MAX_FILE = (1 << 31) - 1

_ONNX_DOMAINS = ("", "ai.onnx")
_LFS = b"version https://git-lfs.github.com/spec/"

#: how other files begin: (offset, bytes, what it is and what to do)
_FOREIGN = (
    (0, _LFS, "a git-lfs pointer, not the model itself; run `git lfs pull` in its repository"),
    (0, b"PK\x03\x04", "a zip archive (a PyTorch checkpoint or Keras file?); export it to ONNX first"),
    (0, b"\x89HDF", "an HDF5 file (Keras weights?); export it to ONNX first"),
    (0, b"\x80\x02", "a pickle (an old PyTorch checkpoint?); export it to ONNX first"),
    (4, b"TFL3", "a TensorFlow Lite model; convert it with tf2onnx first"),
    (4, b"ORTM", "a model in onnxruntime's own format; use the .onnx file that it was made from"),
    (0, b"{", "JSON, not ONNX; if it is an amplifier model, keep its own ending (.json, .aidax, .nam)"),
    (0, b"<", "a web page or XML, not a model; the download went wrong, get the file itself"),
)

#: attributes that hold a TensorProto.DataType, whatever the op
_DTYPE_ATTRS = ("to", "dtype", "output_dtype", "output_datatype")


def read_model(path: str | Path) -> RawModel:
    """Read an ONNX file. Local functions are inlined, every node is in the newest opset's form.

    Raises ModelFileError where the file is missing, cut short, altered or no ONNX file; UnsupportedError for opsets and element
    types that this version does not know. A node that cannot be used does not raise here: it carries a `problem`.
    """
    path = Path(path)
    return read_bytes(_bytes(path), path)


def read_bytes(data: bytes, path: Path) -> RawModel:
    """As `read_model`, from the content of the file; `path` names it in messages, and external data lies beside it."""
    proto = _parse(path, data)
    opset = _opset(path, proto)
    proto = inline_functions(proto, path)
    graph = _Reader(path, opset, proto.graph).graph(proto.graph)
    model = RawModel(
        name=path.stem,
        inputs=graph.inputs,
        outputs=graph.outputs,
        nodes=graph.nodes,
        constants=graph.constants,
        opset=opset,
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        metadata={entry.key: entry.value for entry in proto.metadata_props},
        path=path,
        external=tuple(sorted(external_files(proto.graph))),
    )
    return upgrade(model, opset, contrib.RULES)


def _bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE:
            raise ModelFileError(f"{path}: {size} bytes; an ONNX file has at most {MAX_FILE}, save it with external data")
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    if not data:
        raise ModelFileError(f"{path}: the file is empty; get it again")
    for offset, magic, remedy in _FOREIGN:
        if data[offset:].startswith(magic):
            raise ModelFileError(f"{path}: this is {remedy}")
    return data


def _parse(path: Path, data: bytes) -> ModelProto:
    proto = ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        # every exporter writes ir_version (field 1, a number) first
        if data[0] == 0x08:
            raise ModelFileError(f"{path}: the file is cut short or altered; get it again") from None
        raise ModelFileError(f"{path}: this is not an ONNX file; check what it is, and export the model to ONNX") from None
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise ModelFileError(f"{path}: it holds no graph, so it is not an ONNX file or is cut short; get it again")
    _check_text(path, proto)
    if proto.ir_version > onnx.IR_VERSION:
        raise UnsupportedError(
            f"{path}: written in ONNX format {proto.ir_version}, the installed onnx {onnx.__version__} reads up to "
            f"{onnx.IR_VERSION}; run `pip install -U onnx` or export for an older opset"
        )
    return proto


def _check_text(path: Path, message: Message) -> None:
    """protobuf hands out names that are no UTF-8 as bytes; nothing behind this line should have to expect them."""
    for field, value in message.ListFields():
        values = [value] if isinstance(value, str | bytes | Message) else value
        if field.type == field.TYPE_MESSAGE:
            for part in values:
                _check_text(path, part)
        elif field.type == field.TYPE_STRING and any(isinstance(text, bytes) for text in values):
            raise ModelFileError(f"{path}: a name in it is not text in UTF-8; the file is altered, get it again")


def _opset(path: Path, proto: ModelProto) -> int:
    versions = [entry.version for entry in proto.opset_import if entry.domain in _ONNX_DOMAINS]
    if not versions:
        raise ModelFileError(f"{path}: it names no ONNX opset, so the file is cut short or made by hand; export it again")
    opset, newest = int(max(versions)), onnx.defs.onnx_opset_version()
    if opset > newest:
        raise UnsupportedError(
            f"{path}: opset {opset}, the installed onnx {onnx.__version__} knows up to {newest}; run `pip install -U onnx` or "
            f"export for opset {newest}"
        )
    return opset


class _Reader:
    def __init__(self, path: Path, opset: int, graph: GraphProto) -> None:
        self.path = path
        self.opset = opset
        given = [node.name for node in _nodes(graph) if node.name]
        self.taken = Names(given)
        self.unclaimed = set(given)
        self.count = 0

    def graph(self, graph: GraphProto) -> RawGraph:
        """One graph and, through its nodes, the bodies in it."""
        if graph.sparse_initializer:
            raise UnsupportedError(f"{self.path}: graph '{graph.name}' has sparse weights; export them dense")
        constants: dict[str, Array] = {}
        twice = [name for name, count in Counter(i.name for i in graph.input).items() if count > 1]
        if not all(value.name for value in (*graph.input, *graph.output)):
            raise ModelFileError(
                f"{self.path}: graph '{graph.name}' has an input or output without a name; export the model again"
            )
        if twice:
            raise ModelFileError(f"{self.path}: input '{twice[0]}' is there twice; export the model again")
        for tensor in graph.initializer:
            if tensor.name in constants:
                raise ModelFileError(f"{self.path}: tensor '{tensor.name}' is there twice; export the model again")
            constants[tensor.name] = read_tensor(tensor, tensor.name, self.path)
        nodes = []
        for proto in graph.node:
            node = self.node(proto)
            if node.op == "Constant" and not node.problem:
                if node.outputs[0] in constants:
                    raise ModelFileError(f"{self.path}: value '{node.outputs[0]}' is there twice; export the model again")
                constants[node.outputs[0]] = self.constant(proto, node)
            else:
                nodes.append(node)
        return RawGraph(
            name=graph.name,
            inputs=tuple(_declared(i) for i in graph.input if i.name not in constants),
            outputs=tuple(map(_declared, graph.output)),
            nodes=tuple(nodes),
            constants=constants,
        )

    def node(self, proto: NodeProto) -> RawNode:
        op = proto.op_type if proto.domain in _ONNX_DOMAINS else f"{proto.domain}.{proto.op_type}"
        name = self.node_name(proto)
        attrs: dict[str, Attr] = {}
        subgraphs: dict[str, RawGraph] = {}
        problem = node_problem(proto, self.opset) if proto.domain in _ONNX_DOMAINS else ""
        for attribute in proto.attribute:
            where = f"{self.path}: node '{name}' ({op}), attribute {attribute.name}"
            if attribute.type == AttributeProto.GRAPH:
                subgraphs[attribute.name] = self.graph(attribute.g)
            elif attribute.type == AttributeProto.TENSOR and op == "ConstantOfShape":
                attrs.update(self.fill(attribute.t, where))
            elif attribute.type in _PLAIN:
                attrs.update(_plain(attribute, where))
            elif (op, attribute.type) not in _READ_ELSEWHERE:
                kind = AttributeProto.AttributeType.Name(attribute.type).lower().replace("_", " ")
                problem = f"its attribute {attribute.name} is a {kind}, which is not supported; export the model without it"
        if op == "Constant" and (len(proto.output) != 1 or len(proto.attribute) != 1):
            raise ModelFileError(f"{self.path}: node '{name}' (Constant) holds no single value; export the model again")
        if op == "Constant" and any(key.startswith("value_string") for key in attrs):
            problem = "it holds text, and a step computes with numbers; export the model without text inputs"
        expand = partial(self.expanded, proto) if has_function(proto, self.opset) else None
        return RawNode(op, name, tuple(proto.input), tuple(proto.output), attrs, subgraphs, problem, expand)

    def expanded(self, proto: NodeProto, types: Sequence[TensorType | SequenceType | None]) -> RawGraph:
        """The graph by which ONNX defines an op, in the newest form."""
        graph, opset = function_body(proto, self.opset, types)
        return upgrade(_Reader(self.path, opset, graph).graph(graph), opset, contrib.RULES)

    def node_name(self, proto: NodeProto) -> str:
        """Unique in the file: a name that two nodes share gets a number at the second."""
        index = self.count
        self.count += 1
        if proto.name in self.unclaimed:
            self.unclaimed.discard(proto.name)
            return proto.name
        return self.taken.fresh(proto.name or f"{proto.op_type}_{index}")

    def constant(self, proto: NodeProto, node: RawNode) -> Array:
        """The array of a Constant node."""
        attribute = proto.attribute[0]
        if attribute.type == AttributeProto.TENSOR:
            return read_tensor(attribute.t, node.outputs[0], self.path)
        dtype = np.float32 if attribute.name.startswith("value_float") else np.int64
        array = np.array(node.attrs[attribute.name], dtype)
        array.flags.writeable = False
        return array

    def fill(self, tensor: TensorProto, where: str) -> dict[str, Attr]:
        """The value of a ConstantOfShape as two attributes: "value", a number, and "dtype"."""
        array = read_tensor(tensor, f"value of {where}", self.path)
        if array.size != 1:
            raise ModelFileError(f"{where}: {array.size} elements where one belongs; export the model again")
        value = array.reshape(()).item()
        return {"value": int(value) if isinstance(value, bool) else value, "dtype": array.dtype.name}


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _text(value: bytes) -> str:
    return value.decode()


#: the array of a Constant; what an Optional of nothing would hold, which nothing asks for
_READ_ELSEWHERE = (("Constant", AttributeProto.TENSOR), ("Optional", AttributeProto.TYPE_PROTO))

_PLAIN: Mapping[int, Callable[[AttributeProto], Attr]] = {
    AttributeProto.INT: lambda a: int(a.i),
    AttributeProto.FLOAT: lambda a: float(a.f),
    AttributeProto.STRING: lambda a: _text(a.s),
    AttributeProto.INTS: lambda a: tuple(map(int, a.ints)),
    AttributeProto.FLOATS: lambda a: tuple(map(float, a.floats)),
    AttributeProto.STRINGS: lambda a: tuple(map(_text, a.strings)),
}


def _plain(attribute: AttributeProto, where: str) -> dict[str, Attr]:
    try:
        value = _PLAIN[attribute.type](attribute)
    except UnicodeDecodeError:
        raise ModelFileError(f"{where}: it is not text in UTF-8; the file is altered, get it again") from None
    if attribute.name in _DTYPE_ATTRS and isinstance(value, int):
        return {attribute.name: dtype_name(value)} if value != TensorProto.UNDEFINED else {}
    return {attribute.name: value}


def _declared(info: ValueInfoProto) -> RawInput:
    return _of_type(info.name, info.type)


def _of_type(name: str, declared: TypeProto) -> RawInput:
    kind = declared.WhichOneof("value")
    if kind != "tensor_type":
        inner = getattr(declared, kind).elem_type if kind in ("sequence_type", "optional_type") else None
        item = None if inner is None else _of_type(name, inner)
        return RawInput(name, (kind or "unknown_type").removesuffix("_type"), (), False, item)
    tensor = declared.tensor_type
    ranked = tensor.HasField("shape")
    return RawInput(name, dtype_name(tensor.elem_type), tuple(map(_dim, tensor.shape.dim)), ranked)


def _dim(dim: TensorShapeProto.Dimension) -> Dim:
    """A size, a symbol, or None; exporters write "no size" as nothing, 0, -1, "?" or "-1"."""
    value, symbol = int(dim.dim_value), str(dim.dim_param)
    if value > 0:
        return value
    return symbol if symbol.lstrip("-?0123456789") else None
