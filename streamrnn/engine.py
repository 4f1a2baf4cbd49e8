"""Engine: a step graph, its plan and its machine code. Immutable, shared by any number of streams and threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from streamrnn.codegen import ready
from streamrnn.codegen.build import Step, build, load_object
from streamrnn.errors import MissingExtraError, ModelFileError, UnsupportedError
from streamrnn.files import read_file
from streamrnn.layout import Layout, Port

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from streamrnn.ir.graph import Graph
    from streamrnn.plan import StepPlan

# What only the first load of a model needs (ops, kernels, the planner) is imported inside of functions: it takes most of the
# time of importing this package.


class PortInfo(NamedTuple):
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

    layout: Layout
    step: Step
    name: str
    meta: Mapping[str, object]
    #: its entry in the cache, for an engine of a file
    cached: Path | None = None
    _file: tuple[bytes, Path]

    def __init__(self, graph: Graph, notify: Callable[[str], None] = lambda text: None) -> None:
        self.__dict__["graph"] = graph
        self.layout = self.plan
        self.step = build(self.plan, notify)
        self.name, self.meta = graph.name, graph.meta

    @classmethod
    def of_file(cls, path: Path, notify: Callable[[str], None] = lambda text: None) -> Engine:
        """The engine of a `.srnn` file: the ready one of the cache, else a new one that is put there."""
        data = read_file(path)
        file = ready.ready_file(data)
        found = ready.load(file)
        if found is None:
            engine = cls(_parse(data, path), notify)
            about = {"name": engine.name, "meta": dict(engine.meta), "fingerprint": engine.fingerprint}
            ready.store(file, about, engine.layout, engine.step.key)
        else:
            engine = cls.__new__(cls)
            engine._file = data, path
            engine.layout = found.layout
            engine.step = load_object(found.code, file.stem, from_cache=True)
            engine.name, engine.meta = found.about["name"], found.about["meta"]
            engine.__dict__["fingerprint"] = found.about["fingerprint"]
        engine.cached = file
        return engine

    @classmethod
    def of_library(cls, path: Path) -> Engine:
        """The engine of a shared library that `streamrnn export` made: no compiler is needed, and there is no graph."""
        from streamrnn.codegen.exported import open_library

        found = open_library(path)
        engine = cls.__new__(cls)
        engine._file = b"", path
        engine.layout, engine.step = found.layout, found.step
        engine.name, engine.meta = found.about["name"], found.about["meta"]
        engine.__dict__["fingerprint"] = found.about["fingerprint"]
        return engine

    @cached_property
    def graph(self) -> Graph:
        """The step graph. Raises UnsupportedError for an exported library, which has none."""
        data, path = self._file
        if not data:
            raise UnsupportedError(
                f"{path} is an exported library: it holds the compiled step alone. Load the model it is made of"
            )
        return _parse(data, path)

    @cached_property
    def plan(self) -> StepPlan:
        """The calls of a step, and where everything lies."""
        from streamrnn.planner import make_plan

        return make_plan(self.graph)

    def __repr__(self) -> str:
        return f"<Engine {self.name}: {self.state_bytes} B state, {self.weights_bytes} B weights>"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides what the model computes."""
        from streamrnn.ir.file import fingerprint

        return fingerprint(self.graph)

    @property
    def frames(self) -> int:
        return self.layout.frames

    @property
    def delay(self) -> int:
        return self.layout.delay

    @property
    def latency(self) -> int:
        """Input frames that an output frame waits for at worst: the delay, and the rest of a step of several frames."""
        return self.delay + self.frames - 1

    @property
    def stride(self) -> int:
        """Input frames per output frame."""
        return max((p.stream.stride for p in self.layout.outputs if p.stream), default=1)

    @property
    def receptive_field(self) -> int | None:
        value = self.meta.get("receptive_field")
        return value if isinstance(value, int) else None

    @property
    def state_bytes(self) -> int:
        return sum(state.type.nbytes for state in self.layout.states)

    @property
    def weights_bytes(self) -> int:
        return int(self.layout.weights.nbytes)

    # -- without Python ------------------------------------------------------------------------------------------------

    @property
    def address(self) -> int:
        """Address of the C function that makes steps, for threads that do not run Python. It does not allocate, lock or raise.

            int64_t run(const void *weights, void *arena, const void *const *inputs, void *const *outputs, int64_t steps);

        weights: `weights.ctypes.data`. arena: `arena_bytes` bytes at a multiple of 64, one arena per stream, zeroed once and
        then given to `init_address`. inputs, outputs: one pointer per port in the order of `inputs` and `outputs`, to `steps`
        frames each. Returns the steps made: fewer than `steps` where the arena's policy is "raise" and a frame is not
        finite. Valid as long as this engine lives.
        """
        return self.step.run

    @property
    def init_address(self) -> int:
        """Address of `void init(const void *weights, void *arena)`, which puts an arena into the initial state.

        The arena starts with two int64: the steps made, and what to do with a frame that is not finite (0 pass, 1 raise,
        2 hold, 3 reset), which `init` leaves alone.
        """
        return self.step.init

    @property
    def arena_bytes(self) -> int:
        """Size of the memory of one stream."""
        return self.layout.arena_bytes

    @property
    def weights(self) -> npt.NDArray[np.uint8]:
        """The weights as machine code reads them: one read-only block at a multiple of 64 bytes, shared by all streams."""
        return self.layout.weights

    @cached_property
    def inputs(self) -> dict[str, PortInfo]:
        return {port.name: self._info(port) for port in self.layout.inputs}

    @cached_property
    def outputs(self) -> dict[str, PortInfo]:
        return {port.name: self._info(port) for port in self.layout.outputs}

    def _info(self, port: Port) -> PortInfo:
        stream = port.stream
        delay = stream.delay * stream.stride if stream else 0
        return PortInfo(port.name, frame_shape(port), port.type.dtype.numpy, delay)

    def save(self, path: str | Path) -> None:
        """Write the `.srnn` file. Raises OSError."""
        from streamrnn.ir.file import save_graph

        save_graph(self.graph, path)


def _parse(data: bytes, path: Path) -> Graph:
    import streamrnn.ops  # noqa: F401  fills the op table
    from streamrnn.ir.file import parse_graph

    return parse_graph(data, path)


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
    """An Engine from a `.srnn` file, from a library that `streamrnn export` made (`.so`), or from a model of another format
    through the converters.

    options: those of `streamrnn_converters.convert` (mode, bind, shape, pair, time_axis, lookahead, outputs, layers, prewarm).
    Raises ModelFileError, UnsupportedError, MissingExtraError and what `convert` raises.
    """
    path = Path(path)
    if path.suffix in (".srnn", ".so"):
        if options:
            raise ModelFileError(
                f"{path}: a {path.suffix} file is converted already; {sorted(options)} belong to the conversion"
            )
        return Engine.of_library(path) if path.suffix == ".so" else Engine.of_file(path, notify)
    try:
        from streamrnn_converters import convert
    except ImportError as error:
        raise MissingExtraError(
            f"{path}: reading this format needs the converters ({error}); pip install 'streamrnn[convert]'"
        ) from None
    return Engine(convert(path, **options), notify)
