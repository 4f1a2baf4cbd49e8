"""For each code of lint two small ONNX files: one that has the fault, and its twin without."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_files as files
from contract import floats
from onnx import helper as h
from onnx_files import F32, I64, Dims

from streamrnn.ir.graph import Array

H = 4
Maker = Callable[[Path], Path]


def node(op: str, inputs: str, outputs: str, **attrs: Any) -> Any:
    """Names are apart by blanks; "-" leaves an input or output out. The node is called after its first output."""
    ins, outs = (["" if name == "-" else name for name in text.split()] for text in (inputs, outputs))
    return h.make_node(op, ins, outs, name=next(name for name in outs if name), **attrs)


def model(
    nodes: Sequence[Any],
    inputs: Mapping[str, Dims],
    outputs: Mapping[str, Dims],
    constants: Mapping[str, Array],
    *,
    name: str = "model.onnx",
    domains: Sequence[str] = (),
    **more: Any,
) -> Maker:
    """float32, but for inputs whose names begin with "i"."""
    typed = [[(n, I64 if n.startswith("i") else F32, dims) for n, dims in table.items()] for table in (inputs, outputs)]
    proto = files.make(nodes, typed[0], typed[1], constants, domains=domains, **more)
    return lambda folder: files.save(proto, folder, name)


def weights(op: str, seed: int = 1, directions: int = 1) -> dict[str, Array]:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    return {
        "W": floats(seed, directions, gates * H, 3, scale=0.4),
        "R": floats(seed + 1, directions, gates * H, H, scale=0.3),
        "B": floats(seed + 2, directions, 2 * gates * H, scale=0.2),
    }


def clip(dims: Dims = ("T", 1, 3), constants: Mapping[str, Array] | None = None, *, op: str = "GRU", **more: Any) -> Maker:
    """x -> recurrent op -> tanh -> y; `attrs`: those of the op, `also`: further outputs."""
    attrs = {"linear_before_reset": 1} if op == "GRU" else {}
    attrs |= more.pop("attrs", {})
    also = more.pop("also", {})
    nodes = [
        node(op, "x W R B", " ".join(["all", *also]), hidden_size=H, **attrs),
        node("Tanh", "all", "y"),
        *more.pop("nodes", ()),
    ]
    return model(
        nodes, {"x": dims}, {"y": None, **also, **more.pop("outputs", {})}, {**weights(op), **(constants or {})}, **more
    )


def gridded(*, dynamic: bool) -> Maker:
    """A GRU whose frames are put on a grid and back, on that of a step or on a given one."""
    given = {"scale": np.array(0.1, np.float32), "zero": np.array(7, np.uint8)}
    quantise = node("DynamicQuantizeLinear", "y", "q s z") if dynamic else node("QuantizeLinear", "y scale zero", "q")
    grid = "s z" if dynamic else "scale zero"
    nodes = [quantise, node("DequantizeLinear", f"q {grid}", "r")]
    return clip(constants={} if dynamic else given, nodes=nodes, outputs={"r": None})


def step(op: str = "LSTM", *, out: bool = True, batch: int | str = 1, more: Sequence[Any] = (), **options: Any) -> Maker:
    """One frame x [1, batch, 3] and the state h [1, batch, H] -> y and, with `out`, h_out."""
    attrs = {"linear_before_reset": 1} if op == "GRU" else {}
    nodes = [
        node(op, "x W R B - h", "- h_out" if out else "all -", hidden_size=H, **attrs),
        node("Tanh", "h_out" if out else "all", "y"),
        *more,
    ]
    outputs: dict[str, Dims] = {"y": None, **({"h_out": [1, batch, H]} if out else {})}  # type: ignore[dict-item]
    inputs: dict[str, Dims] = {"x": [1, batch, 3], "h": [1, batch, H], **options.pop("inputs", {})}
    constants = {**weights(op), **options.pop("constants", {})}
    return model(nodes, inputs, {**outputs, **options.pop("outputs", {})}, constants, **options)


def bins(size: int) -> Maker:
    """A step model with a GRU over `size` bins inside each step."""
    more = [node("GRU", "bins W R B", "over -", hidden_size=H, linear_before_reset=1), node("Relu", "over", "z")]
    return step("GRU", more=more, inputs={"bins": [size, 1, 3]}, outputs={"z": None})


def strided() -> Maker:
    """A GRU along time behind a convolution that halves it."""
    nodes = [
        node("Conv", "u K", "half", strides=[2], kernel_shape=[2]),
        node("Transpose", "half", "frames", perm=[2, 0, 1]),
        node("GRU", "frames W R B", "all", hidden_size=H, linear_before_reset=1),
        node("Tanh", "all", "y"),
    ]
    return model(nodes, {"u": [1, 3, "T"]}, {"y": None}, {**weights("GRU"), "K": floats(1, 3, 3, 2)})


def elman(times: int, shared: bool) -> Maker:
    """x [1, times, 3] -> an Elman cell written out `times` times -> y. Without `shared`, each time other weights."""
    nodes, constants = [], {"U": floats(1, 3, H), "h0": np.zeros((1, H), np.float32), "one": np.array([1])}
    state = "h0"
    for t in range(times):
        constants |= {f"at{t}": np.array(t), f"V{t if not shared else ''}": floats(2 + t, H, H)}
        nodes += [
            node("Gather", f"x at{t}", f"x{t}", axis=1),
            node("MatMul", f"x{t} U", f"u{t}"),
            node("MatMul", f"{state} V{t if not shared else ''}", f"v{t}"),
            node("Add", f"u{t} v{t}", f"s{t}"),
            node("Tanh", f"s{t}", f"h{t + 1}"),
        ]
        state = f"h{t + 1}"
    nodes.append(node("Neg", state, "y"))
    return model(nodes, {"x": [1, times, 3]}, {"y": None}, constants)


def conv_elman(times: int, odd: bool = False) -> Maker:
    """x [1, times, 5, 3] -> an Elman cell of convolutions along the 5 positions, written out `times` times -> y. Each time its
    weights are cut out of a larger tensor anew. With `odd`, the third time is unlike the others, so that it is no loop."""
    nodes: list[Any] = []
    constants = {"K": floats(1, 2 * H, 3, 3), "R": floats(2, 2 * H, H, 3, scale=0.3), "h0": np.zeros((1, H, 5), np.float32)}
    constants |= {"from": np.array([0]), "to": np.array([H])}
    state = "h0"
    for t in range(times):
        constants[f"at{t}"] = np.array(t)
        nodes += [
            node("Gather", f"x at{t}", f"p{t}", axis=1),
            node("Transpose", f"p{t}", f"x{t}", perm=[0, 2, 1]),
            node("Slice", "K from to", f"K{t}"),
            node("Slice", "R from to", f"R{t}"),
            node("Conv", f"x{t} K{t}", f"u{t}", pads=[2, 0]),
            node("Conv", f"{state} R{t}", f"v{t}", pads=[2, 0]),
            node("Add", f"u{t} v{t}", f"s{t}"),
            node("Sigmoid" if odd and t == 2 else "Tanh", f"s{t}", f"h{t + 1}"),
        ]
        state = f"h{t + 1}"
    nodes.append(node("Neg", state, "y"))
    return model(nodes, {"x": [1, times, 5, 3]}, {"y": None}, constants)


def tied(layers: int) -> Maker:
    """Layers behind one another that share their weights and see nothing new of the input but a mask, always the same."""
    nodes, state = [], "x"
    for t in range(layers):
        nodes += [
            node("MatMul", f"{state} V", f"v{t}"),
            node("Add", f"v{t} mask", f"s{t}"),
            node("Tanh", f"s{t}", f"h{t}"),
        ]
        state = f"h{t}"
    nodes.append(node("Neg", state, "y"))
    return model(nodes, {"x": [1, H], "mask": [1, H]}, {"y": None}, {"V": floats(1, H, H)})


def tiny(count: int) -> Maker:
    """A GRU, `count` of whose weights are denormal."""
    R = weights("GRU")["R"].copy()
    R.reshape(-1)[:count] = np.float32(1e-40)
    return clip(constants={"R": R})


def small_half() -> Maker:
    """Numbers that are denormal in float16, and normal in float32, in which they are used."""
    nodes = [node("Cast", "small", "wide", to=F32), node("Add", "all wide", "z")]
    return clip(constants={"small": np.full(H, 1e-6, np.float16)}, nodes=nodes, outputs={"z": None})


def poisoned(value: float) -> Maker:
    """A GRU behind a mask; `value` in one weight, infinity in the mask."""
    R = weights("GRU")["R"].copy()
    R[0, 1, 2] = value
    mask = np.array([0, -np.inf, 0], np.float32)
    nodes = [
        node("Max", "raw mask", "x"),
        node("GRU", "x W R B", "all", hidden_size=H, linear_before_reset=1),
        node("Tanh", "all", "y"),
    ]
    return model(nodes, {"raw": ["T", 1, 3]}, {"y": None}, {**weights("GRU"), "R": R, "mask": mask})


def scaled(scale: float) -> Maker:
    """y = tanh of weights that are stored as int8."""
    constants = {"q": np.arange(12, dtype=np.int8).reshape(3, 4), "scale": np.float32([scale]), "zero": np.zeros(1, np.int8)}
    nodes = [node("DequantizeLinear", "q scale zero", "w"), node("MatMul", "x w", "p"), node("Tanh", "p", "y")]
    return model(nodes, {"x": [1, 3]}, {"y": None}, constants)


def random(drawn: bool) -> Maker:
    nodes = [node("RandomNormalLike" if drawn else "Relu", "y", "noise"), node("Add", "y noise", "loud")]
    return clip(nodes=nodes, outputs={"loud": None})


def external(outside: bool) -> Maker:
    inner = clip()

    def make(folder: Path) -> Path:
        path = inner(folder)
        proto = onnx.load(path)
        onnx.save(proto, path, save_as_external_data=outside, location="weights.bin", size_threshold=0)
        return path

    return make


def idle(sizes: Mapping[str, int]) -> Maker:
    return clip(constants={name: floats(1, size) for name, size in sizes.items()})


def constant_output(constant: bool) -> Maker:
    nodes = [node("Neg", "limit" if constant else "y", "version")]
    return clip(constants={"limit": np.float32([3.0])}, nodes=nodes, outputs={"version": None})


def unused_input(unused: bool) -> Maker:
    more = [] if unused else [node("Neg", "knob", "z")]
    return step("GRU", more=more, inputs={"knob": [1, 3]}, outputs={} if unused else {"z": None})


def by(producer: str, version: str, lbr: int, bias: float = 0.2) -> Maker:
    B = weights("GRU")["B"].copy()
    B[:, 5 * H :] *= bias
    attrs = {"linear_before_reset": lbr}
    return clip(constants={"B": B}, attrs=attrs, producer_name=producer, producer_version=version)


#: code -> (a file that has it, a file that does not)
PAIRS: dict[str, Sequence[tuple[Maker, Maker]]] = {
    "SR101": [
        (by("pytorch", "2.10.0", 0, bias=0.0), by("pytorch", "2.10.0", 1)),
        (by("keras2onnx", "1.3.0", 0), by("keras2onnx", "1.3.0", 0, bias=0.0)),
    ],
    "SR102": [(bins(5), bins(1)), (bins(5), strided())],
    "SR103": [(elman(5, shared=True), elman(5, shared=False)), (conv_elman(4, odd=True), tied(5))],
    "SR201": [
        (clip(("T", 1, 3), also={"h_n": [1, 1, H]}), clip(("T", 1, 3))),
        (
            clip([6, 1, 3], op="LSTM", also={"h_n": [2, 1, H]}, constants=weights("LSTM", directions=2),
                 attrs={"direction": "bidirectional"}),
            step("LSTM"),
        ),
    ],
    "SR202": [(step("GRU", out=False), step("GRU"))],
    "SR301": [(clip(("T", 5, 3)), clip(("T", "batch", 3))), (step("RNN", batch=3), step("RNN"))],
    "SR302": [
        (
            clip([6, 1, 3], op="RNN", constants=weights("RNN", directions=2), attrs={"direction": "bidirectional"}),
            clip(op="RNN"),
        )
    ],
    "SR303": [(clip([6, 1, 3]), clip())],
    "SR304": [(gridded(dynamic=True), gridded(dynamic=False))],
    "SR401": [(poisoned(np.nan), poisoned(0.5)), (poisoned(np.inf), poisoned(0.5))],
    "SR402": [(tiny(3), tiny(0)), (tiny(3), small_half())],
    "SR403": [
        (clip(name="model_fp16.onnx"), clip(name="behalf.onnx")),
        (clip(name="model_half.onnx"), clip(name="half_band.onnx")),
    ],
    "SR404": [(scaled(0.0), scaled(0.1))],
    "SR501": [(random(drawn=True), random(drawn=False))],
    "SR502": [(external(outside=True), external(outside=False))],
    "SR503": [(idle({"left": 20}), idle({}))],
    "SR504": [(constant_output(constant=True), constant_output(constant=False))],
    "SR505": [(unused_input(unused=True), unused_input(unused=False))],
}  # fmt: skip
