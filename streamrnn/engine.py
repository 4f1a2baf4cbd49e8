"""Engine: a step graph, its plan and its machine code. Immutable, shared by any number of streams and threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from streamrnn import ops as _ops
from streamrnn.codegen.build import Step, build
from streamrnn.errors import MissingExtraError, ModelFileError
from streamrnn.ir.file import fingerprint, load_graph, save_graph
from streamrnn.ir.graph import Graph
from streamrnn.plan import Port, StepPlan
from streamrnn.planner import make_plan

assert _ops is not None  # importing the package fills the op table


@dataclass(frozen=True)
class PortInfo:
    """One input or output as the user sees it.

    shape:   of one frame: the file's shape without the time axis and without a batch axis of 1.
    delay:   steps by which it lags behind the input.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    delay: int


class Engine:
    """A compiled model.

    delay            input frames by which every output lags behind its input frame
    latency          the delay, plus the wait for the rest of a step that takes several frames
    frames           input frames that one step takes (1 but for strided models and bounded look-ahead)
    receptive_field  input frames that one output frame depends on; None where recurrence makes it unbounded
    """

    def __init__(self, graph: Graph, notify: Callable[[str], None] = lambda text: None) -> None:
        self.graph = graph
        self.plan: StepPlan = make_plan(graph)
        self.step: Step = build(self.plan, notify)

    def __repr__(self) -> str:
        return f"<Engine {self.name}: {len(self.plan.calls)} calls, {self.state_bytes} B state, {self.weights_bytes} B weights>"

    @property
    def name(self) -> str:
        return self.graph.name

    @property
    def meta(self) -> Mapping[str, object]:
        """What the conversion stored: mode, time axes, sample rate, bindings, producer."""
        return self.graph.meta

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides what the model computes."""
        return fingerprint(self.graph)

    @property
    def frames(self) -> int:
        return self.plan.frames

    @property
    def delay(self) -> int:
        return max((p.stream.delay * p.stream.stride for p in self.plan.outputs if p.stream), default=0)

    @property
    def latency(self) -> int:
        """Input frames that an output frame waits for at worst: the delay, and the rest of a step of several frames."""
        return self.delay + self.frames - 1

    @property
    def stride(self) -> int:
        """Input frames per output frame."""
        return max((p.stream.stride for p in self.plan.outputs if p.stream), default=1)

    @property
    def receptive_field(self) -> int | None:
        value = self.graph.meta.get("receptive_field")
        return value if isinstance(value, int) else None

    @property
    def state_bytes(self) -> int:
        return sum(state.type.nbytes for state in self.plan.states)

    @property
    def weights_bytes(self) -> int:
        return int(self.plan.weights.nbytes)

    @cached_property
    def inputs(self) -> dict[str, PortInfo]:
        return {port.name: self._info(port) for port in self.plan.inputs}

    @cached_property
    def outputs(self) -> dict[str, PortInfo]:
        return {port.name: self._info(port) for port in self.plan.outputs}

    def _info(self, port: Port) -> PortInfo:
        stream = port.stream
        delay = stream.delay * stream.stride if stream else 0
        return PortInfo(port.name, frame_shape(port), port.type.dtype.numpy, delay)

    def save(self, path: str | Path) -> None:
        """Write the `.srnn` file. Raises OSError."""
        save_graph(self.graph, path)


def frame_shape(port: Port) -> tuple[int, ...]:
    """Shape of one step of a port without its time axis (where one step is one frame) and a leading axis of size 1."""
    shape = list(port.type.shape)
    axis = port.stream.axis if port.stream else None
    frames = 1
    if axis is not None:
        frames = shape.pop(axis)
    if shape and shape[0] == 1 and port.type.rank > 1:
        shape.pop(0)
    return (frames, *shape) if frames != 1 else tuple(shape)


def load(path: str | Path, notify: Callable[[str], None] = lambda text: None, **options: Any) -> Engine:
    """An Engine from a `.srnn` file, or from a model of another format through the converters.

    options: those of `streamrnn_converters.convert` (mode, bind, shape, pair, time_axis, lookahead, outputs, layers, prewarm).
    Raises ModelFileError, UnsupportedError, MissingExtraError and what `convert` raises.
    """
    path = Path(path)
    if path.suffix == ".srnn":
        if options:
            raise ModelFileError(f"{path}: a .srnn file is converted already; {sorted(options)} belong to the conversion")
        return Engine(load_graph(path), notify)
    try:
        from streamrnn_converters import convert
    except ImportError as error:
        raise MissingExtraError(
            f"{path}: reading this format needs the converters ({error}); pip install 'streamrnn[convert]'"
        ) from None
    return Engine(convert(path, **options), notify)
