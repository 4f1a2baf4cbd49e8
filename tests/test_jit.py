"""A kernel lives three lives: plain Python, a compiled step, an ordinary Numba function."""

from __future__ import annotations

import numpy as np
import pytest
from contract import floats

from streamrnn import GraphError
from streamrnn.kernels import cells
from streamrnn.kernels._jit import f32, f32p, find_kernel, i64, kernel
from streamrnn.kernels.activations import relu
from streamrnn.kernels.dense import dense
from streamrnn.ops._recurrent import pack_lanes


@kernel
def scale(n: i64, a: f32, x: f32p, y: f32p) -> None:
    """The example of the module's text."""
    for i in range(n):
        y[i] = a * x[i]


def test_a_kernel_runs_as_plain_python() -> None:
    y = np.zeros(3, np.float32)
    scale(3, np.float32(2), np.array([1, 2, 3], np.float32), y)
    np.testing.assert_array_equal(y, [2, 4, 6])


def test_a_kernel_with_vectors_works_in_other_jitted_code_on_arrays() -> None:
    from numba import njit

    x, W = floats(1, 2, 7), floats(2, 7, 20)
    packed = pack_lanes(np.concatenate([np.zeros((1, 20), np.float32), W])).ravel()
    inner = dense.njit

    @njit
    def twice(x: np.ndarray, w: np.ndarray, y: np.ndarray) -> None:
        inner(2, 7, 20, w, x, y)
        for i in range(y.size):
            y[i] *= np.float32(2)

    y = np.zeros(40, np.float32)
    twice(x.ravel(), packed, y)
    np.testing.assert_allclose(y.reshape(2, 20), 2 * (x.astype(np.float64) @ W), rtol=1e-5, atol=1e-5)


def test_an_address_finds_the_kernel_again_with_its_bindings() -> None:
    bound = cells.rnn.bind(act_f=relu, alpha_f=0.25)
    again = find_kernel(bound.address)
    assert again.address == bound.address
    assert again.symbol == bound.symbol
    assert again.key == bound.key
    assert again.symbol != cells.rnn.symbol


def test_unknown_names_and_types_are_refused() -> None:
    with pytest.raises(GraphError, match="uses no name"):
        scale.bind(nothing=relu)
    with pytest.raises(GraphError, match="no C type"):

        @kernel
        def bad(x: str) -> None:
            """Text is no C type."""
