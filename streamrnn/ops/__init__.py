"""One op family per file. Importing this package fills the op table."""

from streamrnn.ops import gru, lstm, matmul, pointwise, rnn, window

__all__ = ["gru", "lstm", "matmul", "pointwise", "rnn", "window"]
