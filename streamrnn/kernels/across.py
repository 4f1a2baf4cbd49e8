"""Which kernels have a counterpart across streams, and how its arguments are found from those for one stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamrnn.kernels import (
    across_cells,
    across_conv,
    across_dense,
    across_norm,
    across_rows,
    across_window,
    cells,
    contract,
    conv,
    dense,
    moves,
    norm,
    reduce,
    window,
)
from streamrnn.kernels._jit import Binding, Device, Kernel
from streamrnn.kernels.across_dense import from_lanes, from_weights


@dataclass(frozen=True)
class Across:
    """The counterpart of a kernel: the same parameters, but pointers lead to interleaved memory.

    weights:  pointers that lead to the weight block.
    either:   pointers that may lead to both -> the name in the kernel of how it reads them.
    absent:   sizes that have to be 0, because the counterpart cannot do what they ask for.
    sizes:    sizes in bytes of arrays, which are 16 times as large.
    eight:    functions of the kernel -> those that take their place where a group has eight slots.
    kept:     pointers to states that stay as they are in a stream whose frame is filler.
    silent:   pointers to results that are zero there.
    filled:   pointers to inputs that hold a constant there -> the pointer to that constant.
    counted:  sizes whose product is the number of elements of those states, results and inputs.
    words:    pointers to int64, which lie as words: the low ones of all streams, then the high ones.
    devices:  functions that may be bound in the kernel -> those that take their place.
    """

    kernel: Kernel
    weights: frozenset[str] = frozenset()
    either: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    eight: Mapping[str, Device] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    filled: Mapping[str, str] = field(default_factory=dict)
    counted: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    devices: Mapping[Binding, Device] = field(default_factory=dict)

    def bound(self, original: Kernel, reads: Mapping[str, bool], eight: bool) -> Kernel:
        """The counterpart with what is bound in `original`.

        reads: pointer of `either` -> whether it leads to weights. eight: whether a group has eight slots.
        """
        readers: dict[str, Device] = {self.either[name]: from_weights if held else from_lanes for name, held in reads.items()}
        bound = {name: self.devices.get(value, value) for name, value in original.bindings.items()}
        return self.kernel.bind(**bound, **readers, **(self.eight if eight else {}))


_CELL: Mapping[str, Any] = {
    "absent": ("use_lens",),
    "silent": ("y",),
    "counted": ("directions", "batch", "n_hidden"),
}
_EIGHT: Mapping[str, Device] = {"add_gate": across_cells.add_gate_for_eight}
_START = {"start": "read_start"}
_PRODUCT = {"a": "read_a", "b": "read_b"}
_OPERANDS: Mapping[Binding, Device] = {
    conv.adjacent: across_dense.adjacent,
    conv.scattered: across_conv.scattered,
    conv.own_channel: across_conv.own_channel,
}


def _held(*names: str) -> frozenset[str]:
    return frozenset(names)


def _moves(kernel: Kernel, *sizes: str) -> tuple[Kernel, Across]:
    """A kernel that moves bytes is its own counterpart."""
    return kernel, Across(kernel, _held("indices", "dims", "lens"), sizes=sizes)


_PAIRS: tuple[tuple[Kernel, Across], ...] = (
    (dense.dense, Across(across_dense.dense, _held("w"))),
    (
        cells.lstm,
        Across(
            across_cells.lstm,
            _held("w", "peephole", "lens"),
            _START,
            eight=_EIGHT,
            **{**_CELL, "kept": ("h", "c"), "absent": ("use_lens", "use_peephole")},
        ),
    ),
    (cells.gru, Across(across_cells.gru, _held("w", "inner", "lens"), _START, eight=_EIGHT, kept=("h",), **_CELL)),
    (cells.gru_reset_first, Across(across_cells.gru_reset_first, _held("r", "rn", "lens"), kept=("h",), **_CELL)),
    (cells.rnn, Across(across_cells.rnn, _held("r", "lens"), kept=("h",), **_CELL)),
    (conv.conv_channels, Across(across_conv.conv_channels, _held("w", "offsets"), devices=_OPERANDS)),
    (conv.conv_positions, Across(across_conv.conv_positions, _held("w", "offsets"))),
    (conv.place, Across(across_conv.place)),
    (reduce.reduce_rows, Across(across_rows.reduce_rows)),
    (reduce.reduce_columns, Across(across_rows.reduce_columns)),
    (
        window.window,
        Across(
            across_window.window,
            _held("fill"),
            filled={"x": "fill"},
            counted=("outer", "frames", "inner"),
            words=("head",),
        ),
    ),
    (norm.softmax_rows, Across(across_rows.softmax_rows)),
    (norm.layer_norm, Across(across_norm.layer_norm, _held("scale", "bias"))),
    (norm.group_norm, Across(across_norm.group_norm, _held("scale", "bias"))),
    (contract.products, Across(across_rows.products, either=_PRODUCT)),
    _moves(moves.copy_blocks, "run", "x0", "x1", "x2", "y0", "y1", "y2"),
    _moves(moves.take, "run"),
    _moves(moves.take_elements, "run"),
    _moves(moves.take_nd, "run"),
    _moves(moves.reverse, "n_step", "batch_step", "run"),
)

#: text of a kernel -> its counterpart
TABLE: Mapping[Callable[..., Any], Across] = {kernel.function: across for kernel, across in _PAIRS}


def counterpart(kernel: Kernel) -> Across | None:
    """The counterpart of a kernel across streams, None where it has none. That of one on weights of float16 takes float32."""
    found = TABLE.get(kernel.function)
    if found is None:
        return None
    wide = kernel.typed(**dict.fromkeys(halves(kernel) & found.weights, "f32p"))
    return found if wide.params == Kernel(kernel.function).params else None


def halves(kernel: Kernel) -> frozenset[str]:
    """The pointers of a kernel that lead to float16."""
    return frozenset(name for name, ctype in kernel.params if ctype == "f16p")
