"""DynamicQuantizeLSTM keeps the contract of ops, in onnxruntime's arithmetic: weights of both kinds, every input, both ways."""

from __future__ import annotations

import numpy as np
import pytest
from contract import Case, Contract, as_dict, floats, onnxruntime_outputs
from recurrent import lens, state

from streamrnn import Stream
from streamrnn.errors import ShapeError, UnsupportedError
from streamrnn.ir.graph import Array, Attr

X, LENS, H0, C0 = 0, 4, 5, 6


def clip(seed: int, S: int, batch: int, n_in: int) -> Array:
    """Input of which every frame covers the same range, so that a frame and the whole clip are quantised alike."""
    x = np.clip(floats(seed, S, batch, n_in), -1.5, 1.5)
    x[:, 0, 0] = -1.5
    x[:, 0, -1] = 1.5
    return x


def weights(seed: int, kind: str, *shape: int) -> Array:
    info = np.iinfo(kind)
    return np.random.default_rng(seed).integers(info.min, info.max, shape, kind, endpoint=True)


def parameters(seed: int, kind: str, D: int, columns: int) -> tuple[Array, Array]:
    """Scales and zero points, for each direction or for each of `columns` columns; int8 has zero points of 0."""
    shape = (D, columns) if columns else (D,)
    zero = np.zeros(shape, kind)
    if kind == "uint8":
        zero += np.arange(128, 128 + D, dtype=kind).reshape(D, *(1 for _ in shape[1:]))
    return (np.abs(floats(seed, *shape, scale=0.0008)) + np.float32(0.002)).astype(np.float32), zero


def lstm(
    S: int, n_in: int, H: int, kind: str = "int8", *, batch: int = 1, D: int = 1, columns: bool = False, label: str = "",
    live: tuple[int, ...] = (X,), stream: bool = True, B: bool = True, sequence: Array | None = None, h: Array | None = None,
    c: Array | None = None, P: Array | None = None, **attrs: Attr,
) -> Case:  # fmt: skip
    wide = 4 * H if columns else 0
    inputs = (
        clip(1, S, batch, n_in), weights(2, kind, D, n_in, 4 * H), weights(3, kind, D, H, 4 * H),
        floats(4, D, 8 * H, scale=0.2) if B else None, sequence, h, c, P,
        *parameters(5, kind, D, wide), *parameters(6, kind, D, wide),
    )  # fmt: skip
    return Case(
        "DynamicQuantizeLSTM", inputs, {"hidden_size": H, **attrs}, outputs=3, live=live, domain="com.microsoft",
        time={0: 0} if D == 1 and stream else {}, label=label or f"{kind} S={S} H={H}",
    )  # fmt: skip


class TestDynamicQuantizeLSTM(Contract):
    cases = [  # noqa: RUF012
        *(lstm(6, 3, H, kind) for H in (1, 16, 20) for kind in ("int8", "uint8")),
        lstm(5, 4, 33, "uint8", batch=3, label="H=33 batch=3"),
        lstm(5, 4, 20, "int8", columns=True, label="scales for columns"),
        lstm(5, 4, 7, "uint8", columns=True, B=False, label="scales for columns, without B"),
        lstm(1, 3, 20, h=state(7, 20), c=state(8, 20), live=(X, H0, C0), stream=False, label="one step with states fed"),
        lstm(5, 3, 6, batch=2, h=state(7, 6, 2), c=state(8, 6, 2), P=floats(9, 1, 18), label="peepholes"),
        lstm(5, 3, 6, batch=2, sequence=lens(3, 5), stream=False, label="lens"),
        lstm(5, 3, 6, batch=2, sequence=lens(0, 2), h=state(7, 6, 2), c=state(8, 6, 2), stream=False, label="lens 0"),
        lstm(5, 3, 6, batch=2, sequence=lens(4, 1), live=(X, LENS), stream=False, label="lens fed"),
        lstm(6, 3, 5, clip=0.3, input_forget=1, label="clip input_forget"),
        lstm(6, 3, 5, activations=("HardSigmoid", "Softsign", "Relu"), label="activations"),
        lstm(5, 3, 6, direction="reverse", stream=False, label="reverse"),
        lstm(5, 3, 6, "uint8", batch=2, D=2, direction="bidirectional", label="bidirectional"),
        lstm(5, 3, 6, "int8", D=2, columns=True, direction="bidirectional", sequence=lens(3), label="bidirectional lens"),
    ]


def test_states_fed_back_through_onnxruntime_stay_the_same() -> None:
    """Frames of different ranges, one call each: onnxruntime quantises each frame by itself then, as a stream does."""
    case = lstm(30, 5, 24, "uint8")
    case.inputs[0][:] = floats(11, 30, 1, 5) * np.linspace(0.1, 3, 30, dtype=np.float32)[:, None, None]  # type: ignore[index]
    stream = Stream(case.stream_engine)
    h, c = np.zeros((1, 1, 24), np.float32), np.zeros((1, 1, 24), np.float32)
    x = case.inputs[0]
    assert x is not None
    for frame in x:
        found = as_dict(case.stream_engine, stream.step(frame[0]))
        one = Case(case.op, (frame[None], *case.inputs[1:5], h, c, *case.inputs[7:]), case.attrs, outputs=3, domain=case.domain)
        _, h, c = onnxruntime_outputs(one)
        np.testing.assert_allclose(found["o1"].ravel(), h.ravel(), rtol=0, atol=1e-5)
        np.testing.assert_allclose(found["o2"].ravel(), c.ravel(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({1: weights(2, "int16", 1, 3, 16)}, UnsupportedError, "weights of int16"),
        ({9: np.zeros(1, np.uint8)}, UnsupportedError, "int8 .* zero point of uint8"),
        ({8: floats(1, 1, 3)}, ShapeError, r"input 8 \(1, 3\) should be \(1,\) or \(1, 16\)"),
        ({1: weights(2, "int8", 3, 16)}, ShapeError, "input 1 .* three dimensions"),
        ({2: weights(2, "int8", 1, 5, 16)}, ShapeError, "should be"),
        ({7: floats(1, 1, 9)}, ShapeError, "P .* should be"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(changed: dict[int, Array], error: type[Exception], text: str) -> None:
    inputs = list(lstm(2, 3, 4).inputs)
    for index, value in changed.items():
        inputs[index] = value
    with pytest.raises(error, match=rf"node 'node' \(DynamicQuantizeLSTM\): .*{text}"):
        Case("DynamicQuantizeLSTM", tuple(inputs), {"hidden_size": 4}, outputs=3).site()


def test_a_batch_over_time_is_refused() -> None:
    case = lstm(2, 3, 4, batch=5)
    along = Case(case.op, case.inputs, case.attrs, outputs=3, time={0: 1}, refused="its batch", onnx=False)
    TestDynamicQuantizeLSTM().test_what_needs_the_whole_clip_is_refused_with_the_reason(along)
