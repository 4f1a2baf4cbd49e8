"""Audio models that other people trained, against the references that lie beside them, in the tolerances of the formats'
own players."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamrnn_converters import convert
from streamrnn_converters.audio import read_audio
from streamrnn_converters.audio.oracle import output
from streamrnn_converters.validate import validate

from streamrnn import Engine, Stream
from streamrnn.errors import ModelFileError

_RTNEURAL = {"conv": 1e-6, "dense": 1e-6, "gru": 5e-6, "gru_torch": 5e-6, "lstm": 1e-6, "lstm_1d": 1e-6}
_NAM = {"lstm": 1e-4, "BossLSTM-1x16": 1e-4, "wavenet": 2e-5, "BossWN-feather": 2e-5, "wavenet_a1_standard": 2e-5}
_GUITARML = (
    "LPB1_Parameterized-RNN3-LPB1_Parameterized__model", "LPB1_ex1-RNN3-LPB1-ex1__model", "ht1-ht11__model", "ht1-ht13__model",
    "muff-muff1__model", "muff-muff4__model",
)  # fmt: skip
_AIDAX = ("blues_deluxe", "british_lead", "california_clean")
#: how many times float32's own error a step may be off
_NOISE = 4.0


def played(engine: Engine, x: Any) -> Any:
    """The output of one channel, by blocks of odd sizes and for the first samples one by one: the same bits."""
    frames = {name: np.ascontiguousarray(x[:, k : k + 1], np.float32) for k, name in enumerate(engine.inputs)}
    stream, parts, at = Stream(engine), [], 0
    for size in (1, 7, 64, 501, len(x)):
        parts.append(stream.process({name: array[at : at + size] for name, array in frames.items()}))
        at = min(len(x), at + size)
    whole = np.concatenate(parts)
    stream.reset()
    single = [stream.step({name: array[t] for name, array in frames.items()}) for t in range(200)]
    assert np.stack(single).tobytes() == whole[:200].tobytes()  # type: ignore[arg-type]
    return whole[:, 0]


def load(path: Path, **options: Any) -> Engine:
    return Engine(convert(path, **options))


@pytest.mark.parametrize("name", _RTNEURAL)
def test_rtneural(models: Path, name: str) -> None:
    path = models / "audio" / "rtneural" / f"{name}.json"
    engine = load(path, layers="gru,gru2,dense") if name == "gru_torch" else load(path)
    x, y = (np.loadtxt(path.with_name(f"{name}_{what}_python.csv")) for what in "xy")
    found = Stream(engine).process(x[:, None].astype(np.float32))
    np.testing.assert_allclose(np.ravel(found), y, rtol=0, atol=_RTNEURAL[name])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", _AIDAX)
def test_aidax_passes_its_own_test_and_loud_signals(models: Path, name: str) -> None:
    path = models / "audio" / "aidax" / f"tw40_{name}_deerinkstudios.json"
    engine = load(path)
    assert engine.meta["sample_rate"] == 48000
    report = validate(path, engine, steps=400)
    assert report.passed, report.verdict
    assert [row.compared for row in report.rows if row.signal == "file's own"] == [2048]


@pytest.mark.parametrize("name", _GUITARML)
def test_guitarml_is_as_near_to_float64_as_float32_can_be(models: Path, name: str) -> None:
    path = models / "audio" / "guitarml" / f"{name}.json"
    reference = np.load(path.with_suffix(".ref.npz"))
    x, y = reference["input"].reshape(len(reference["input"]), -1), reference["output_f64"]
    found, model = played(load(path), x), read_audio(path)
    rounded = output(model, {key: x[:, k] for k, (key, _) in enumerate(model.inputs)}, dtype=np.float32)[:, 0]
    own = np.maximum.accumulate(np.abs(rounded - y))
    assert (np.abs(found - y) <= 1e-6 + _NOISE * own).all()


@pytest.mark.parametrize("name", _NAM)
def test_nam_cold_and_prewarmed(models: Path, name: str) -> None:
    path = models / "audio" / "nam" / f"{name}.nam"
    reference = np.load(path.with_suffix(".ref.npz"))
    x = reference["input"][:, None]
    for engine, expected in ((load(path), "output_cold"), (load(path, prewarm=True), "output_prewarmed")):
        np.testing.assert_allclose(played(engine, x), reference[expected], rtol=0, atol=_NAM[name])


@pytest.mark.parametrize("name", [*(f"guitarml/{n}.json" for n in _GUITARML), *(f"nam/{n}.nam" for n in _NAM)])
def test_validate_passes_also_where_a_recurrence_amplifies_rounding(models: Path, name: str) -> None:
    path = models / "audio" / name
    report = validate(path, load(path), steps=700)
    assert report.passed, report.verdict


def test_a_size_that_its_weights_deny_is_refused_by_layer(models: Path) -> None:
    with pytest.raises(ModelFileError, match=r"layer 0 \(lstm\).*shape \[1, 64\] are expected, found \[1, 80\]"):
        convert(models / "bad" / "rtneural_hidden_mismatch.json")
