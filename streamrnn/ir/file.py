"""The `.srnn` file: a step Graph with its weights. Safetensors, with one JSON header in its metadata.

No code, no pickle: ops are looked up by name in the op table, everything is checked before memory is taken, and a SHA-256
over header and weights tells an altered file. The same hash is the model's fingerprint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from streamrnn.errors import GraphError, ModelFileError, StreamRNNError
from streamrnn.files import read_file, write_aside
from streamrnn.ir.graph import Array, Attr, Graph, Node, Stage, State
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.ir.verify import verify

#: raised when the meaning of a file changes; a reader refuses files of a later format. 2: nodes with bodies.
FORMAT = 2
#: a header larger than this is refused unread (bytes)
MAX_HEADER = 64 << 20


def fingerprint(graph: Graph) -> str:
    """SHA-256 over everything that decides what the model computes, as hex: not `meta`, nor what states are for and how they
    were found."""
    header = _header(graph)
    del header["meta"]
    header["states"] = [[s.name, s.read, s.write] for s in graph.states]
    return _digest(_json(header), _arrays(graph))


def save_graph(graph: Graph, path: str | Path) -> None:
    """Write a verified step graph to `path`, aside and renamed. Raises GraphError, OSError."""
    if graph.stage is not Stage.STEP:
        raise GraphError(f"graph '{graph.name}' is at stage {graph.stage.value}; only step graphs are saved")
    arrays = _arrays(graph)
    text = _json(_header(graph))
    # the oldest format that says it all, so that older readers take what they can read
    format_ = FORMAT if any(node.bodies for node in graph.nodes) else 1
    metadata = {"streamrnn": text, "format": str(format_), "sha256": _digest(text, arrays)}
    tensors = {f"t{i}": np.asarray(array, order="C") for i, array in enumerate(arrays)}
    write_aside(Path(path), save(tensors, metadata))


def load_graph(path: str | Path) -> Graph:
    """Read a `.srnn` file. Raises ModelFileError where it is missing, cut, altered or of a later format."""
    return parse_graph(read_file(path), path)


def parse_graph(data: bytes, path: str | Path) -> Graph:
    """The graph in the bytes of a `.srnn` file, `path` for messages. Raises ModelFileError."""
    try:
        tensors = load(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
        _check_format(path, metadata)
        arrays = [tensors[f"t{i}"] for i in range(len(tensors))]
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelFileError(f"{path}: not a readable .srnn file ({error}); convert the model again") from None
    text = metadata["streamrnn"]
    if _digest(text, arrays) != metadata.get("sha256"):
        raise ModelFileError(f"{path}: the file was altered (its checksum does not fit); convert the model again")
    try:
        return verify(_parse(json.loads(text), arrays))
    except StreamRNNError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise ModelFileError(f"{path}: the header does not describe a graph ({error!r}); convert the model again") from None


def _check_format(path: str | Path, metadata: Mapping[str, str]) -> None:
    if "streamrnn" not in metadata or "format" not in metadata:
        raise ModelFileError(
            f"{path}: a safetensors file, but not one of streamrnn's; convert the model with `streamrnn convert`"
        )
    if not metadata["format"].isdigit() or int(metadata["format"]) > FORMAT:
        raise ModelFileError(
            f"{path}: written in format {metadata['format'][:20]}, this version reads up to {FORMAT}; upgrade streamrnn"
        )
    if len(metadata["streamrnn"]) > MAX_HEADER:
        raise ModelFileError(f"{path}: header of {len(metadata['streamrnn'])} bytes; at most {MAX_HEADER} are allowed")


def _digest(text: str, arrays: list[Array]) -> str:
    digest = hashlib.sha256(text.encode())
    for array in arrays:
        digest.update(f"\0{array.dtype.name}{array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).data if array.size else b"")
    return digest.hexdigest()


def _json(header: Mapping[str, Any]) -> str:
    return json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=True)


def _arrays(graph: Graph) -> list[Array]:
    """Constants, initial states, then those of the bodies, in the order of the nodes."""
    found = [*graph.constants.values(), *(s.init for s in graph.states)]
    for node in graph.nodes:
        for body in node.bodies:
            found += _arrays(body)
    return found


def _type(t: TensorType) -> list[Any]:
    return [t.dtype.value, list(t.shape)]


def _header(graph: Graph) -> dict[str, Any]:
    return {
        "name": graph.name,
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "nodes": [_row(node) for node in graph.nodes],
        "types": {name: _type(t) for name, t in graph.types.items()},
        "constants": list(graph.constants),
        "states": [[s.name, s.read, s.write, s.kind, s.evidence] for s in graph.states],
        "streams": {name: [s.axis, s.delay, s.stride] for name, s in graph.streams.items()},
        "meta": dict(graph.meta),
    }


def _row(n: Node) -> list[Any]:
    row = [n.op, n.name, list(n.inputs), list(n.outputs), {k: _attr(v) for k, v in n.attrs.items()}]
    return [*row, [_header(body) for body in n.bodies]] if n.bodies else row


def _attr(value: Attr) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _parse(header: Mapping[str, Any], arrays: list[Array]) -> Graph:
    left = iter(arrays)
    graph = _graph(header, left, Stage.STEP)
    if next(left, None) is not None:
        raise ModelFileError("the number of tensors does not fit the header")
    return graph


def _graph(header: Mapping[str, Any], arrays: Iterator[Array], stage: Stage) -> Graph:
    """A graph and its bodies, which take their arrays from `arrays` in the order of `_arrays`."""
    constants = {_text(name): _next(arrays) for name in header["constants"]}
    states = tuple(
        State(_text(name), _text(read), _text(write), _next(arrays), _text(kind), _text(evidence))
        for name, read, write, kind, evidence in header["states"]
    )
    return Graph(
        name=_text(header["name"]),
        stage=stage,
        inputs=tuple(map(_text, header["inputs"])),
        outputs=tuple(map(_text, header["outputs"])),
        nodes=tuple(_node(arrays, *row) for row in header["nodes"]),
        types={_text(k): TensorType(DType(d), tuple(_size(n) for n in shape)) for k, (d, shape) in header["types"].items()},
        constants=constants,
        states=states,
        streams={
            _text(k): StreamType(None if axis is None else _size(axis), _size(delay), _size(stride))
            for k, (axis, delay, stride) in header["streams"].items()
        },
        meta=dict(header["meta"]),
    )


def _next(arrays: Iterator[Array]) -> Array:
    found = next(arrays, None)
    if found is None:
        raise ModelFileError("the number of tensors does not fit the header")
    return found


def _node(
    arrays: Iterator[Array],
    op: object,
    name: object,
    inputs: list[object],
    outputs: list[object],
    attrs: dict[str, Any],
    bodies: Sequence[Mapping[str, Any]] = (),
) -> Node:
    return Node(
        _text(op),
        _text(name),
        tuple(map(_text, inputs)),
        tuple(map(_text, outputs)),
        {_text(k): tuple(v) if isinstance(v, list) else v for k, v in attrs.items()},
        tuple(_graph(body, arrays, Stage.BODY) for body in bodies),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise GraphError(f"{value!r} is not a name")
    return value


def _size(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 1 << 40:
        raise GraphError(f"{value!r} is not a size")
    return value
