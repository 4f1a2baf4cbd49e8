"""How a kernel computes several frames in one call: the rule stands beside the kernel, the block form of a plan follows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from streamrnn.kernels._jit import Kernel


@dataclass(frozen=True)
class Frames:
    """One call over K frames instead of K calls, with the same bits.

    count    the size that is multiplied by K
    rows     parameters that hold something of each frame: its elements are the product of these sizes, and those of the next
             frame follow behind them. y is written, the others are read. Where the product is 0, the kernel does not read the
             parameter by frame
    apart    parameters that hold something of each frame, and the size that says how many elements lie from one to the next
    carried  parameters that hold a state, which the kernel updates from frame to frame
    scratch  parameters that need to hold one frame only, because the kernel uses them anew for each
    only     sizes that must have this value
    ahead    what can be computed of all frames before the recurrence
    """

    count: str
    rows: Mapping[str, tuple[str, ...]]
    apart: Mapping[str, str] = field(default_factory=dict)
    carried: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()
    only: Mapping[str, int] = field(default_factory=dict)
    ahead: Ahead | None = None


@dataclass(frozen=True)
class Ahead:
    """The product of the input, which a cell makes frame by frame where `s_row` is 0.

    kernel  takes parameters of the cell by their names, `s_row` as the elements of a row, and z for the sums. The cell is then
            called with this `s_row` and with z as `start`
    gates   vectors of sums for 16 hidden units
    """

    kernel: Kernel
    gates: int


def over_frames(rule: Frames) -> Callable[[Kernel], Kernel]:
    """Decorator: a kernel that follows `rule`."""

    def mark(kernel: Kernel) -> Kernel:
        kernel.frames = rule
        return kernel

    return mark
