"""Recurrent cells made of small ops, as exporters and people write them, in the body of a Scan or a Loop over frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from control_files import body, loop, node, typed
from onnx_files import F32, make

from streamrnn.ir.graph import Array

GATES = {"LSTM": "ifgo", "GRU": "zrn", "RNN": "h"}


@dataclass(frozen=True)
class Way:
    """A way to write a cell.

    order:   of the gates in a joint product.
    product: "gemm" (two, weights transposed), "matmul" (two, one bias), "joined" (one, of x and h side by side), "gates" (one
             for each gate and operand), "chained" (the first is what the second adds to), "whole" (x and h joined, and the
             gates' activation before they are split).
    sigmoid: "Sigmoid", "HardSigmoid", or it written as "Clip" or "MinMax".
    result:  of a GRU: "keep" z h + (1 - z) n, "step" n + z (h - n), "update" (1 - u) h + u n, "move" h + u (n - h).
    after:   whether the reset gate of a GRU multiplies the recurrent product.
    swapped: whether an LSTM carries c in front of h.
    """

    op: str
    order: str = ""
    product: str = "gemm"
    sigmoid: str = "Sigmoid"
    act: str = "Tanh"
    slices: bool = False
    forget_bias: float = 0.0
    result: str = "step"
    after: bool = True
    swapped: bool = False


#: what writes a cell in which way
FORMS: Mapping[str, Way] = {
    "torch LSTMCell": Way("LSTM"),
    "torch LSTMCell, slices": Way("LSTM", slices=True),
    "Linear of x and h joined": Way("LSTM", "fiog", "joined"),
    "a Linear for each gate": Way("LSTM", product="gates"),
    "Gemm that adds to another": Way("LSTM", product="chained"),
    "Keras LSTMCell": Way("LSTM", "ifgo", "matmul"),
    "Keras LSTMCell, hard sigmoid": Way("LSTM", "ifgo", "matmul", "HardSigmoid"),
    "Keras 1 LSTM, implementation 1": Way("LSTM", "ifgo", "gates", "MinMax"),
    "tf.compat BasicLSTMCell": Way("LSTM", "igfo", "joined", forget_bias=1.0),
    "LSTM that carries c first": Way("LSTM", "ofgi", "matmul", swapped=True),
    "torch GRUCell": Way("GRU", "rzn"),
    "Keras GRUCell, reset_after": Way("GRU", "zrn", "gemm", result="keep"),
    "Keras GRUCell, reset before": Way("GRU", "zrn", "matmul", result="keep", after=False),
    "Keras 1 GRU": Way("GRU", "zrn", "gates", "MinMax", result="keep", after=False),
    "Keras GRUCell, clipped": Way("GRU", "zrn", "gates", "Clip", result="keep"),
    "tf.compat GRUCell": Way("GRU", "rzn", "whole", result="keep", after=False),
    "GRU of a paper": Way("GRU", "zrn", "gates", result="update"),
    "GRU of a paper, hard sigmoid": Way("GRU", "zrn", "gates", "HardSigmoid", result="update"),
    "GRU that moves towards n": Way("GRU", "rzn", "joined", result="move", after=False),
    "torch RNNCell": Way("RNN"),
    "torch RNNCell, relu": Way("RNN", act="Relu"),
    "Elman by hand": Way("RNN", product="joined"),
}


@dataclass
class Writer:
    """Nodes of a body with inputs x and h (and c) and results h1 (and c1)."""

    way: Way
    n_in: int
    hidden: int
    seed: int = 0
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        sizes = {"W": (self.n_in, self.hidden), "U": (self.hidden, self.hidden), "b": (self.hidden,), "c": (self.hidden,)}
        self.weights = {
            gate: {part: (rng.standard_normal(size) / np.sqrt(size[0])).astype(np.float32) for part, size in sizes.items()}
            for gate in GATES[self.way.op]
        }
        {"LSTM": self._lstm, "GRU": self._gru, "RNN": self._rnn}[self.way.op]()

    @property
    def states(self) -> Sequence[str]:
        if self.way.op != "LSTM":
            return ("h",)
        return ("c", "h") if self.way.swapped else ("h", "c")

    def add(self, op: str, inputs: str, output: str, **attrs: Any) -> str:
        self.nodes.append(node(op, inputs.split(), output.split(), name=output.split()[0], **attrs))
        return output

    def constant(self, name: str, value: Any) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def _joint(self, part: str, gates: str, name: str) -> str:
        return self.constant(name, np.concatenate([self.weights[gate][part] for gate in gates], axis=-1))

    def sums(self, gates: str, h: str = "h") -> dict[str, str]:
        """W x + U h + b (+ c) of some gates."""
        product, key = self.way.product, gates + h
        if product == "gates":
            return {gate: self._own(gate, h) for gate in gates}
        W, U, b = (self._joint(part, gates, f"{part}_{key}") for part in "WUb")
        if product in ("joined", "whole"):
            K = self.constant(f"K_{key}", np.concatenate([self.constants.pop(W), self.constants.pop(U)]))
            self.add("Concat", f"x {h}", f"xh_{key}", axis=-1)
            self.add("MatMul", f"xh_{key} {K}", f"m_{key}")
            total = self.add("Add", f"m_{key} {b}", f"s_{key}")
        elif product == "matmul":
            for name, operands in (("mx", f"x {W}"), ("mh", f"{h} {U}")):
                self.add("MatMul", operands, f"{name}_{key}")
            self.add("Add", f"mx_{key} mh_{key}", f"m_{key}")
            total = self.add("Add", f"m_{key} {b}", f"s_{key}")
        else:
            for name in (W, U):
                self.constants[name] = np.ascontiguousarray(self.constants[name].T)
            x = self.add("Gemm", f"x {W} {b}", f"gx_{key}", transB=1)
            if product == "chained":
                total = self.add("Gemm", f"{h} {U} {x}", f"s_{key}", transB=1)
            else:
                c = self._joint("c", gates, f"c_{key}")
                self.add("Gemm", f"{h} {U} {c}", f"gh_{key}", transB=1)
                total = self.add("Add", f"{x} gh_{key}", f"s_{key}")
        return self.parts(total, gates)

    def _own(self, gate: str, h: str) -> str:
        W, U, b = (self.constant(f"{part}_{gate}", self.weights[gate][part]) for part in "WUb")
        self.add("MatMul", f"x {W}", f"mx_{gate}")
        self.add("Add", f"{b} mx_{gate}", f"mb_{gate}")
        self.add("MatMul", f"{h} {U}", f"mh_{gate}")
        return self.add("Add", f"mb_{gate} mh_{gate}", f"s_{gate}")

    def parts(self, total: str, gates: str) -> dict[str, str]:
        if len(gates) == 1:
            return {gates: total}
        names = {gate: f"{total}_{gate}" for gate in gates}
        if not self.way.slices:
            self.add("Split", total, " ".join(names.values()), axis=-1, num_outputs=len(gates))
            return names
        axis = self.constant("axis", np.array([-1]))
        for k, name in enumerate(names.values()):
            bounds = [self.constant(f"at{j}", np.array([j * self.hidden])) for j in (k, k + 1)]
            self.add("Slice", f"{total} {bounds[0]} {bounds[1]} {axis}", name)
        return names

    def sigmoid(self, x: str, name: str) -> str:
        kind = self.way.sigmoid
        if kind == "Sigmoid":
            return self.add("Sigmoid", x, name)
        if kind == "HardSigmoid":
            return self.add("HardSigmoid", x, name, alpha=0.2, beta=0.5)
        numbers = {"fifth": 0.2, "half": 0.5, "zero": 0.0, "one": 1.0}
        for number, value in numbers.items():
            self.constant(number, np.float32(value))
        self.add("Mul", f"fifth {x}", f"{name}_m")
        self.add("Add", f"{name}_m half", f"{name}_a")
        if kind == "Clip":
            return self.add("Clip", f"{name}_a zero one", name)
        self.add("Min", f"{name}_a one", f"{name}_n")
        return self.add("Max", f"{name}_n zero", name)

    def _lstm(self) -> None:
        sums = self.sums(self.way.order or "ifgo")
        if self.way.forget_bias:
            self.constant("more", np.float32(self.way.forget_bias))
            sums["f"] = self.add("Add", f"{sums['f']} more", "forget_sum")
        i, f, o = (self.sigmoid(sums[gate], f"gate_{gate}") for gate in "ifo")
        g = self.add(self.way.act, sums["g"], "g")
        self.add("Mul", f"{f} c", "fc")
        self.add("Mul", f"{i} {g}", "ig")
        self.add("Add", "fc ig", "c1")
        self.add(self.way.act, "c1", "c1_act")
        self.add("Mul", f"{o} c1_act", "h1")

    def _gru(self) -> None:
        order = self.way.order or "zrn"
        if self.way.after:
            x, h = self._both(order)
            pair = {gate: self.add("Add", f"{x[gate]} {h[gate]}", f"s_{gate}") for gate in "zr"}
        else:
            pair = self.sums(order.replace("n", "")) if self.way.product != "whole" else {}
        if pair:
            z, r = (self.sigmoid(pair[gate], f"gate_{gate}") for gate in "zr")
        else:
            gates = order.replace("n", "")
            way, self.way = self.way, replace(self.way, slices=False)
            self.sums(gates)
            self.nodes.pop()  # the Split: the activation comes first
            both = self.sigmoid(f"s_{gates}h", "both")
            found = self.parts(both, gates)
            self.way, z, r = way, found["z"], found["r"]
        if self.way.after:
            self.add("Mul", f"{r} {h['n']}", "rh")
            self.add("Add", f"{x['n']} rh", "n_sum")
            n_sum = "n_sum"
        else:
            self.add("Mul", f"{r} h", "rh")
            n_sum = self.sums("n", "rh")["n"]
        self._mix(z, self.add(self.way.act, n_sum, "n"))

    def _both(self, gates: str) -> tuple[dict[str, str], dict[str, str]]:
        """W x + b and U h + c of each gate."""
        found = []
        for source, weights, bias in (("x", "W", "b"), ("h", "U", "c")):
            if self.way.product == "gates":
                for gate in gates:
                    M, v = (self.constant(f"{part}_{gate}", self.weights[gate][part]) for part in (weights, bias))
                    self.add("Gemm", f"{source} {M} {v}", f"g{source}_{gate}")
                found.append({gate: f"g{source}_{gate}" for gate in gates})
                continue
            M, v = (self._joint(part, gates, part) for part in (weights, bias))
            self.add("MatMul", f"{source} {M}", f"m{source}")
            found.append(self.parts(self.add("Add", f"m{source} {v}", f"g{source}"), gates))
        return found[0], found[1]

    def _mix(self, z: str, n: str) -> None:
        self.constant("unit", np.float32(1))
        if self.way.result in ("keep", "update"):
            self.add("Sub", f"unit {z}", "rest")
            first, second = (z, "rest") if self.way.result == "keep" else ("rest", z)
            self.add("Mul", f"{first} h", "kept")
            self.add("Mul", f"{second} {n}", "new")
            self.add("Add", "kept new", "h1")
            return
        base, other = (n, "h") if self.way.result == "step" else ("h", n)
        self.add("Sub", f"{other} {base}", "apart")
        self.add("Mul", f"{z} apart", "moved")
        self.add("Add", f"{base} moved", "h1")

    def _rnn(self) -> None:
        self.add(self.way.act, self.sums("h")["h"], "h1")


def over_frames(
    cell: Writer, frames: int | str = "T", *, rows: int | None = 1, kind: str = "Scan", y: str = "h1", **attrs: Any
) -> onnx.ModelProto:
    """A model x_all [frames, rows, n_in] -> y, `y` of every frame; rows None: one row, without an axis for it."""
    shape = (cell.hidden,) if rows is None else (rows, cell.hidden)
    x = np.zeros((*shape[:-1], cell.n_in), np.float32)
    zeros = np.zeros(shape, np.float32)
    nodes = [*cell.nodes, node("Identity", [y], ["y_out"])]
    if kind == "Scan":
        inputs = [*(typed(zeros, name) for name in cell.states), typed(x, "x")]
        results = [typed(zeros, name) for name in (*(f"{s}1" for s in cell.states), "y_out")]
        inner = body(nodes, inputs, results, cell.constants)
        given = [*(f"{s}0" for s in cell.states), "x_all"]
        made = [node("Scan", given, [*(f"{s}_end" for s in cell.states), "y"], body=inner, num_scan_inputs=1, **attrs)]
    else:
        carried = [(s, zeros, f"{s}1") for s in cell.states]
        nodes.insert(0, node("Gather", ["x_all", "i"], ["x"]))
        count = [node("Shape", ["x_all"], ["shape"]), node("Gather", ["shape", "first"], ["frames"])]
        results_of = [*(f"{s}_end" for s in cell.states), "y"]
        made = [*count, loop(nodes, carried, ["y_out"], trip="frames", constants=cell.constants, results=results_of)]
    rng = np.random.default_rng(9)
    start = {f"{s}0": rng.standard_normal(shape).astype(np.float32) * np.float32(0.3) for s in cell.states}
    extra = {"first": np.array(0)} if kind == "Loop" else {}
    return make(made, [("x_all", F32, [frames, *x.shape])], [("y", F32, None)], {**start, **extra})
