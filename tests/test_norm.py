"""Normalisations keep the contract of ops."""

from __future__ import annotations

import numpy as np
import pytest
from contract import Case, Contract, close, floats

from streamrnn.errors import ShapeError, UnsupportedError
from streamrnn.ir.graph import Array


def positive(seed: int, *shape: int) -> Array:
    return np.abs(floats(seed, *shape)) + np.float32(0.5)


class TestLayerNormalization(Contract):
    cases = [  # noqa: RUF012
        Case("LayerNormalization", (floats(1, 6, 64), floats(2, 64), floats(3, 64)), time={0: 0}),
        Case("LayerNormalization", (floats(1, 2, 33, scale=3) + 50, floats(2, 33)), {"epsilon": 1e-3}),
        Case("LayerNormalization", (floats(1, 2, 5, 3, 4), floats(2, 3, 4), floats(3, 3, 4)), {"axis": 2}, 3, time={0: 1}),
        Case("LayerNormalization", (floats(1, 2, 5, 4), floats(2, 5, 4)), {"axis": 1}, time={0: 1}, refused="over time"),
    ]


class TestRMSNormalization(Contract):
    cases = [  # noqa: RUF012
        Case("RMSNormalization", (floats(1, 6, 20), floats(2, 20)), time={0: 0}, onnx=False),
        Case("RMSNormalization", (floats(1, 2, 3, 5), floats(2, 1)), {"axis": 1, "epsilon": 1e-2}, onnx=False),
    ]


class TestInstanceNormalization(Contract):
    cases = [  # noqa: RUF012
        Case("InstanceNormalization", (floats(1, 3, 4, 21), floats(2, 4), floats(3, 4)), time={0: 0}),
        Case("InstanceNormalization", (floats(1, 1, 4, 3, 5), floats(2, 4), floats(3, 4)), time={0: 2}, refused="over time"),
    ]


class TestGroupNormalization(Contract):
    cases = [  # noqa: RUF012
        Case("GroupNormalization", (floats(1, 3, 4, 21), floats(2, 4), floats(3, 4)), {"num_groups": 2}, time={0: 0}),
        Case("GroupNormalization", (floats(1, 1, 6, 3, 5), floats(2, 6), floats(3, 6)), {"num_groups": 1, "epsilon": 1e-2}),
        Case(
            "GroupNormalization", (floats(1, 1, 6, 7), floats(2, 6), floats(3, 6)), {"num_groups": 3},
            time={0: 2}, refused="over time",
        ),
    ]  # fmt: skip


class TestBatchNormalization(Contract):
    cases = [  # noqa: RUF012
        Case("BatchNormalization", (floats(1, 2, 5, 7), floats(2, 5), floats(3, 5), floats(4, 5), positive(5, 5)), time={0: 2}),
        Case("BatchNormalization", (floats(1, 6, 5), floats(2, 5), floats(3, 5), floats(4, 5), positive(5, 5)), time={0: 0}),
        Case(
            "BatchNormalization", (floats(1, 1, 5, 3, 4), floats(2, 5), floats(3, 5), floats(4, 5), positive(5, 5)),
            {"epsilon": 1e-3}, time={0: 1}, refused="channels",
        ),
    ]  # fmt: skip


class TestLpNormalization(Contract):
    cases = [  # noqa: RUF012
        Case("LpNormalization", (floats(1, 3, 20),), {"p": 1}, time={0: 0}),
        Case("LpNormalization", (floats(2, 3, 4, 5) * np.array([[[0]], [[1]], [[1]]], np.float32),), {"axis": 1}),
        Case("LpNormalization", (floats(3, 3, 4),), {"axis": 0, "p": 2}, time={0: 0}, refused="over time"),
    ]


class TestLRN(Contract):
    cases = [  # noqa: RUF012
        Case("LRN", (floats(1, 2, 5, 4, 18),), {"size": 3, "alpha": 0.5, "beta": 0.6, "bias": 1.5}, time={0: 3}),
        Case("LRN", (floats(2, 1, 7, 5, 3),), {"size": 4}, onnx=False),  # onnxruntime has odd sizes alone
        Case("LRN", (floats(3, 1, 2, 3, 3),), {"size": 9, "beta": 2.0}),
        Case("LRN", (floats(3, 1, 4, 3, 1),), {"size": 3}, time={0: 1}, refused="over time"),
    ]


def test_rms_normalization_is_that_of_the_onnx_reference_implementation() -> None:
    from onnx import TensorProto, defs
    from onnx import helper as h
    from onnx.reference import ReferenceEvaluator

    if defs.onnx_opset_version() < 23:
        pytest.skip("RMSNormalization needs onnx with opset 23")
    x, scale = floats(1, 2, 3, 20), floats(2, 20)
    ports = [h.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", x.shape), ("s", scale.shape), ("y", x.shape))]
    graph = h.make_graph([h.make_node("RMSNormalization", ["x", "s"], ["y"], epsilon=1e-3)], "g", ports[:2], ports[2:])
    (expected,) = ReferenceEvaluator(h.make_model(graph, opset_imports=[h.make_opsetid("", 23)])).run(
        None, {"x": x, "s": scale}
    )
    case = Case("RMSNormalization", (x, scale), {"epsilon": 1e-3})
    close(expected, case.reference[0], case.impl, "onnx reference against ours")


def test_batch_normalization_in_training_mode_is_refused_with_the_remedy() -> None:
    inputs = (floats(1, 1, 3, 2), *(positive(i, 3) for i in range(4)))
    with pytest.raises(UnsupportedError, match=r"training mode.*\.eval\(\)"):
        Case("BatchNormalization", inputs, {"training_mode": 1}).site()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Case("LayerNormalization", (floats(1, 2, 5), floats(2, 4))), "does not broadcast"),
        (Case("GroupNormalization", (floats(1, 1, 5, 2), floats(2, 5), floats(3, 5)), {"num_groups": 2}), "multiple of 2"),
        (Case("InstanceNormalization", (floats(1, 1, 5, 2), floats(2, 4), floats(3, 5))), "should have 5 elements"),
        (Case("BatchNormalization", (floats(1, 1, 5), *(floats(i, 4) for i in range(4)))), "as many elements"),
    ],
    ids=str,
)
def test_parameters_that_do_not_fit_are_refused_with_the_reason(bad: Case, reason: str) -> None:
    with pytest.raises(ShapeError, match=reason):
        bad.site()
