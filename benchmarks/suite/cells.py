"""Recurrent cells as cases: one layer, as many inputs as hidden units, random weights, as an ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from streamrnn.ir.graph import Array

#: gates, states and attributes of each cell; the GRU is that of PyTorch and Keras
CELLS: dict[str, tuple[int, tuple[str, ...], dict[str, int]]] = {
    "LSTM": (4, ("h", "c"), {}),
    "GRU": (3, ("h",), {"linear_before_reset": 1}),
    "RNN": (1, ("h",), {}),
}

#: bytes of a number of each kind of weights
WEIGHTS = {"f32": 4, "f16": 2, "int8": 1}

#: frames of a block
BLOCK = 256


class UnsupportedCaseError(Exception):
    """A peer has no way to run a case; the text says why."""


@dataclass(frozen=True)
class Session:
    """A cell that runs and carries its state: `call(x)` takes float32 of `shape` and gives its output in any shape."""

    call: Callable[[Array], Array]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class CellCase:
    """A cell of `hidden` units, called with `steps` frames of `batch` streams. `folder` is where its files go."""

    cell: str
    hidden: int
    folder: Path
    steps: int = 1
    batch: int = 1

    @property
    def gates(self) -> int:
        return CELLS[self.cell][0]

    @property
    def states(self) -> tuple[str, ...]:
        return CELLS[self.cell][1]

    @cached_property
    def weights(self) -> dict[str, Array]:
        """W and R [gates * H, H] and the biases of both [2, gates * H], gates in ONNX's order: iofc, zrh."""
        H, n = self.hidden, self.gates * self.hidden
        rng = np.random.default_rng(0)
        shapes = {"W": (n, H), "R": (n, H), "B": (2, n)}
        return {name: (rng.standard_normal(shape) / np.sqrt(H)).astype(np.float32) for name, shape in shapes.items()}

    def gates_as(self, order: str, array: Array) -> Array:
        """Rows of a weight with the gates in another order, such as "ifco"."""
        own = {4: "iofc", 3: "zrh", 1: "h"}[self.gates]
        parts = array.reshape(self.gates, self.hidden, *array.shape[1:])
        return np.ascontiguousarray(parts[[own.index(gate) for gate in order]]).reshape(array.shape)

    @property
    def x_shape(self) -> tuple[int, int, int]:
        return (self.steps, self.batch, self.hidden)

    @property
    def flops(self) -> int:
        """Multiplications and additions of one step of one stream."""
        return 2 * self.gates * self.hidden * 2 * self.hidden

    @property
    def parameters(self) -> int:
        return 2 * self.gates * self.hidden * (self.hidden + 1)

    @cached_property
    def file(self) -> Path:
        """The ONNX file: x [steps, batch, H] and the states go in, y and the new states come out."""
        path = self.folder / f"{self.cell}_{self.hidden}_{self.steps}_{self.batch}.onnx"
        path.write_bytes(self.model().SerializeToString())
        return path

    def model(self) -> onnx.ModelProto:
        _, states, attrs = CELLS[self.cell]
        B, H = self.batch, self.hidden
        inputs, outputs = ["x", "W", "R", "B", "", *states], ["y", *(f"{s}n" for s in states)]
        node = helper.make_node(self.cell, inputs, outputs, name="cell", hidden_size=H, **attrs)
        info = helper.make_tensor_value_info
        live = [info("x", onnx.TensorProto.FLOAT, self.x_shape), *(info(s, onnx.TensorProto.FLOAT, [1, B, H]) for s in states)]
        shapes = {"y": [self.steps, 1, B, H]}
        given = [info(n, onnx.TensorProto.FLOAT, shapes.get(n, [1, B, H])) for n in outputs]
        constants = [numpy_helper.from_array(a.reshape(1, -1) if n == "B" else a[None], n) for n, a in self.weights.items()]
        graph = helper.make_graph([node], self.cell, live, given, constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def noise(shape: tuple[int, ...], seed: int = 1) -> Array:
    """Standard normal float32."""
    values: Any = np.random.default_rng(seed).standard_normal(shape)
    return np.asarray(values, np.float32)
