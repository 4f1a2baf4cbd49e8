"""LiteRT (TensorFlow Lite): the cell as a file of its small ops, written with the schema that the package brings.

A step reads the states from inputs and writes them to outputs. int8 weights have a scale per channel, and its kernels quantise
what meets them at each step ("dynamic range").
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from streamrnn.ir.graph import Array
from suite.cells import CellCase, Session, UnsupportedCaseError

OP = schema.BuiltinOperator


def ways(case: CellCase, weights: str) -> dict[str, Session]:
    if case.steps > 1:
        raise UnsupportedCaseError("one step is written for it, not a loop")
    if weights == "f16":
        raise UnsupportedCaseError("only float32 and int8 are tried")
    live = Interpreter(model_content=written(case, weights == "int8"), num_threads=1)
    live.allocate_tensors()
    inputs = {d["name"]: d["index"] for d in live.get_input_details()}
    outputs = {d["name"]: d["index"] for d in live.get_output_details()}
    invoke, tensor, put = live._interpreter.Invoke, live.tensor, live._interpreter.SetTensor
    state = [(inputs[s], tensor(outputs[f"{s}n"])) for s in case.states]
    zeros = np.zeros((case.batch, case.hidden), np.float32)
    for index, _ in state:
        put(index, zeros)
    x, answer = inputs["x"], tensor(outputs["hn"])

    def step(frame: Array) -> Array:
        put(x, frame)
        invoke()
        for index, new in state:
            put(index, new())
        return answer()

    return {"litert": Session(step, (case.batch, case.hidden))}


class Writer:
    """A file of one subgraph, op by op; tensors are numbers."""

    def __init__(self) -> None:
        self.buffers = [schema.BufferT()]
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: list[int] = []

    def tensor(self, shape: tuple[int, ...], name: str = "", kind: int = schema.TensorType.FLOAT32) -> int:
        self.tensors.append(schema.TensorT(shape=list(shape), name=name, type=kind))
        return len(self.tensors) - 1

    def constant(self, array: Array, kind: int = schema.TensorType.FLOAT32) -> int:
        number = self.tensor(array.shape, kind=kind)
        self.tensors[number].buffer = len(self.buffers)
        self.buffers.append(schema.BufferT(data=np.frombuffer(array.tobytes(), np.uint8)))
        return number

    def weight(self, array: Array, int8: bool) -> int:
        if not int8:
            return self.constant(array)
        scale = np.abs(array).max(axis=1) / 127
        number = self.constant(np.rint(array / scale[:, None]).astype(np.int8), schema.TensorType.INT8)
        self.tensors[number].quantization = schema.QuantizationParametersT(
            scale=scale.astype(np.float32), zeroPoint=[0] * len(scale), quantizedDimension=0
        )
        return number

    def op(self, code: int, inputs: list[int], outputs: list[int], options: Any = None) -> int:
        if code not in self.codes:
            self.codes.append(code)
        made = schema.OperatorT(opcodeIndex=self.codes.index(code), inputs=inputs, outputs=outputs)
        if options is not None:
            made.builtinOptions = options
            made.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.operators.append(made)
        return outputs[0]

    def data(self, inputs: list[int], outputs: list[int]) -> bytes:
        graph = schema.SubGraphT(tensors=self.tensors, inputs=inputs, outputs=outputs, operators=self.operators)
        codes = [schema.OperatorCodeT(builtinCode=c, deprecatedBuiltinCode=min(c, 127), version=1) for c in self.codes]
        for code in codes:
            if code.builtinCode == OP.FULLY_CONNECTED:
                code.version = 9
        model = schema.ModelT(version=3, operatorCodes=codes, subgraphs=[graph], buffers=self.buffers)
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


class Cell(Writer):
    """The formulas of a cell over [batch, H]."""

    def __init__(self, case: CellCase, int8: bool) -> None:
        super().__init__()
        self.case, self.int8 = case, int8
        self.shape = (case.batch, case.hidden)

    def dense(self, x: int, weight: Array, bias: Array) -> int:
        shape = (self.case.batch, len(weight))
        inputs = [x, self.weight(weight, self.int8), self.constant(bias)]
        return self.op(OP.FULLY_CONNECTED, inputs, [self.tensor(shape)], schema.FullyConnectedOptionsT())

    def parts(self, x: int, n: int) -> list[int]:
        axis = self.constant(np.array([1], np.int32), schema.TensorType.INT32)
        made = [self.tensor(self.shape) for _ in range(n)]
        self.op(OP.SPLIT, [axis, x], made, schema.SplitOptionsT(numSplits=n))
        return made

    def both(self, x: int, h: int) -> int:
        joined = self.tensor((self.case.batch, 2 * self.case.hidden))
        return self.op(OP.CONCATENATION, [x, h], [joined], schema.ConcatenationOptionsT(axis=1))

    def sigmoid(self, x: int) -> int:
        return self.op(OP.LOGISTIC, [x], [self.tensor(self.shape)])

    def tanh(self, x: int, name: str = "") -> int:
        return self.op(OP.TANH, [x], [self.tensor(self.shape, name)])

    def add(self, a: int, b: int, name: str = "") -> int:
        return self.op(OP.ADD, [a, b], [self.tensor(self.shape, name)], schema.AddOptionsT())

    def sub(self, a: int, b: int) -> int:
        return self.op(OP.SUB, [a, b], [self.tensor(self.shape)], schema.SubOptionsT())

    def mul(self, a: int, b: int, name: str = "") -> int:
        return self.op(OP.MUL, [a, b], [self.tensor(self.shape, name)], schema.MulOptionsT())


def written(case: CellCase, int8: bool) -> bytes:
    """The file: inputs x and the states, outputs hn (and cn)."""
    cell = Cell(case, int8)
    x = cell.tensor(cell.shape, "x")
    states = [cell.tensor(cell.shape, s) for s in case.states]
    W, R, B = (case.weights[n] for n in "WRB")
    h = states[0]
    if case.cell == "GRU":
        zx, rx, nx = cell.parts(cell.dense(x, W, B[0]), 3)
        zh, rh, nh = cell.parts(cell.dense(h, R, B[1]), 3)
        z, r = cell.sigmoid(cell.add(zx, zh)), cell.sigmoid(cell.add(rx, rh))
        n = cell.tanh(cell.add(nx, cell.mul(r, nh)))
        return cell.data([x, h], [cell.add(n, cell.mul(z, cell.sub(h, n)), "hn")])
    gates = cell.dense(cell.both(x, h), np.concatenate([W, R], axis=1), B.sum(axis=0))
    if case.cell == "RNN":
        return cell.data([x, h], [cell.tanh(gates, "hn")])
    i, o, f, g = cell.parts(gates, 4)
    kept = cell.mul(cell.sigmoid(f), states[1])
    c = cell.add(kept, cell.mul(cell.sigmoid(i), cell.tanh(g)), "cn")
    return cell.data([x, *states], [cell.mul(cell.sigmoid(o), cell.tanh(c), "hn"), c])
