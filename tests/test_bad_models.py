"""Files made to do harm: sizes, nesting and repetition without measure, names out of the folder, graphs that are none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_files as files
import pytest
from lint_files import node
from onnx import TensorProto
from onnx import helper as h
from onnx_files import F32, I64
from streamrnn_converters import convert

from streamrnn import Engine, StreamRNNError

X = ("x", F32, [1, 3])


def model(nodes: Sequence[Any], constants: dict[str, Any] | None = None, x: Any = X, **more: Any) -> onnx.ModelProto:
    outputs = [(name, F32, None) for name in more.pop("outputs", ("y",))]
    return files.make(nodes, [x], outputs, {k: np.asarray(v) for k, v in (constants or {}).items()}, **more)  # type: ignore[arg-type]


def looping(result: str) -> onnx.NodeProto:
    """A Loop over n that gives x back under the name `result`."""
    nodes = [node("Identity", "c", "go"), node("Neg", "h", "h2")]
    typed = [("i", I64, []), ("c", files.BOOL, []), ("h", F32, [1, 3])], [("go", files.BOOL, []), (result, F32, [1, 3])]
    return h.make_node("Loop", ["n", "", "x"], ["y"], name="y", body=files.make(nodes, *typed).graph)


def stretched(dims: Sequence[int]) -> onnx.ModelProto:
    """A tensor of three elements that claims to have the shape `dims`."""
    proto = model([node("Add", "x w", "y")], {"w": np.zeros(3, np.float32)})
    proto.graph.initializer[0].dims[:] = dims
    return proto


def doubling(first: str) -> onnx.ModelProto:
    """A value that is joined to itself sixty times."""
    names = [first, *(f"c{k}" for k in range(60))]
    nodes = [h.make_node("Concat", [a, a], [b], axis=0, name=b) for a, b in pairwise(names)]
    return model([*nodes, node("ReduceMax", "c59", "m"), node("Add", "x m", "y")], {"w": np.ones((64, 3), np.float32)})


def calling(bodies: Sequence[Sequence[str]]) -> onnx.ModelProto:
    """Local functions f0, f1, ...: body k is a chain of calls of those named."""
    opsets = [h.make_opsetid("", 18), h.make_opsetid("own", 1)]
    functions = []
    for k, called in enumerate(bodies):
        names = ["a", *(f"v{i}" for i in range(len(called) - 1)), "b"]
        nodes = [
            h.make_node(name, [names[i]], [names[i + 1]], domain="own" if name.startswith("f") else "")
            for i, name in enumerate(called)
        ]
        functions.append(h.make_function("own", f"f{k}", ["a"], ["b"], nodes, opsets))
    return model([h.make_node("f0", ["x"], ["y"], domain="own")], domains=("own",), functions=functions)


def nested(depth: int) -> bytes:
    """An If in an If in an If ..., written byte by byte because protobuf itself refuses to."""

    def number(value: int) -> bytes:
        low, rest = value & 127, value >> 7
        return bytes([low | 128]) + number(rest) if rest else bytes([low])

    def field(index: int, content: bytes) -> bytes:
        return number(index << 3 | 2) + number(len(content)) + content

    graph = field(1, field(1, b"x") + field(2, b"y") + field(4, b"Relu"))
    for _ in range(depth):
        branch = field(1, b"then_branch") + field(6, graph) + number(20 << 3) + number(5)
        graph = field(1, field(1, b"c") + field(2, b"y") + field(4, b"If") + field(5, branch))
    return b"\x08\x09" + field(7, graph + field(2, b"g") + field(12, field(1, b"y"))) + field(8, number(2 << 3) + number(18))


def outside(location: str) -> onnx.ModelProto:
    proto = model([node("Add", "x w", "y")], {"w": np.zeros(3, np.float32)})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return proto


def twice(proto: onnx.ModelProto, part: str) -> onnx.ModelProto:
    """The first of the graph's inputs, nodes, initializers or outputs once more."""
    field = getattr(proto.graph, part)
    field.add().CopyFrom(field[0])
    return proto


