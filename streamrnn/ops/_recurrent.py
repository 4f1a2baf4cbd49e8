"""What LSTM, GRU and RNN share: directions, activations, initial states, time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Arg, Lowering, Place
from streamrnn.ir.op import Site, StateSpec, Streamed
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import activations, dense
from streamrnn.kernels._jit import Binding, Device, Kernel
from streamrnn.kernels.simd import LANES, tiles
from streamrnn.ops._spatial import require_f32
from streamrnn.ops._time import one_frame


@dataclass(frozen=True)
class Activation:
    """A gate activation: the device function with its alpha and beta bound, and the same in NumPy."""

    kernel: Device
    numpy: Callable[[Array], Array]
    alpha: float
    beta: float


@dataclass(frozen=True)
class Direction:
    """One direction of a recurrent node: its row in the weight tensors, and whether it runs from the last frame."""

    index: int
    reverse: bool


def directions(site: Site) -> tuple[Direction, ...]:
    """The directions of a node, in the order of its weight tensors. Raises UnsupportedError."""
    name = site.attr_str("direction", "forward")
    table = {
        "forward": (Direction(0, False),),
        "reverse": (Direction(0, True),),
        "bidirectional": (Direction(0, False), Direction(1, True)),
    }
    if name not in table:
        raise UnsupportedError(f"node '{site.node.name}' ({site.node.op}): direction '{name}' is not one of {list(table)}")
    return table[name]


def gate_activations(site: Site, defaults: Sequence[str]) -> list[list[Activation]]:
    """For each direction its activations, in the operator's order. Raises UnsupportedError for an unknown name.

    Names beyond those of the directions are left out: onnxruntime saves those of two directions for one.
    """
    count = len(directions(site))
    names = site.node.attrs.get("activations") or tuple(defaults) * count
    if not isinstance(names, tuple) or len(names) < len(defaults) * count:
        raise site.shape_error(f"activations {names} are not {len(defaults)} names for each of {count} directions")
    names = names[: len(defaults) * count]
    alphas, betas = (_floats(site, key) for key in ("activation_alpha", "activation_beta"))
    flat = []
    for name in names:
        entry = activations.TABLE.get(str(name).lower())
        if entry is None:
            known = sorted(row.name for row in activations.TABLE.values())
            raise UnsupportedError(f"node '{site.node.name}' ({site.node.op}): activation '{name}' is not one of {known}")
        # ONNX lists alpha and beta only for the activations that have them, in order
        alpha = alphas.pop(0) if entry.alpha is not None and alphas else entry.alpha or 0.0
        beta = betas.pop(0) if entry.beta is not None and betas else entry.beta or 0.0
        flat.append(Activation(entry.kernel, lambda x, e=entry, a=alpha, b=beta: e.numpy(x, a, b), alpha, beta))  # type: ignore[misc]
    return [flat[d * len(defaults) : (d + 1) * len(defaults)] for d in range(count)]


def _floats(site: Site, name: str) -> list[float]:
    value = site.node.attrs.get(name) or ()
    if not isinstance(value, tuple):
        raise site.shape_error(f"attribute {name} is {value!r}, not a list of numbers")
    return [float(v) for v in value]


def bindings(chosen: Sequence[Activation], names: Sequence[str]) -> dict[str, Binding]:
    """What `Kernel.bind` needs for these activations under the kernel's names for them."""
    bound: dict[str, Binding] = {}
    for name, activation in zip(names, chosen, strict=True):
        bound[f"act_{name}"] = activation.kernel
        bound[f"alpha_{name}"] = activation.alpha
        bound[f"beta_{name}"] = activation.beta
    return bound


def hidden_size(site: Site, gates: int) -> int:
    """H, checked against the weight shapes [D, gates * H, n_in], [D, gates * H, H], [D, 2 * gates * H]."""
    x, w, r = site.type(0), site.type(1), site.type(2)
    count = len(directions(site))
    if x.rank != 3 or w.rank != 3 or r.rank != 3:
        raise site.shape_error(f"X {x}, W {w} and R {r} must have three dimensions")
    H = r.shape[2]
    expected = (count, gates * H, x.shape[2]), (count, gates * H, H)
    if (w.shape, r.shape) != expected:
        raise site.shape_error(f"W {w.shape} and R {r.shape} should be {expected[0]} and {expected[1]}")
    if site.attr_int("hidden_size", H) != H:
        raise site.shape_error(f"hidden_size {site.attr_int('hidden_size', H)} is not that of R {r.shape}")
    if site.has(3) and site.type(3).shape != (count, 2 * gates * H):
        raise site.shape_error(f"B {site.type(3).shape} should be {(count, 2 * gates * H)}")
    return H


