"""One op family per file. Importing this package fills the op table."""

from streamrnn.ops import lstm, matmul, pointwise, window

__all__ = ["lstm", "matmul", "pointwise", "window"]