CASES: dict[str, tuple[Callable[[], onnx.ModelProto | bytes], str]] = {
    "cycle": (lambda: model([node("Add", "x b", "a"), node("Relu", "a", "b"), node("Relu", "b", "y")]), "cycle"),
    "a node that reads itself": (lambda: model([node("Add", "x y", "y")]), "cycle"),
    "a value computed twice": (lambda: twice(model([node("Relu", "x", "y")]), "node"), "computed twice"),
    "a tensor twice": (lambda: twice(model([node("Add", "x w", "y")], {"w": np.zeros(3, np.float32)}), "initializer"), "twice"),
    "an input twice": (lambda: twice(model([node("Relu", "x", "y")]), "input"), "twice"),
    "an output without a name": (lambda: model([node("Relu", "x", "y")], outputs=("",)), "without a name"),
    "an output of a body without a name": (lambda: model([looping("")], {"n": 3}), "without a name"),
    "a value from nowhere": (lambda: model([node("Add", "x nothing", "y")]), "nothing computes"),
    "an output from nowhere": (lambda: model([node("Relu", "x", "z")]), "nothing computes"),
    "an output of another type": (
        lambda: files.make([node("Relu", "x", "y")], [X], [("y", I64, [1, 3])]),
        "declared as int64 and computed as float32",
    ),
    "an attribute that is none": (lambda: model([node("Softmax", "x", "y", axes=1)]), "no attribute 'axes'"),
    "shapes that do not fit": (lambda: model([node("Add", "x w", "y")], {"w": np.zeros(2, np.float32)}), "broadcast"),
    "too few elements": (lambda: stretched([1000]), "takes 4000 bytes"),
    "a huge tensor": (lambda: stretched([1 << 32, 1 << 32]), "bytes, the file has"),
    "a size beyond all": (lambda: stretched([1 << 60]), "is not one"),
    "a size below zero": (lambda: stretched([-3]), "is not one"),
    "a huge input": (lambda: model([node("Relu", "x", "y")], x=("x", F32, [1 << 20, 1 << 20])), "at most"),
    "an immense input": (lambda: model([node("Relu", "x", "y")], x=("x", F32, [1 << 40, 1 << 40])), "at most|broadcast"),
    "a huge result": (lambda: model([node("Tile", "x n", "y")], {"n": [1 << 40, 1 << 40]}), "at most"),
    "a huge constant": (
        lambda: model([node("Expand", "w n", "e"), node("ReduceSum", "e", "s"), node("Add", "x s", "y")],
                      {"w": np.float32([1]), "n": [1 << 40]}),
        "at most",
    ),
    "a huge ring": (
        lambda: model([node("Conv", "x w", "y", dilations=[1 << 40], pads=[1 << 40, 1 << 40])],
                      {"w": np.zeros((1, 1, 3), np.float32)}, ("x", F32, [1, 1, 3])),
        "at most",
    ),
    "padding without end": (lambda: model([node("Pad", "x p", "y")], {"p": [0, 1 << 50, 0, 0]}), "at most"),
    "a range without end": (
        lambda: model([node("Range", "a b c", "r"), node("ReduceSum", "r", "s"), node("Add", "x s", "y")],
                      {"a": np.float32(0), "b": np.float32(1e30), "c": np.float32(1)}),
        "at most",
    ),
    "a range that leads nowhere": (
        lambda: model([node("Range", "a b c", "r"), node("ReduceSum", "r", "s"), node("Add", "x s", "y")],
                      {"a": np.float32(0), "b": np.float32(np.nan), "c": np.float32(0)}),
        "no range leads",
    ),
    "doubling the input": (lambda: doubling("x"), "at most"),
    "doubling a constant": (lambda: doubling("w"), "at most"),
    "a hundred thousand inputs": (lambda: model([h.make_node("Sum", ["x"] * 100_000, ["y"])]), "100000 inputs"),
    "a function that calls itself": (lambda: calling([["f0"]]), "calls itself"),
    "functions that call each other": (lambda: calling([["f1"], ["f0"]]), "calls itself"),
    "functions that multiply": (lambda: calling([*([f"f{k + 1}"] * 2 for k in range(40)), ["Relu"]]), "more than"),
    "nesting of 10000": (lambda: nested(10_000), "cut short or altered|nested"),
    "nesting of 40": (lambda: nested(40), "cut short or altered|nested|malformed|nothing computes"),
    "data above the folder": (lambda: outside("../../../etc/passwd"), "outside the model's folder"),
    "data anywhere": (lambda: outside("/etc/passwd"), "outside the model's folder"),
    "data in the folder itself": (lambda: outside("."), "not there"),
    "data without a name": (lambda: outside(""), "outside the model's folder"),
    "data under no name": (lambda: outside("a\0b"), "no name of a file"),
    "data under an endless name": (lambda: outside("a" * 100_000), "no name of a file"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "words"), CASES.values(), ids=CASES)
