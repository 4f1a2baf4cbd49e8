"""The contract that every op fulfils, and the table of ops.

An op is one class in one file of `streamrnn/ops`. It answers five questions about a node:

    infer      which types come out                      (raises ShapeError, UnsupportedError)
    reference  which values come out, in plain NumPy     (the oracle, and the folder of constants)
    stream     how time runs through it                  (raises NotStreamableError)
    lower      which kernel calls compute it             (on a Lowering, which gives places in memory)
    tolerance  how far float32 may be from float64

Attributes and optional inputs are those of the newest ONNX opset; the reader brings older files to that form.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, TypeVar

from streamrnn.errors import GraphError, NotStreamableError, OpenValueError, ShapeError, UnsupportedError
from streamrnn.ir.graph import Array, Attr, Graph, Node
from streamrnn.ir.types import StreamType, TensorType

if TYPE_CHECKING:
    from streamrnn.ir.lowering import Lowering


@dataclass(frozen=True)
class Stored:
    """A float32 constant in fewer bits: its values are float16, or int8 times `scales`, which broadcast."""

    values: Array
    scales: Array | None = None


@dataclass(frozen=True)
class Site:
    """What an op sees of one node: its attributes, the types of its inputs and those inputs that are constants.

    An omitted optional input is None in both tuples. stored: how constants are stored where in fewer bits than they have; at
    lowering alone.
    """

    node: Node
    types: tuple[TensorType | None, ...]
    constants: tuple[Array | None, ...]
    outputs: tuple[TensorType | None, ...] = ()
    stored: tuple[Stored | None, ...] = ()

    def attr_int(self, name: str, default: int) -> int:
        value = self.node.attrs.get(name, default)
        if not isinstance(value, int):
            raise self.shape_error(f"attribute {name} is {value!r}, not an integer")
        return value

    def attr_float(self, name: str, default: float) -> float:
        value = self.node.attrs.get(name, default)
        if not isinstance(value, int | float):
            raise self.shape_error(f"attribute {name} is {value!r}, not a number")
        return float(value)

    def attr_str(self, name: str, default: str) -> str:
        value = self.node.attrs.get(name, default)
        if not isinstance(value, str):
            raise self.shape_error(f"attribute {name} is {value!r}, not a string")
        return value

    def attr_ints(self, name: str, default: Sequence[int]) -> tuple[int, ...]:
        value = self.node.attrs.get(name)
        if value is None:
            return tuple(default)
        if not isinstance(value, tuple) or not all(isinstance(v, int) for v in value):
            raise self.shape_error(f"attribute {name} is {value!r}, not a list of integers")
        return tuple(int(v) for v in value)

    def has(self, index: int) -> bool:
        """Whether input `index` is given."""
        return index < len(self.types) and self.types[index] is not None

    def type(self, index: int) -> TensorType:
        """Type of input `index`; ShapeError where it is missing."""
        found = self.types[index] if index < len(self.types) else None
        if found is None:
            raise self.shape_error(f"input {index} is missing")
        return found

    def out(self, index: int) -> TensorType:
        """Type of output `index`, once inferred."""
        found = self.outputs[index] if index < len(self.outputs) else None
        if found is None:
            raise self.shape_error(f"output {index} has no type")
        return found

    def const(self, index: int) -> Array | None:
        """The array of input `index` where it is a constant, else None."""
        return self.constants[index] if index < len(self.constants) else None

    def store(self, index: int, dtype: str) -> Stored | None:
        """How input `index` is stored, where that is in `dtype`: "float16" or "int8"."""
        found = self.stored[index] if index < len(self.stored) else None
        return found if found is not None and found.values.dtype == dtype else None

    def need_const(self, index: int, what: str) -> Array:
        """The array of input `index`; OpenValueError where it is computed at run time."""
        value = self.const(index)
        if value is None:
            raise OpenValueError.at(
                f"node '{self.node.name}' ({self.node.op}): {what} (input {index}) is computed at run time, but a compiled "
                f"step has fixed shapes and weights",
                index,
            )
        return value

    def axis(self, axis: int, rank: int) -> int:
        """`axis` counted from the front; ShapeError where it is out of range."""
        if not -rank <= axis < rank:
            raise self.shape_error(f"axis {axis} is out of range for rank {rank}")
        return axis % rank

    def shape_error(self, reason: str) -> ShapeError:
        return ShapeError(f"node '{self.node.name}' ({self.node.op}): {reason}")

    def not_streamable(self, reason: str) -> NotStreamableError:
        return NotStreamableError(
            f"node '{self.node.name}' ({self.node.op}): {reason}; use window mode (--mode window), where one step is one "
            f"call of the file"
        )


@dataclass(frozen=True)
class StateSpec:
    """A state that an op adds to a node: in frame mode, or, where `Op.carried` gives it, in every mode.

    read / write: index of the node's input that reads the state, of its output that writes it.
    """

    name: str
    read: int
    write: int
    init: Array
    kind: str


@dataclass(frozen=True)
class Streamed:
    """How time runs through a node, and what the node becomes in the step graph.

    outputs: the StreamType of each output (None for one that does not depend on the input stream).
    attrs:   attributes that change in the step graph (for instance pads that a ring replaces).
    consts:  constant inputs that change in the step graph, by input index.
    states:  states to add. `read` and `write` may be one past the node's present inputs and outputs.
    kept:    inputs that have to be states of the file, because the node begins with them and the stream does not begin anew.
    before:  a node to put in front of input 0 (a Window: the last frames of the stream), as (op, attrs).
    forward: True where the node does nothing in a stream: its output is its input, later by the change of delay.
    bodies:  what the node runs in the step graph in place of its own bodies; their types are found anew.
    """

    outputs: tuple[StreamType | None, ...]
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    consts: Mapping[int, Array] = field(default_factory=dict)
    states: tuple[StateSpec, ...] = ()
    kept: tuple[int, ...] = ()
    before: tuple[str, Mapping[str, Attr]] | None = None
    forward: bool = False
    bodies: tuple[Graph, ...] | None = None


@dataclass(frozen=True)
class Tolerance:
    """How far a float32 result may be from the float64 reference: |a - b| <= atol + rtol * |b|."""

    atol: float = 1e-6
    rtol: float = 1e-5


class Op(ABC):
    """One ONNX operator (or one of streamrnn's own). Stateless: one instance serves every node."""

    name: ClassVar[str]
    tolerance: ClassVar[Tolerance] = Tolerance()
    #: whether the same inputs always give the same outputs; what draws random numbers does not
    deterministic: ClassVar[bool] = True
    #: whether frames of one call share a grid of 8 bits that is made from them, so that a clip in one call and frame by frame
    #: differ by its rounding
    regrids: ClassVar[bool] = False
    #: inputs whose type alone matters, so that the node can be computed as soon as the others are constants
    type_only: ClassVar[frozenset[int]] = frozenset()

    @abstractmethod
    def infer(self, site: Site) -> tuple[TensorType, ...]:
        """Types of all outputs the op can give, in order."""

    @abstractmethod
    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        """Values of all outputs in plain NumPy. Floats are computed in the precision of the arrays given (the tests
        give float64); an omitted input is None."""

    def handed(self, site: Site) -> tuple[TensorType, ...]:
        """Types of what a control op hands to each of its bodies."""
        raise site.shape_error("runs no bodies")

    def carried(self, site: Site) -> tuple[StateSpec, ...]:
        """States that the node has whatever the mode: the generator of a random op."""
        return ()

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        """How time runs through the node; `streams[i]` is None where input i is the same at every step.

        Called with at least one stream among the inputs. Raises NotStreamableError with the reason.
        """
        raise site.not_streamable("has no rule for time")

    def narrow_inputs(self, site: Site, dtype: str) -> Mapping[int, tuple[int, ...]] | str:
        """Weights that `lower` takes in `dtype`, float16 or int8, as well: {input: axes of the output channels}, none for most
        ops; or why this node does not, as a text."""
        return {}

    def parts(self, site: Site) -> Mapping[int, int]:
        """Inputs that are runs of output 0, {input: elements in front of it}: `lower` copies none that lies there already."""
        return {}

    def replaced(self, site: Site) -> tuple[int, int] | None:
        """(first element, elements) of the run of output 0 that is input 2, where everything else of it is input 0 and `lower`
        asks for it by `Lowering.update`."""
        return None

    @abstractmethod
    def lower(self, site: Site, low: Lowering) -> None:
        """Emit the kernel calls that compute the outputs."""


_OPS: dict[str, Op] = {}
_OpType = TypeVar("_OpType", bound=type[Op])


def register(cls: _OpType) -> _OpType:
    """Class decorator: put an op into the table."""
    if cls.name in _OPS:
        raise GraphError(f"op {cls.name} is registered twice")
    _OPS[cls.name] = cls()
    return cls


def register_instance(op: Op, name: str) -> None:
    """Put an op made from a table row (pointwise functions, reductions) into the table under `name`."""
    if name in _OPS:
        raise GraphError(f"op {name} is registered twice")
    _OPS[name] = op


def find_op(name: str) -> Op | None:
    """The op of that name, or None."""
    return _OPS.get(name)


def get_op(node: Node) -> Op:
    """The op of a node; UnsupportedError where there is none."""
    op = _OPS.get(node.op)
    if op is None:
        raise UnsupportedError(
            f"node '{node.name}' ({node.op}): this op is not supported; `streamrnn doctor --ops` lists those that are"
        )
    return op


def op_names() -> list[str]:
    """Names of all registered ops, sorted."""
    return sorted(_OPS)
