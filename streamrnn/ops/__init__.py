"""One op family per file. Importing this package fills the op table."""

from streamrnn.ops import lstm, matmul, pointwise

__all__ = ["lstm", "matmul", "pointwise"]
