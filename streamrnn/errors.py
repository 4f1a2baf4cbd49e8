"""Every error that streamrnn raises on purpose.

A message names the place (node, input, file), the reason and the remedy. The command line prints it without a traceback.
"""

from __future__ import annotations


class StreamRNNError(Exception):
    """Base of all errors of this package."""


class ModelFileError(StreamRNNError):
    """A file cannot be read: not a model, cut short, altered, too new, or it points at data that is not there."""


class UnsupportedError(StreamRNNError):
    """A model uses an op, attribute, dtype or opset that this version does not know."""


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
