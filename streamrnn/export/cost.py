"""What the calls of a plan take, whatever the CPU: multiply-adds, other arithmetic, bytes.

The kernels' own loops say how much: a law for each kernel that carries the work of real models, from its sizes, and one law
from `Call.work` for all others. Vectors are the 16 lanes of `kernels.simd`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil, prod

from streamrnn.ir.lowering import Place
from streamrnn.ir.types import DType
from streamrnn.plan import Call, Copy, Loop, StepPlan

#: instructions on single numbers around a kernel call, a loop, a row of a loop and a copy
CALL, LOOP, ROW, COPY = 60, 20, 4, 10
#: operations on a vector of the functions that take more than one (`kernels.math`), a division as ten
OPERATIONS: Mapping[str, int] = {
    "sigmoid": 30, "tanh": 23, "exp": 25, "expm1": 30, "elu": 30, "softplus": 60, "log": 30, "log1p": 40, "power": 80,
    "erf": 40, "sin": 40, "cos": 40, "tan": 50, "atan": 40, "sqrt": 12, "div": 10, "gelu": 45, "mish": 90,
    "softsign": 13, "selu": 32,
}  # fmt: skip
#: the same for the gates of 16 hidden units of a cell, and to load and store its states
_GRU = 2 * 30 + 23 + 8
GATES = {"lstm": 3 * 30 + 2 * 23 + 10, "gru": _GRU, "gru_reset_first": _GRU, "rnn": 23 + 3}
#: vectors of sums of 16 hidden units
SUMS = {"lstm": 4, "gru": 3, "gru_reset_first": 3, "rnn": 1}
#: cells that add up each gate in one chain; the others have four, as `dense` does
CHAINED = ("lstm", "gru")
#: to begin, add up and store the sums of a vector of outputs for four positions
TILE = 12
#: a multiply-add whose input comes from memory anew, beside one whose input stays in a register
LOADED = 1.25
#: integer products of a multiply-add of 8 bits: inputs have 13 bits, in two parts
PARTS = 2
#: operations on a vector of elements of a kernel without a law or weights
UNKNOWN = 8
#: operations on a vector of inputs that is put on the grid of 8 bits, and multiply-adds that a row waits for its unit
GRID, GRID_WAIT = 10, 20


@dataclass(frozen=True)
class Cost:
    """What a call takes.

    products  multiply-adds of vectors, lanes that fill up the last one included
    effort    how much longer one takes than a multiply-add of two registers
    weights   float32, float16 or int8: what the products take
    size      bytes of weights that all products together read once
    passes    how often they do so
    chain     multiply-adds each of which waits for the one before
    waits     the same, outside of the products
    vectors   other operations on vectors
    singles   instructions on single numbers
    moved     bytes that are read and written elsewhere
    """

    products: float = 0.0
    effort: float = 1.0
    weights: str = "float32"
    size: float = 0.0
    passes: float = 1.0
    chain: float = 0.0
    waits: float = 0.0
    vectors: float = 0.0
    singles: float = CALL
    moved: float = 0.0

    def grown(self, factor: float) -> Cost:
        """That of a call whose tensors are `factor` times as large."""
        return replace(
            self, products=self.products * factor, size=self.size * factor, chain=self.chain * factor,
            vectors=self.vectors * factor, singles=self.singles * factor, moved=self.moved * factor,
        )  # fmt: skip


#: the sizes of a call by the names of the kernel's parameters
Sizes = Mapping[str, float]


def tiles(n: float) -> int:
    """Vectors that hold n lanes."""
    return ceil(n / 16)


# -- laws of kernels ---------------------------------------------------------------------------------------------------


def cell(name: str, s: Sizes, weights: str, size: int) -> Cost:
    """A recurrent cell over frames (`kernels.cells`, `kernels.cells_bytes`)."""
    frames, batch, H = s["frames"], s["batch"], s["n_hidden"]
    turns = frames * batch * s["directions"]
    inner = H + (s.get("n_in", 0) if s["s_row"] == 0 else 0)
    units, products = turns * tiles(H), turns * tiles(H) * SUMS[name] * inner
    narrow = weights == "int8"
    return Cost(
        products=products,
        effort=PARTS if narrow else 1,
        weights=weights,
        size=s["directions"] * tiles(H) * 16 * SUMS[name] * inner * size,
        passes=frames * ceil(batch / 2),
        chain=units * inner if not narrow and batch == 1 and name in CHAINED else 0,
        waits=turns * GRID_WAIT if narrow else 0,
        vectors=units * GATES[name] + (turns * tiles(H) * GRID if narrow else 0),
    )


def project(s: Sizes, weights: str, size: int) -> Cost:
    """The input's part of a cell for many frames at once (`kernels.project`)."""
    rows, vectors = s["frames"] * s["batch"], s["s_row"] / 16
    return Cost(
        products=rows * vectors * s["n_in"],
        effort=LOADED,
        weights="float32" if weights == "float16" else weights,  # widened once for four rows
        size=s["s_row"] * s["n_in"] * size,
        vectors=ceil(rows / 4) * vectors * TILE,
    )


def cell_elements(name: str, s: Sizes) -> float:
    """Elements of a cell's weights."""
    return s["directions"] * tiles(s["n_hidden"]) * 16 * SUMS[name] * (s["n_hidden"] + s.get("n_in", 0))


