"""Models that other people trained and published, beside onnxruntime on the original files.

They lie outside the repository (fixture `models`); where the folder is absent these tests skip with that reason.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from streamrnn_converters import convert
from streamrnn_converters.validate import validate

from streamrnn import Engine, ModelFileError, StatePairError, Stream
from streamrnn.ir.graph import Array

#: run in window mode with the inputs of the folder's feeds; the bound or restricted ones with what they need
WINDOW: dict[str, dict[str, Any]] = {
    "silero_v6_16k_op15": {"bind": {"sr": 16000}},
    "silero_v6_ifless": {"bind": {"sr": 16000}},
    "silero_v6_openvino": {},
    "silero_v4": {"bind": {"sr": 16000}},
    "silero_dec_v5": {},
    "silero_enc_v5": {},
    "silero_v6_fw": {},
    "dtln_1": {},
    "dtln_2": {},
    "dtln_pt_1": {},
    "dtln_pt_2": {},
    "bsrnn_xxt": {},
    "lisennet": {},
    "mlagents_hallway": {},
    "coffee_lstm": {},
    "coffee_posenc": {},
    "bruhm_lstm2709": {},
    "fairtalk_a": {},
    "fairtalk_b": {},
    "fairtalk_c": {},
    "lstm_vae": {},
    "lstm_vae_cyc": {},
    "pose_gru": {},
    "apple_ecg": {},
    "seq2seq_dec": {},
    "byte_bilstm": {},
    "knet_rnn": {},
    "precise_mycroft": {},
    "precise_mk1": {},
    "coffee_loop": {},
    "gtcrn": {},
    "gtcrn_simple": {},
    "ulunas_simple": {},
    "dprnn_t": {},
    "dprnn_b": {},
    "dpt_t": {},
    "fastenhancer_t": {},
    "fastenhancer_b_k3": {},
    "fastenhancer_t_wave_v2": {},
    "fastenhancer_b_wave": {},
    "fspen_a": {},
    "qlstm_scan": {},
}
#: time is causal in these (the delay aside), so they run frame by frame without a hint
FRAME = (
    "silero_v6_fw",
    "coffee_lstm",
    "bruhm_lstm2709",
    "lstm_vae",
    "lstm_vae_cyc",
    "pose_gru",
    "knet_rnn",
    "precise_mycroft",
    "precise_mk1",
    "coffee_loop",
)
#: one answer for a clip of fixed length, behind convolutions that look ahead: no prefix of a stream has the file's answer
AHEAD = ("fairtalk_a", "fairtalk_b", "fairtalk_c")
#: outputs that are random draws have a distribution, but no values to compare
RANDOM = {"mlagents_hallway": "discrete_actions"}
MOST_STEPS = 40


@cache
def manifest(models: Path) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in json.loads((models / "manifest.json").read_text())}


@cache
def feeds(models: Path) -> Callable[[str], Callable[[int], dict[str, Array]]]:
    spec = importlib.util.spec_from_file_location("feeds", models / "feeds.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.feed  # type: ignore[no-any-return]


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def options_of(models: Path, name: str) -> dict[str, Any]:
    """Conversion options: the shapes of the first call, and what WINDOW says."""
    given = WINDOW.get(name, {})
    first = feeds(models)(name)(0)
    shapes = {key: array.shape for key, array in first.items() if key not in given.get("bind", {})}
    return {"mode": "window", "shape": shapes, **given}


def state_pairs(entry: Mapping[str, Any]) -> dict[str, tuple[str, int | None]]:
    rows = entry["state_pairs"].items()
    return {source: (target, None) if isinstance(target, str) else (target[0], target[1]) for source, target in rows}


@pytest.mark.parametrize("name", WINDOW)
def test_a_step_is_a_call_of_the_file(models: Path, name: str) -> None:
    """Outputs within 1e-4, states within 5e-4 of the largest value (or of 1), with the state fed back on both sides."""
    entry = manifest(models)[name]
    path = models / entry["file"]
    engine = Engine(convert(path, **options_of(models, name)))
    oracle, stream, feed = session(path), Stream(engine), feeds(models)(name)
    names = [output.name for output in oracle.get_outputs()]
    pairs = state_pairs(entry)
    state = {s.read: s.init for s in engine.graph.states if s.kind != "generator"}
    assert set(state) == set(pairs)
    for t in range(min(entry["steps"], MOST_STEPS)):
        inputs = feed(t)
        expected = dict(zip(names, oracle.run(None, {**inputs, **state}), strict=True))
        given = {k: a.reshape(engine.inputs[k].shape) for k, a in inputs.items() if k in engine.inputs}
        result = stream.step(given)
        found = result if isinstance(result, dict) else {next(iter(engine.outputs)): result}
        for key, value in found.items():
            reference = expected[key]
            if RANDOM.get(name) == key:
                assert (value.size, value.dtype) == (reference.size, reference.dtype)
                continue
            bound = 1e-4 * max(1.0, float(np.abs(reference).max()))
            np.testing.assert_allclose(value.ravel(), reference.ravel(), rtol=0, atol=bound, err_msg=f"{key}, step {t}")
        for source, (target, row) in pairs.items():
            state[source] = expected[target] if row is None else expected[target][row : row + 1]
            ours = stream.state()[source]
            bound = 5e-4 * max(1.0, float(np.abs(state[source]).max()))
            np.testing.assert_allclose(ours.ravel(), state[source].ravel(), rtol=0, atol=bound, err_msg=f"{source}, step {t}")


@pytest.mark.parametrize("name", WINDOW)
def test_reset_and_chunks_are_not_observable(models: Path, name: str) -> None:
    engine = Engine(convert(models / manifest(models)[name]["file"], **options_of(models, name)))
    feed = feeds(models)(name)
    calls = [{k: a.reshape(engine.inputs[k].shape) for k, a in feed(t).items() if k in engine.inputs} for t in range(6)]
    block = {k: np.stack([call[k] for call in calls]) for k in engine.inputs}
    stream = Stream(engine)

    def as_list(result: Any) -> list[Array]:
        return list(result.values()) if isinstance(result, dict) else [result]

    whole = as_list(stream.process(block))
    stream.reset()
    single = [as_list(stream.step(call)) for call in calls]
    for k, value in enumerate(whole):
        np.testing.assert_array_equal(np.stack([row[k] for row in single]), value)


@pytest.mark.parametrize("name", RANDOM)
def test_random_outputs_are_distributed_as_in_the_file(models: Path, name: str) -> None:
    path = models / manifest(models)[name]["file"]
    report = validate(path, Engine(convert(path)), steps=200)
    assert report.passed, report.verdict
    assert {draw.name for draw in report.draws} == {RANDOM[name]}
    assert not report.excluded


@pytest.mark.parametrize("name", FRAME)
def test_causal_models_run_frame_by_frame_without_a_hint(models: Path, name: str) -> None:
    path = models / manifest(models)[name]["file"]
    graph = convert(path)
    assert graph.meta["mode"] == "frame", graph.meta["mode_reason"]
    report = validate(path, Engine(graph), steps=60)
    assert report.passed


@pytest.mark.parametrize("name", AHEAD)
def test_an_answer_that_looks_ahead_in_a_fixed_clip_stays_a_call_of_the_file(models: Path, name: str) -> None:
    path = models / manifest(models)[name]["file"]
    graph = convert(path)
    assert graph.meta["mode"] == "window"
    assert "frames ahead" in str(graph.meta["mode_reason"])
    assert Engine(convert(path, mode="frame")).delay > 0


def test_every_model_of_the_folder_is_accounted_for(models: Path) -> None:
    assert set(manifest(models)) == set(WINDOW)


@pytest.mark.parametrize("name", ["external_data_missing.onnx", "git_lfs_pointer.onnx", "rtneural_hidden_mismatch.json"])
def test_bad_files_are_refused_with_the_reason(models: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match=name.replace(".", r"\.")):
        convert(models / "bad" / name)


def test_hints_are_needed_only_where_the_file_is_open(models: Path) -> None:
    """All state maps of the covered files are found without `pair`, which the step test relies on; this one states it."""
    for name in WINDOW:
        try:
            graph = convert(models / manifest(models)[name]["file"], **options_of(models, name))
        except StatePairError as error:  # pragma: no cover
            pytest.fail(f"{name}: {error}")
        found = {source: target for source, target, _ in graph.meta["pairs"]}  # type: ignore[attr-defined]
        wanted = {s: t if r is None else f"{t}[{r}:{r + 1}]" for s, (t, r) in state_pairs(manifest(models)[name]).items()}
        assert found == wanted, name
