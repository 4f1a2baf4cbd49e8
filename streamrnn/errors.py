"""Every error that streamrnn raises on purpose.

A message names the place (node, input, file), the reason and the remedy. The command line prints it without a traceback.
"""

from __future__ import annotations

from collections.abc import Sequence


class StreamRNNError(Exception):
    """Base of all errors of this package."""


class ModelFileError(StreamRNNError):
    """A file cannot be read: not a model, cut short, altered, too new, or it points at data that is not there."""


class UnsupportedError(StreamRNNError):
    """A model uses an op, attribute, dtype or opset that this version does not know."""


class OpenValueError(UnsupportedError):
    """A value that has to be known at conversion, because it decides a shape, is computed at run time.

    reason: the message without its remedy.
    index:  the node's input that it is.
    inputs: the model's inputs that it is computed from, as far as known; binding them settles it.
    """

    def __init__(self, message: str, inputs: Sequence[str] = (), *, reason: str = "", index: int = 0) -> None:
        super().__init__(message)
        self.inputs = tuple(inputs)
        self.reason = reason
        self.index = index

    @classmethod
    def at(cls, reason: str, index: int, inputs: Sequence[str] = ()) -> OpenValueError:
        """The error of one node, with what to do about it."""
        remedy = " ".join(f"--bind {name}=VALUE" for name in inputs) or "--bind NAME=VALUE, --shape NAME=..."
        return cls(f"{reason}; bind what it depends on ({remedy})", inputs, reason=reason, index=index)

    def depending_on(self, inputs: Sequence[str]) -> OpenValueError:
        """The same error once it is known what the value is computed from."""
        return OpenValueError.at(self.reason, self.index, inputs)


class ShapeError(StreamRNNError):
    """Types or shapes of a node do not fit together."""


class GraphError(StreamRNNError):
    """A graph breaks one of its invariants (a bug in a pass, or a file made by hand)."""


class NotStreamableError(StreamRNNError):
    """A node needs the whole clip, so the model cannot run one frame at a time."""


class StatePairError(StreamRNNError):
    """State inputs and outputs cannot be paired without a guess."""


class BindingError(StreamRNNError):
    """An input or dimension is left open, or was bound to something that does not fit."""


class InputError(StreamRNNError, ValueError):
    """An array given to a stream has the wrong name, shape, dtype or layout."""


class NonFiniteError(StreamRNNError):
    """A live input holds NaN or Inf and the stream's policy is to raise; the state was not touched."""


class SnapshotError(StreamRNNError):
    """A snapshot was altered, cut, or belongs to another model."""


class MissingExtraError(StreamRNNError):
    """An optional part is not installed; the message says which extra to install."""