def recurrent_types(site: Site, gates: int, states: Sequence[int], defaults: Sequence[str]) -> tuple[TensorType, ...]:
    """Types of Y and the final states. `states` are the inputs of the initial states, `defaults` the default activations.

    Raises ShapeError, UnsupportedError.
    """
    require_f32(site, 0, 1, 2, 3, *states)
    gate_activations(site, defaults)
    clip_of(site)
    if site.attr_int("layout", 0) != 0:
        raise UnsupportedError(f"node '{site.node.name}': layout 1 is brought to layout 0 by the reader")
    H, x, count = hidden_size(site, gates), site.type(0), len(directions(site))
    S, B, _ = x.shape
    for index in states:
        if site.has(index) and site.type(index).shape != (count, B, H):
            raise site.shape_error(f"initial state (input {index}) {site.type(index).shape} should be {(count, B, H)}")
    if site.has(4) and site.type(4).shape != (B,):
        raise site.shape_error(f"sequence_lens {site.type(4).shape} should be {(B,)}")
    return (x.with_shape((S, count, B, H)), *(x.with_shape((count, B, H)) for _ in states))


def recurrent_stream(site: Site, streams: Sequence[StreamType | None], names: Sequence[str], states: Sequence[int]) -> Streamed:
    """Time along the sequence axis becomes carried state; time along the batch axis passes through."""
    x = streams[0]
    if x is None:
        raise site.not_streamable("its weights or initial state, not its input X, change over time")
    if x.axis is None:
        raise site.not_streamable("its input X is one answer for all frames so far, not a frame")
    if any(s is not None for s in streams[1:]):
        raise site.not_streamable("its initial state or sequence_lens is computed from the stream")
    if x.axis == 1:
        y = StreamType(2, x.delay, x.stride)
        final = StreamType(1, x.delay, x.stride)
        along = [(4, 0), *((i, 1) for i in states)]
        consts = {i: cut for i, axis in along if site.has(i) and (cut := one_frame(site, i, axis)) is not None}
        return Streamed((y, *(final for _ in states)), consts=consts)
    if x.axis != 0:
        raise site.not_streamable("time runs along the features of X")
    consts = {}
    if site.has(4):
        if not _whole(site):
            raise site.not_streamable("sequence_lens gives the end of a clip, and a stream has none")
        consts[4] = np.full(site.type(4).shape, np.iinfo(np.int32).max, np.int32)
    y = StreamType(0, x.delay, x.stride)
    latest = StreamType(None, x.delay, x.stride)
    direction = site.attr_str("direction", "forward")
    if direction == "reverse" and site.attr_int("chunked", 0):
        # nothing is carried, but Y_h may not contain filler
        attrs = {"warmup": x.delay} if x.delay else {}
        return Streamed((y, *(latest for _ in states)), attrs=attrs, consts=consts)
    if direction != "forward":
        raise site.not_streamable(
            f"direction is '{direction}' along time, so the first frame needs the last one; "
            f"--lookahead FRAMES runs the backward pass within chunks of that many frames"
        )
    added = _carried(site, names, states)
    kept = tuple(index for index in states if site.has(index) and site.const(index) is None)
    return Streamed((y, *(latest for _ in states)), states=added, kept=kept, consts=consts)


def _carried(site: Site, names: Sequence[str], states: Sequence[int]) -> tuple[StateSpec, ...]:
    """The states that a stream adds: those for which the file has no state of its own."""
    added = []
    for k, (name, index) in enumerate(zip(names, states, strict=True)):
        initial = site.const(index)
        if site.has(index) and initial is None:
            continue
        if initial is None:
            H, B = site.type(2).shape[2], site.type(0).shape[1]
            initial = np.zeros((1, B, H), np.float32)
        added.append(StateSpec(name, index, 1 + k, initial, "cell" if name == "c" else "hidden"))
    return tuple(added)