def dense(s: Sizes, weights: str, size: int) -> Cost:
    """A matrix product with packed weights (`kernels.dense`, `kernels.byte_products`)."""
    rows, n_in, n_out = s["rows"], s["n_in"], s["n_out"]
    narrow, single = weights == "int8", rows == 1
    groups = tiles(n_out) * (ceil(rows / 4) if not single else 0.25)
    return Cost(
        products=rows * tiles(n_out) * n_in,
        effort=PARTS if narrow else 1 if single else LOADED,
        weights="float32" if rows >= 4 and weights == "float16" else weights,  # widened once for four rows
        size=tiles(n_out) * 16 * n_in * size,
        waits=rows * GRID_WAIT if narrow else 0,
        vectors=groups * TILE + (rows * tiles(n_in) * GRID if narrow else 0),
    )


def conv_channels(s: Sizes, weights: str, size: int) -> Cost:
    """`kernels.conv.conv_channels`; outputs that do not lie side by side are stored one by one."""
    positions = s["batch"] * s["height"] * s["width"]
    groups = s["groups"] * tiles(s["c_out"])
    apart = s["y_channel"] != 1
    return Cost(
        products=positions * groups * s["n"],
        effort=LOADED,
        weights=weights,
        size=groups * 16 * s["n"] * size,
        vectors=ceil(positions / 4) * groups * TILE,
        singles=CALL + (2 * positions * s["groups"] * s["c_out"] if apart else 0),
    )


def conv_positions(s: Sizes, weights: str, size: int) -> Cost:
    """`kernels.conv.conv_positions`."""
    rows = s["batch"] * s["height"] * s["groups"] * tiles(s["width"]) * s["c_out"]
    return Cost(
        products=rows * s["n"],
        effort=LOADED,
        weights=weights,
        size=s["groups"] * s["c_out"] * s["n"] * size,
        vectors=rows / 4 * TILE,
    )


def products(s: Sizes) -> Cost:
    """`kernels.dense` of two inputs at run time."""
    rows = s["outer"] * s["batch"] * s["m"]
    return Cost(products=rows * tiles(s["n"]) * s["k"], effort=LOADED, vectors=rows * TILE)


def copy_blocks(s: Sizes) -> Cost:
    """`kernels.moves.copy_blocks`: element by element where a run is one."""
    runs = s["n0"] * s["n1"] * s["n2"]
    return Cost(singles=CALL + runs * (3 if s["run"] <= 8 else 8), moved=runs * s["run"])


def take(s: Sizes) -> Cost:
    runs = s["outer"] * s["count"]
    return Cost(singles=CALL + runs * 8, moved=runs * s["run"])


def place(s: Sizes) -> Cost:
    """`kernels.conv.place`: zeros, then row by row."""
    rows = s["batch"] * s["channels"] * s["height"]
    apart = s["stride"] != 1 or s["x_col"] != 1
    return Cost(
        singles=CALL + rows * (16 + (2 * s["width"] if apart else 0)),
        moved=s["size"] * 4 + (0 if apart else rows * s["width"] * 4),
    )


def softmax_rows(s: Sizes) -> Cost:
    return Cost(vectors=s["rows"] * (tiles(s["n"]) * 60 + 40))


#: laws from sizes alone, and those that want the weights' type too
PLAIN: Mapping[str, Callable[[Sizes], Cost]] = {
    "products": products, "copy_blocks": copy_blocks, "take": take, "place": place, "softmax_rows": softmax_rows,
}  # fmt: skip
WEIGHTED: Mapping[str, Callable[[Sizes, str, int], Cost]] = {
    "dense": dense, "conv_channels": conv_channels, "conv_positions": conv_positions,
    "project_four": project, "project_three": project,
}  # fmt: skip


# -- calls -------------------------------------------------------------------------------------------------------------


def sizes_of(call: Call) -> dict[str, float]:
    """The numbers that a kernel is called with; filler frames count as live ones."""
    named = zip((name for name, _ in call.kernel.params), call.args, strict=True)
    return {name: value for name, value in named if isinstance(value, int | float)}


def weights_of(plan: StepPlan, call: Call) -> Place | None:
    """The largest constant that a call reads."""
    found = [a for a in call.args if isinstance(a, Place) and plan.buffers[a.buffer][0] == "weights"]
    return max(found, key=lambda place: plan.buffers[place.buffer][1].size, default=None)


def call_cost(plan: StepPlan, call: Call, sizes: Sizes) -> Cost:
    """The cost of a kernel call of these sizes."""
    name, place = call.kernel.__name__, weights_of(plan, call)
    if place is not None and place.dtype in (DType.F32, DType.F16, DType.I8):
        kind, size = place.dtype.value, place.dtype.size
        if name in SUMS:
            return cell(name, sizes, kind, size)
        if name in WEIGHTED:
            return WEIGHTED[name](sizes, kind, size)
        if name not in PLAIN:
            effort = LOADED * (PARTS if kind == "int8" else 1)
            return Cost(call.work / 16, effort, kind, plan.buffers[place.buffer][1].size)
    if name in PLAIN:
        return PLAIN[name](sizes)
    return Cost(vectors=call.work / 16 * UNKNOWN)


def loop_cost(loop: Loop) -> Cost:
    """A loop over elements: vectors where the elements of the last axis lie side by side."""
    n, rows = loop.shape[-1], prod(loop.shape[:-1])
    operations = sum(OPERATIONS.get(apply.function.__name__, 1) for apply in loop.body) + len(loop.inputs) + 1
    side_by_side = all(strides[-1] in (0, 1) for _, strides in loop.inputs)
    whole = n // 16 if side_by_side else 0
    return Cost(vectors=rows * whole * operations, singles=LOOP + rows * (ROW + (n - 16 * whole) * operations))


def copy_cost(copy: Copy) -> Cost:
    return Cost(singles=COPY, moved=copy.size)
