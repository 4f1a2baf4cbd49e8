"""The `.srnn` file: a step Graph with its weights. Safetensors, with one JSON header in its metadata.

No code, no pickle: ops are looked up by name in the op table, everything is checked before memory is taken, and a SHA-256
over header and weights tells an altered file. The same hash is the model's fingerprint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from streamrnn.errors import GraphError, ModelFileError, StreamRNNError
from streamrnn.files import write_aside
from streamrnn.ir.graph import Array, Attr, Graph, Node, Stage, State
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.ir.verify import verify

#: raised when the meaning of a file changes; a reader refuses files of a later format
FORMAT = 1
#: a header larger than this is refused unread (bytes)
MAX_HEADER = 64 << 20


def fingerprint(graph: Graph) -> str:
    """SHA-256 over everything that decides what the model computes, as hex. `meta` is left out."""
    header = _header(graph)
    del header["meta"]
    return _digest(_json(header), [graph.constants[n] for n in graph.constants] + [s.init for s in graph.states])


def save_graph(graph: Graph, path: str | Path) -> None:
    """Write a verified step graph to `path`, aside and renamed. Raises GraphError, OSError."""
    if graph.stage is not Stage.STEP:
        raise GraphError(f"graph '{graph.name}' is at stage {graph.stage.value}; only step graphs are saved")
    arrays = [graph.constants[n] for n in graph.constants] + [s.init for s in graph.states]
    text = _json(_header(graph))
    metadata = {"streamrnn": text, "format": str(FORMAT), "sha256": _digest(text, arrays)}
    tensors = {f"t{i}": np.asarray(array, order="C") for i, array in enumerate(arrays)}
    write_aside(Path(path), save(tensors, metadata))


def load_graph(path: str | Path) -> Graph:
    """Read a `.srnn` file. Raises ModelFileError where it is missing, cut, altered or of a later format."""
    path = Path(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            _check_format(path, metadata)
            arrays = [file.get_tensor(f"t{i}") for i in range(len(file.keys()))]
    except (OSError, SafetensorError, ValueError) as error:
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


def _check_format(path: Path, metadata: Mapping[str, str]) -> None:
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


def _type(t: TensorType) -> list[Any]:
    return [t.dtype.value, list(t.shape)]


def _header(graph: Graph) -> dict[str, Any]:
    return {
        "name": graph.name,
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "nodes": [
            [n.op, n.name, list(n.inputs), list(n.outputs), {k: _attr(v) for k, v in n.attrs.items()}] for n in graph.nodes
        ],
        "types": {name: _type(t) for name, t in graph.types.items()},
        "constants": list(graph.constants),
        "states": [[s.name, s.read, s.write, s.kind, s.evidence] for s in graph.states],
        "streams": {name: [s.axis, s.delay, s.stride] for name, s in graph.streams.items()},
        "meta": dict(graph.meta),
    }


def _attr(value: Attr) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _parse(header: Mapping[str, Any], arrays: list[Array]) -> Graph:
    constants = dict(zip(header["constants"], arrays, strict=False))
    inits = arrays[len(header["constants"]) :]
    if len(header["constants"]) + len(header["states"]) != len(arrays):
        raise ModelFileError("the number of tensors does not fit the header")
    return Graph(
        name=_text(header["name"]),
        stage=Stage.STEP,
        inputs=tuple(map(_text, header["inputs"])),
        outputs=tuple(map(_text, header["outputs"])),
        nodes=tuple(_node(*row) for row in header["nodes"]),
        types={_text(k): TensorType(DType(d), tuple(_size(n) for n in shape)) for k, (d, shape) in header["types"].items()},
        constants=constants,
        states=tuple(
            State(_text(name), _text(read), _text(write), init, _text(kind), _text(evidence))
            for (name, read, write, kind, evidence), init in zip(header["states"], inits, strict=True)
        ),
        streams={
            _text(k): StreamType(None if axis is None else _size(axis), _size(delay), _size(stride))
            for k, (axis, delay, stride) in header["streams"].items()
        },
        meta=dict(header["meta"]),
    )


def _node(op: object, name: object, inputs: list[object], outputs: list[object], attrs: dict[str, Any]) -> Node:
    return Node(
        _text(op),
        _text(name),
        tuple(map(_text, inputs)),
        tuple(map(_text, outputs)),
        {_text(k): tuple(v) if isinstance(v, list) else v for k, v in attrs.items()},
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise GraphError(f"{value!r} is not a name")
    return value


def _size(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 1 << 40:
        raise GraphError(f"{value!r} is not a size")
    return value