def initial_state(site: Site, low: Lowering, index: int, output: int) -> Place:
    """Memory [D][B][H] that holds the initial state and becomes the final one."""
    if site.has(index):
        return low.update(output, index)
    D, B, H = len(directions(site)), site.type(0).shape[1], site.type(2).shape[2]
    zeros = low.weight(np.zeros((D, B, H), np.float32))
    place = low.output(output)
    low.copy(zeros, place, D * B * H)
    return place


def _whole(site: Site) -> bool:
    """Whether sequence_lens is a constant that leaves no frame out."""
    lens = site.const(4)
    return lens is not None and bool((lens >= site.type(0).shape[0]).all())


def sequence_lens(site: Site, low: Lowering) -> tuple[int, Place]:
    """(use_lens, lens) for a cell kernel."""
    if site.has(4) and not _whole(site):
        return 1, low.input(4)
    return 0, low.weight(np.zeros(1, np.int32))


def first_state(given: Array | None, shape: tuple[int, ...], like: Array, lens: Array | None) -> Array:
    """A copy of the initial state [D, B, H], zero where none is given. A batch entry without frames ends in a zero state,
    as in onnxruntime."""
    state = np.zeros(shape, like.dtype) if given is None else given.copy()
    if lens is not None:
        state[:, lens <= 0] = 0
    return state


def visits(site: Site, frames: int, batch: int, lens: Array | None) -> Iterator[tuple[int, int, int]]:
    """(direction, batch entry, frame) in the order of the recurrence; `lens` is clamped to 0 .. frames."""
    for d in directions(site):
        for b in range(batch):
            length = frames if lens is None else min(int(lens[b]), frames)
            for t in range(length):
                yield d.index, b, length - 1 - t if d.reverse else t


@dataclass(frozen=True)
class Run:
    """Directions that one kernel call computes, from `first` on; their activations are the same."""

    first: int
    count: int
    reverse: bool
    activations: Sequence[Activation]


def runs(site: Site, defaults: Sequence[str]) -> list[Run]:
    """The kernel calls of a node."""
    chosen = gate_activations(site, defaults)
    names = {tuple((a.kernel.address, a.alpha, a.beta) for a in row) for row in chosen}
    if len(names) == 1:
        first = directions(site)[0]
        return [Run(first.index, len(chosen), first.reverse, chosen[0])]
    return [Run(d.index, 1, d.reverse, row) for d, row in zip(directions(site), chosen, strict=True)]


