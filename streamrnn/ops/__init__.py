"""One op family per file. Importing this package fills the op table."""

from streamrnn.ops import (
    concat,
    expand,
    fill,
    gather,
    gru,
    lstm,
    matmul,
    pad,
    pointwise,
    reshape,
    rnn,
    shape,
    slice,
    split,
    transpose,
    window,
)

__all__ = [
    "concat",
    "expand",
    "fill",
    "gather",
    "gru",
    "lstm",
    "matmul",
    "pad",
    "pointwise",
    "reshape",
    "rnn",
    "shape",
    "slice",
    "split",
    "transpose",
    "window",
]
