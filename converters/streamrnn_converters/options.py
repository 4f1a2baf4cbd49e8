"""What the user decides about an import, and what the import found itself: both as words of the command line.

The words are stored with the model, so that a converted file says how it was made and can be made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from streamrnn.ir.graph import Graph
from streamrnn_converters.onnx.raw import RawModel
from streamrnn_converters.onnx.state_map import Pair
from streamrnn_converters.shapes import is_open

Mode = Literal["auto", "frame", "window"]


@dataclass(frozen=True)
class Options:
    """What the user decides about an import. See `convert`."""

    mode: Mode = "auto"
    bind: Mapping[str, object] = field(default_factory=dict)
    shape: Mapping[str, Sequence[int]] = field(default_factory=dict)
    pair: Mapping[str, str] = field(default_factory=dict)
    time_axis: Mapping[str, int] = field(default_factory=dict)
    lookahead: int = 0
    outputs: Sequence[str] | None = None
    fix: Sequence[str] = ()
    layers: str = ""
    prewarm: bool = False
    weights: str = "f32"

    def words(self) -> list[str]:
        """The options of `streamrnn convert` that say the same: ["--bind", "sr=16000", ...]."""
        found: list[str] = []
        if self.mode != "auto":
            found += ["--mode", self.mode]
        found += _each("--bind", {name: ",".join(map(_number, np.asarray(value).ravel())) for name, value in self.bind.items()})
        found += _each("--shape", {name: ",".join(map(str, dims)) for name, dims in self.shape.items()})
        found += _each("--pair", self.pair)
        found += _each("--time-axis", self.time_axis)
        if self.lookahead:
            found += ["--lookahead", str(self.lookahead)]
        if self.outputs is not None:
            found += ["--outputs", ",".join(self.outputs)]
        if self.fix:
            found += ["--fix", ",".join(self.fix)]
        if self.layers:
            found += ["--layers", self.layers]
        if self.prewarm:
            found.append("--prewarm")
        if self.weights != "f32":
            found += ["--weights", self.weights]
        return found

    def found(self, model: RawModel, graph: Graph, pairs: Sequence[Pair], mode: Mode, axes: Mapping[str, int]) -> list[str]:
        """Options that were not given and that say what the import took, because the file leaves one possibility."""
        words = [] if self.mode == mode else ["--mode", mode]
        for declared in model.inputs:
            taken = graph.types.get(declared.name)
            open_ = any(is_open(dim) for dim in declared.dims) or not declared.ranked
            if open_ and taken is not None and declared.name not in {*self.shape, *self.bind, *axes}:
                words += _each("--shape", {declared.name: ",".join(map(str, taken.shape))})
        words += _each("--pair", {p.source: p.target_text for p in pairs if p.source not in self.pair})
        return words + _each("--time-axis", {name: axis for name, axis in axes.items() if name not in self.time_axis})


def _each(option: str, values: Mapping[str, Any]) -> list[str]:
    return [word for name, value in values.items() for word in (option, f"{name}={value}")]


def _number(value: Any) -> str:
    """A number as the command line reads it: whole ones without a point, floats so that they come back as they are."""
    return repr(float(value)) if np.asarray(value).dtype.kind == "f" else str(int(value))
