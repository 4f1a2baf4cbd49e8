"""What LSTM, GRU and RNN share: directions, activations, initial states, time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering, Place
from streamrnn.ir.op import Site, StateSpec, Streamed
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import activations
from streamrnn.kernels._jit import Binding, Device
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
    """For each direction its activations, in the operator's order. Raises UnsupportedError for an unknown name."""
    count = len(directions(site))
    names = site.node.attrs.get("activations") or tuple(defaults) * count
    if not isinstance(names, tuple) or len(names) != len(defaults) * count:
        raise site.shape_error(f"activations {names} are not {len(defaults)} names for each of {count} directions")
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
    return Streamed((y, *(latest for _ in states)), states=added, consts=consts)


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


def gate_rows(M: Array, H: int) -> Array:
    """Rows [n * G, H] from M [G * H, n]: for each column of M one row per gate."""
    return M.reshape(-1, H, M.shape[1]).transpose(2, 0, 1).reshape(-1, H)


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
