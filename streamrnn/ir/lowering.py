"""What `Op.lower` writes to: places in memory, and the calls that fill them.

The plan implements it. An op asks for places and emits calls; where the places lie is decided later.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from streamrnn.ir.graph import Array
from streamrnn.ir.place import Place as Place
from streamrnn.ir.types import DType

if TYPE_CHECKING:
    from streamrnn.kernels._jit import Kernel


@dataclass(frozen=True, slots=True)
class Skip:
    """A run-time size: how many of this step's `frames` are filler, because the wire lags by `delay` frames."""

    delay: int
    frames: int


Arg: TypeAlias = int | float | Place | Skip


@dataclass(frozen=True, slots=True)
class Register:
    """Operand of an Apply: a loaded input (0 .. n_inputs - 1) or an earlier result (n_inputs ...)."""

    index: int


@dataclass(frozen=True, slots=True)
class Apply:
    """One scalar function of an element loop, on registers and literal numbers.

    A register goes to a parameter of its own C type or of its type's `wide`, and `result` is the element type of what comes
    out: that of the function by default, or a narrower integer to which it is cut.
    """

    function: Kernel
    args: tuple[Register | float, ...]
    result: DType | None = None

    @property
    def dtype(self) -> DType:
        """Element type of the result."""
        return self.result or DType.of_ctype(str(self.function.returns))


#: (place in the first iteration, elements to move on with each) -> the place in the present iteration
Moving: TypeAlias = Callable[[Place, int], Place]


class Lowering(ABC):
    """Places and calls for one node."""

    @abstractmethod
    def input(self, index: int) -> Place:
        """Where the elements of input `index` lie, C-contiguous (constants included)."""

    @abstractmethod
    def output(self, index: int) -> Place:
        """A buffer for output `index`, C-contiguous; where nobody wants that output, memory that dies with the node."""

    @abstractmethod
    def wanted(self, index: int) -> bool:
        """Whether anything reads output `index`."""

    @abstractmethod
    def weight(self, array: Array) -> Place:
        """Read-only data of this node in the layout that its kernel wants."""

    @abstractmethod
    def scratch(self, dtype: DType, elements: int) -> Place:
        """Memory that dies with the node."""

    @abstractmethod
    def view(self, output: int, input: int, offset: int = 0) -> None:
        """Output `output` is the elements of input `input` from `offset` on: no call, no copy."""

    @abstractmethod
    def update(self, output: int, input: int) -> Place:
        """Memory that holds input `input` and becomes output `output`: in place where lifetimes allow, else after a copy."""

    @abstractmethod
    def copy(self, source: Place, target: Place, elements: int) -> None:
        """Emit a copy of `elements` elements."""

    @abstractmethod
    def skip(self, frames: int) -> Arg:
        """How many of the `frames` of input 0 in this step are filler (0 where the node has no warm-up)."""

    @abstractmethod
    def call(self, kernel: Kernel, *args: Arg, work: int) -> None:
        """Emit a kernel call. `work` is its number of multiply-adds: large ones get code of their own sizes."""

    @abstractmethod
    def loop(
        self,
        shape: Sequence[int],
        inputs: Sequence[tuple[Place, Sequence[int]]],
        body: Sequence[Apply],
        output: Place,
    ) -> None:
        """Emit one loop over all elements of `shape`: load each input at its strides (in elements), apply `body` in order,
        store the last result (with an empty body: the loaded element) to `output`, which is C-contiguous."""

    @abstractmethod
    def inline(self, body: int, inputs: Sequence[Place], outputs: Sequence[Place]) -> None:
        """Emit the calls of body `body` of the node, whose inputs lie at `inputs` and whose outputs are wanted at `outputs`.

        An output that has the place of an input takes it once the whole body has run, so that all inputs keep their values
        until then; an output in other memory is written there as soon as it is known.
        """

    @abstractmethod
    def when(self, condition: Place, value: bool) -> AbstractContextManager[None]:
        """What is emitted inside runs only where the truth value at `condition` is `value`."""

    @abstractmethod
    def repeat(
        self, trips: int | None, first: Arg = 0, count: Place | None = None, condition: Place | None = None
    ) -> AbstractContextManager[Moving]:
        """What is emitted inside runs for the iterations `first` .. `trips` - 1; without `trips` as often as a step may.

        count:     an int64 at run time: no iteration from that one on.
        condition: a truth value at run time, looked at in front of each iteration: none follows once it is false.

        Memory asked for before lives through all iterations, memory asked for inside through one.
        """
