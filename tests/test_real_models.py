"""Models that other people trained and published, beside onnxruntime on the original files.

They lie outside the repository (fixture `models`); where the folder is absent these tests skip with that reason.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from model_folder import Folder, arguments, compare, named
from streamrnn_converters import convert
from streamrnn_converters.validate import validate

from streamrnn import Engine, ModelFileError, Stream

NAMES = [
    "silero_v6_16k_op15", "silero_v6_ifless", "silero_v6_openvino", "silero_v4", "silero_dec_v5", "silero_enc_v5",
    "silero_v6_fw", "dtln_1", "dtln_2", "dtln_pt_1", "dtln_pt_2", "gtcrn", "gtcrn_simple", "ulunas_simple", "bsrnn_xxt",
    "dprnn_t", "dprnn_b", "dpt_t", "fastenhancer_t", "fastenhancer_b_k3", "fspen_a", "lisennet",
    "fastenhancer_t_wave_v2", "fastenhancer_b_wave", "mlagents_hallway", "precise_mycroft", "precise_mk1",
    "coffee_lstm", "coffee_posenc", "coffee_loop", "bruhm_lstm2709", "fairtalk_a", "fairtalk_b", "fairtalk_c",
    "lstm_vae", "lstm_vae_cyc", "pose_gru", "apple_ecg", "seq2seq_dec", "byte_bilstm", "qlstm_scan", "knet_rnn",
]  # fmt: skip
#: time is causal in these (the delay aside), so they run frame by frame without a hint
FRAME = [
    "silero_v6_fw", "coffee_lstm", "bruhm_lstm2709", "lstm_vae", "lstm_vae_cyc", "pose_gru", "knet_rnn",
    "precise_mycroft", "precise_mk1", "coffee_loop",
]  # fmt: skip
#: one answer for a clip of fixed length, behind convolutions that look ahead: no prefix of a stream has the file's answer
AHEAD = ("fairtalk_a", "fairtalk_b", "fairtalk_c")
#: outputs that are random draws have a distribution, but no values to compare
RANDOM = {"mlagents_hallway": ("discrete_actions",)}
#: states that leave the tolerance at one step, where float64 says that onnxruntime is further off than the engine
ILL_CONDITIONED = ("fastenhancer_b_wave",)


@pytest.fixture
def folder(models: Path) -> Folder:
    return _folder(models)


@cache
def _folder(models: Path) -> Folder:
    return Folder(models)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_a_call_of_the_file(folder: Folder, name: str) -> None:
    """Outputs within 1e-4, states within 5e-4 of the largest value (or of 1) over all of the manifest's steps, with the state
    fed back on both sides; the same bits after a reset and however the stream is cut."""
    engine = Engine(folder.window(name))
    assert {s.read for s in engine.graph.states if s.kind != "generator"} == set(folder.pairs(name))
    found = compare(folder, name, engine)
    assert found.random == RANDOM.get(name, ())
    assert found.repeats
    assert found.passed, found
    assert found.close or name in ILL_CONDITIONED, found


@pytest.mark.parametrize("name", NAMES)
def test_a_block_of_calls_gives_the_bits_of_single_calls(folder: Folder, name: str) -> None:
    engine, feed, steps = Engine(folder.window(name)), folder.feed(name), folder.steps(name)
    calls = [arguments(engine, feed(t)) for t in range(min(steps, 75))]
    calls = [calls[t % len(calls)] for t in range(75)]
    block, single = Stream(engine), Stream(engine)
    found = named(engine, block.process({key: np.stack([call[key] for call in calls]) for key in engine.inputs}))
    ones = [named(engine, single.step(call)) for call in calls]
    for key, value in found.items():
        assert value.tobytes() == np.stack([one[key] for one in ones]).tobytes(), key
    assert block.snapshot() == single.snapshot()


@pytest.mark.parametrize("name", RANDOM)
def test_random_outputs_are_distributed_as_in_the_file(folder: Folder, name: str) -> None:
    path = folder.file(name)
    report = validate(path, Engine(convert(path)), steps=200)
    assert report.passed, report.verdict
    assert {draw.name for draw in report.draws} == set(RANDOM[name])
    assert not report.excluded


@pytest.mark.parametrize("name", FRAME)
def test_causal_models_run_frame_by_frame_without_a_hint(folder: Folder, name: str) -> None:
    path = folder.file(name)
    graph = convert(path)
    assert graph.meta["mode"] == "frame", graph.meta["mode_reason"]
    report = validate(path, Engine(graph), steps=60)
    assert report.passed


@pytest.mark.parametrize("name", AHEAD)
def test_an_answer_that_looks_ahead_in_a_fixed_clip_stays_a_call_of_the_file(folder: Folder, name: str) -> None:
    path = folder.file(name)
    graph = convert(path)
    assert graph.meta["mode"] == "window"
    assert "frames ahead" in str(graph.meta["mode_reason"])
    assert Engine(convert(path, mode="frame")).delay > 0


def test_every_model_of_the_folder_is_accounted_for(folder: Folder) -> None:
    assert set(folder.entries) == set(NAMES)


@pytest.mark.parametrize("name", ["external_data_missing.onnx", "git_lfs_pointer.onnx", "rtneural_hidden_mismatch.json"])
def test_bad_files_are_refused_with_the_reason(models: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match=name.replace(".", r"\.")):
        convert(models / "bad" / name)


@pytest.mark.parametrize("name", NAMES)
def test_states_are_found_without_a_hint(folder: Folder, name: str) -> None:
    pairs: object = folder.window(name).meta["pairs"]
    assert isinstance(pairs, list)
    wanted = {s: t if row is None else f"{t}[{row}:{row + 1}]" for s, (t, row) in folder.pairs(name).items()}
    assert {source: target for source, target, *_ in pairs} == wanted