def test_a_harmful_file_is_refused_with_the_reason(tmp_path: Path, make: Callable[[], Any], words: str) -> None:
    made = make()
    path = tmp_path / "model.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    with pytest.raises(StreamRNNError, match=words):
        Engine(convert(path))


def test_none_of_them_takes_much_memory(tmp_path: Path) -> None:
    """All of them in one process that may not have more than two gigabytes on top of what its libraries map."""
    for k, (make, _) in enumerate(CASES.values()):
        made = make()
        (tmp_path / f"{k}.onnx").write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    code = (
        "import sys, resource, streamrnn\n"
        "from pathlib import Path\n"
        "from streamrnn_converters import convert\n"
        "held = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (held + (2 << 30), resource.RLIM_INFINITY))\n"
        "for path in sorted(Path(sys.argv[1]).glob('*.onnx')):\n"
        "    try: streamrnn.Engine(convert(path))\n"
        "    except streamrnn.StreamRNNError: print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("refused") == len(CASES)


def test_a_chain_of_thousands_of_operations_becomes_loops_of_a_bounded_length(tmp_path: Path) -> None:
    names = ["x", *(f"v{k}" for k in range(599)), "y"]
    nodes = [h.make_node("Tanh", [a], [b], name=b) for a, b in pairwise(names)]
    graph = convert(files.save(model(nodes), tmp_path), mode="window")
    bodies = [node.attrs["body"] for node in graph.nodes]
    assert [node.op for node in graph.nodes] == ["Fused"] * len(bodies)
    assert sum(len(body) for body in bodies) == 600  # type: ignore[arg-type]
    assert max(len(body) for body in bodies) <= 256  # type: ignore[arg-type]


def test_an_input_that_is_also_an_output_is_not_given_back_late_under_its_name(tmp_path: Path) -> None:
    """A look-ahead makes the other output wait, and one name cannot mean two moments."""
    nodes = [
        node("Conv", "x K", "c", pads=[1, 1]),
        node("Transpose", "c", "t", perm=[2, 0, 1]),
        node("RNN", "t W R", "y", hidden_size=2),
    ]
    constants = {"K": np.ones((3, 3, 3), np.float32), "W": np.ones((1, 2, 3), np.float32), "R": np.ones((1, 2, 2), np.float32)}
    outputs = [("x", F32, [1, 3, "T"]), ("y", F32, None)]
    path = files.save(files.make(nodes, [("x", F32, [1, 3, "T"])], outputs, constants), tmp_path)  # type: ignore[arg-type]
    with pytest.raises(StreamRNNError, match="output 'x' is the input of that name"):
        convert(path, mode="frame")
    assert Engine(convert(path, mode="frame", outputs=["y"])).delay == 1