@dataclass(frozen=True)
class Cell:
    """What the kernel calls of a recurrent node have in common: its sizes, and what the sums of its gates begin with.

    W [D, gates, H, I], bias [D, gates, H], in the order of the kernel's gates. inside: whether the kernel multiplies the input
    itself; else one matrix product over all frames does so before.
    """

    site: Site
    low: Lowering
    W: Array
    bias: Array
    start: Place
    inside: bool

    @staticmethod
    def of(site: Site, low: Lowering, W: Array, bias: Array, able: bool = True) -> Cell:
        """Emits the product of the input where that is better, or where the kernel is not `able` to make it itself."""
        (S, batch, n_in), (D, gates, H) = site.type(0).shape, bias.shape
        if able and (S * batch == 1 or n_in <= _FEW):
            return Cell(site, low, W, bias, low.weight(_in_lanes(bias).swapaxes(1, 2)), True)
        width = D * gates * tiles(H) * LANES
        start = low.scratch(DType.F32, S * batch * width)
        stored = weight_type(site, 1)
        packed = low.weight(np.concatenate([pack_gates(w, b) for w, b in zip(W, bias, strict=True)]).astype(stored.numpy))
        kernel, work = dense.dense.typed(w=stored.pointer), S * batch * D * gates * H * n_in
        low.call(kernel, S * batch, n_in, width, packed, low.input(0), start, work=work)
        return Cell(site, low, W, bias, start, False)

    @property
    def stored(self) -> DType:
        """Element type of the packed weights."""
        return weight_type(self.site, 1, 2)

    @property
    def batch(self) -> int:
        return self.site.type(0).shape[1]

    @property
    def hidden(self) -> int:
        return self.site.type(2).shape[2]

    @property
    def gates(self) -> int:
        return int(self.bias.shape[1])

    def lanes(self, gates: int) -> int:
        """Elements of `gates` gates of one batch entry."""
        return gates * tiles(self.hidden) * LANES

    def scratch(self, elements: int) -> Place:
        """Scratch of so many elements for each batch entry."""
        return self.low.scratch(DType.F32, self.batch * elements)

    def part(self, place: Place, run: Run) -> Place:
        """Where the directions of `run` begin in Y or in a state."""
        return place.at(run.first * self.batch * self.hidden)

    def sizes(self, run: Run, use_lens: int, counts_inputs: bool = False) -> tuple[Arg, ...]:
        """The first arguments of every cell kernel; some have n_in among them."""
        (S, batch, n_in), D = self.site.type(0).shape, len(directions(self.site))
        inputs = (n_in if self.inside else 0,) if counts_inputs else ()
        s_row = 0 if self.inside else D * self.lanes(self.gates)
        head = (S, self.low.skip(S), batch, *inputs, self.hidden, run.count, int(run.reverse))
        return (*head, s_row, D * batch * self.hidden, use_lens)

    def begun(self, run: Run) -> Place:
        """`start` from the directions of `run` on."""
        return self.start.at(run.first * self.lanes(self.gates))

    def weights(self, run: Run, R: Array) -> Place:
        """The input's rows, where the kernel multiplies it, and those of R [D, gates, H, H]: [tile][row][gate][16]."""
        rows = np.concatenate([self.W, R], axis=3) if self.inside else R
        lanes = _in_lanes(rows[run.first : run.first + run.count].transpose(0, 3, 1, 2))
        return self.low.weight(lanes.transpose(0, 3, 1, 2, 4).astype(self.stored.numpy))

    def recurrent(self, run: Run, R: Array) -> Place:
        """R [D, gates, H, H] for a product of its own."""
        rows = R[run.first : run.first + run.count]
        packed = np.concatenate([pack_gates(r, np.zeros(r.shape[:2], np.float32)) for r in rows])
        return self.low.weight(packed.astype(self.stored.numpy))

    def kernel(self, kernel: Kernel, *weights: str) -> Kernel:
        """`kernel` for weights (its parameters of those names, else w) as they are stored."""
        return kernel.typed(**dict.fromkeys(weights or ("w",), self.stored.pointer))

    def work(self, run: Run) -> int:
        """Multiply-adds of the kernel call."""
        S, batch, n_in = self.site.type(0).shape
        return S * batch * run.count * self.gates * self.hidden * (self.hidden + (n_in if self.inside else 0))


def weight_type(site: Site, *inputs: int) -> DType:
    """The element type in which a kernel of floats reads these constants: float16 where all are stored so."""
    return DType.F16 if all(site.store(index, "float16") for index in inputs) else DType.F32


#: with so few inputs a cell multiplies them itself: what the product would store and load again costs more
_FEW = 4


def _in_lanes(rows: Array) -> Array:
    """[..., tile, 16] from [..., H]; lanes behind H are zero."""
    H = rows.shape[-1]
    padded = np.zeros((*rows.shape[:-1], tiles(H) * LANES), np.float32)
    padded[..., :H] = rows
    return padded.reshape(*rows.shape[:-1], tiles(H), LANES)


def pack_gates(M: Array, bias: Array) -> Array:
    """[tile][gate][bias, then n rows][16] from M [gates, H, n] and bias [gates, H]."""
    rows = np.concatenate([bias[None], M.transpose(2, 0, 1)])
    return np.ascontiguousarray(_in_lanes(rows).transpose(2, 1, 0, 3)).reshape(-1)


def pack_lanes(rows: Array) -> Array:
    """[tile][row][16] from rows [n, H]; lanes behind H are zero."""
    n, H = rows.shape
    padded = np.zeros((n, tiles(H) * LANES), np.float32)
    padded[:, :H] = rows
    return np.ascontiguousarray(padded.reshape(n, tiles(H), LANES).transpose(1, 0, 2))


def clip_of(site: Site) -> float:
    """The clip threshold, 0 where there is none."""
    if "clip" not in site.node.attrs:
        return 0.0
    clip = site.attr_float("clip", 0.0)
    if not clip > 0:
        raise site.shape_error(f"clip {clip} is not positive")
    return clip


def padded(inputs: Sequence[Array | None], count: int) -> list[Array | None]:
    """`inputs` with None for the optional ones left off at the end."""
    return [*inputs, *[None] * (count - len(inputs))]
