"""Files that no reader should take: what is wrong with them, and what to do, in one error; and options that do not belong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import audio_files as files
import audio_nam
import pytest
from audio_files import Dice, dense, layer, lstm, rtneural
from streamrnn_converters import convert
from streamrnn_converters.audio import _json

from streamrnn.errors import BindingError, ModelFileError

Json = dict[str, Any]
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def refusal(path: Path, data: object, **options: Any) -> str:
    with pytest.raises((ModelFileError, BindingError)) as caught:
        convert(files.write(path, data) if not isinstance(data, bytes) else _raw(path, data), **options)
    message = str(caught.value)
    assert str(path) in message or "--layers" in message
    return message


def _raw(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def changed(data: Json, *keys: str | int, to: Any) -> Json:
    """A copy with one value replaced."""
    data = copy.deepcopy(data)
    inner: Any = data
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    return data


class TestJson:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (b"", "not a readable JSON"),
            (b"{", "not a readable JSON"),
            (b"\xff\xfe{}", "not a readable JSON"),
            (b"[1, 2]", "holds [1, 2], not a model"),
            (b"{}", "none of the known formats"),
            (b'{"architecture": "LSTM", "architecture": "WaveNet", "config": {}}', "'architecture' stands twice"),
            (b'{"in_shape": [null, 1], "layers": [], "x": NaN}', "NaN is no number"),
            (b'{"in_shape": [null, 1], "layers": [], "x": -Infinity}', "-Infinity is no number"),
            (b'{"in_shape": [null, 1], "layers": [], "x": 1e999}', "beyond every float"),
            (b'{"in_shape": [null, 1], "layers": [], "x": ' + b"9" * 5000 + b"}", "not a readable JSON"),
            (b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply"),
            (b'{"in_shape": [null, 1], "layers": []}', "has 0 entries"),
        ],
        ids=lambda value: value[:30] if isinstance(value, str) else "",
    )
    def test_what_is_no_model_is_refused_with_the_reason(self, tmp_path: Path, text: bytes, words: str) -> None:
        assert words in refusal(tmp_path / "model.json", text)

    def test_a_file_that_is_not_there_or_a_folder_is_refused(self, tmp_path: Path) -> None:
        for path in (tmp_path / "missing.nam", tmp_path):
            with pytest.raises(ModelFileError):
                convert(path)

    def test_a_huge_file_is_refused_before_it_is_parsed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_json, "MAX_FILE", 1000)
        assert "more than 1000 bytes" in refusal(tmp_path / "m.json", files.aidax())


class TestRtneural:
    BASE = rtneural([lstm(Dice(1), 1, 4), dense(Dice(2), 4, 1)])

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (rtneural([layer("dropout", 1)]), ("layer 0 (dropout)", "not known", "dense, time-distributed-dense")),
            (rtneural([dense(Dice(1), 1, 4), layer("unknown", 4)]), ("layer 1 (unknown)", "not known")),
            (changed(BASE, "layers", 0, "shape", to=[None, None, 5]), ("layer 0 (lstm)", "[1, 20]", "[1, 16]")),
            (changed(BASE, "layers", 1, "shape", to=[None, None, 2]), ("layer 1 (dense)", "[4, 2]", "[4, 1]")),
            (changed(BASE, "layers", 0, "weights", to=[[1.0]]), ("layer 0 (lstm)", "1 weight arrays")),
            (changed(BASE, "layers", 1, "weights", 1, to=[True]), ("weights[1]", "True is among them")),
            (changed(BASE, "layers", 1, "weights", 1, to=["1"]), ("weights[1]", "'1' is among them")),
            (changed(BASE, "layers", 1, "weights", 1, to=[1e300]), ("beyond float32",)),
            (changed(BASE, "layers", 1, "weights", 0, 2, to=[]), ("weights[0]",)),
            (changed(BASE, "layers", 1, "activation", to="swish"), ("activation 'swish'", "tanh, relu")),
            (changed(BASE, "layers", 1, "type", to=7), ("'type'", "text is expected")),
            (changed(BASE, "layers", 0, "shape", to=[None, None, 10**9]), ("outside of 1 to",)),
            (changed(BASE, "layers", 0, "shape", to=[None, None, 1.5]), ("whole number",)),
            (changed(BASE, "in_shape", to=[None, None, 2]), ("layer 0 (lstm)", "[2, 16]")),
            (changed(BASE, "in_shape", to=[1]), ("2 to 4 are expected",)),
            (changed(BASE, "layers", 0, to=[]), ("an object is expected",)),
            (rtneural([layer("gru", 2, [Dice(1).list(1, 6), Dice(1).list(2, 6), Dice(1).list(6)])]), ("reset_after",)),
            (rtneural([layer("batchnorm", 1, [[0.0], [-1.0]], epsilon=0.5)]), ("not positive",)),
            (rtneural([layer("batchnorm", 1, [[0.0], [1.0]])]), ("'epsilon' is missing",)),
            (rtneural([layer("prelu", 3, [[[0.1, 0.2]]])], 3), ("2 slopes for 3 values",)),
            (rtneural([files.conv1d(Dice(1), 1, 2, 3, dilation=10**7)]), ("dilation", "outside of")),
            (rtneural([files.conv1d(Dice(1), 1, 2, 3, dilation=10**6)]), ("reaches back 2000000 frames",)),
            (rtneural([files.conv1d(Dice(1), 4, 4, 1, groups=3)], 4), ("3 groups",)),
            (rtneural([layer("activation", 1, activation="tanh")] * 600), ("1 to 512",)),
            (rtneural([files.conv1d(Dice(1), 1, 1, 1, strides=4096)] * 3), ("frames a step",)),
        ],
        ids=str,
    )
    def test_the_layer_the_reason_and_the_remedy_are_named(self, tmp_path: Path, data: Json, words: tuple[str, ...]) -> None:
        message = refusal(tmp_path / "model.json", data)
        for word in words:
            assert word in message

    def test_a_state_dict_without_topology_lists_its_modules(self, tmp_path: Path) -> None:
        message = refusal(tmp_path / "m.json", files.torch_state()[0])
        assert "--layers conv,wide,norm,slope,gru,lstm,out,spare" in message
        assert "gru (recurrent)" in message

    @pytest.mark.parametrize(
        ("layers", "words"),
        [
            ("conv,nothing", "neither a module of the file nor an activation"),
            ("conv:speed=2", "'speed' is no option here; there are dilation, stride"),
            ("conv:dilation=two", "'two' is not understood"),
            ("conv:dilation=0", "out of range"),
            ("tanh", "no layer among them has weights"),
            ("conv,out", "takes 2 values is given 4"),
            ("gru,conv", "does not fit the 3 values"),
            ("conv,layernorm", "what kind of module this is does not show"),
        ],
    )
    def test_a_topology_that_does_not_fit(self, tmp_path: Path, layers: str, words: str) -> None:
        layernorm = {"layernorm.weight": [1.0] * 4, "layernorm.bias": [0.0] * 4}
        assert words in refusal(tmp_path / "m.json", {**files.torch_state()[0], **layernorm}, layers=layers)


class TestOthers:
    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (files.aidax(in_skip=2), "'in_skip'"),
            (files.aidax(out_gain=1e6), "outside of -200 to 200"),
            (files.aidax(samplerate="fast"), "a number is expected"),
            (files.aidax(samplerate=1e12), "absurd"),
            (files.aidax(input_batch=[0.0, 1.0], output_batch=[0.0]), "2 inputs and 1 outputs"),
            (changed(files.guitarml(), "model_data", "unit_type", to="RNN"), "'RNN'"),
            (changed(files.guitarml(), "model_data", "hidden_size", to=10**9), "outside of"),
            (changed(files.guitarml(), "model_data", "hidden_size", to=6), "rec.weight_hh_l0"),
            (changed(files.guitarml(), "model_data", "skip", to=2), "skip is 2"),
            (changed(files.guitarml(), "model_data", "input_size", to=2), "input_size says 2"),
            (changed(files.guitarml(), "model_data", "num_layers", to=2), "num_layers says 2"),
            (changed(files.guitarml(), "state_dict", "rec.bias_ih_l0", to=None), "only one is there"),
        ],
    )
    def test_aidax_and_guitarml(self, tmp_path: Path, data: Json, words: str) -> None:
        assert words in refusal(tmp_path / "amp.json", data)

    WAVENET = audio_nam.wavenet()

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (changed(audio_nam.lstm(), "version", to="0.9.0"), "versions 0.5 to 0.7 are read"),
            (changed(audio_nam.lstm(), "version", to="new"), "not like 0.5.4"),
            (changed(audio_nam.lstm(), "architecture", to="CatLSTM"), "LSTM, WaveNet, ConvNet, Linear"),
            (changed(audio_nam.lstm(), "config", "hidden_size", to=10**9), "outside of"),
            (changed(audio_nam.lstm(), "config", "hidden_size", to=60000), "asks for more"),
            (changed(audio_nam.lstm(), "config", "hidden_size", to=[4]), "whole number"),
            (changed(audio_nam.lstm(), "config", "num_layers", to=1), "its configuration asks for"),
            (changed(audio_nam.lstm(), "weights", to=[]), "numbers of shape [any]"),
            (changed(audio_nam.lstm(), "sample_rate", to=-1), "absurd"),
            (changed(WAVENET, "config", "layers", 0, "new_thing", to=1), "settings that are not known"),
            (changed(WAVENET, "config", "layers", 0, "activation", to="Snake"), "activation 'Snake'"),
            (changed(WAVENET, "config", "layers", 0, "activation", to={"type": "Tanh", "alpha": 2}), "no parameters of Tanh"),
            (changed(WAVENET, "config", "layers", 0, "gating_mode", to="doors"), "gating mode 'doors'"),
            (changed(WAVENET, "config", "layers", 0, "kernel_sizes", to=[3, 3, 3]), "not both"),
            (changed(WAVENET, "config", "layers", 0, "dilations", to=[]), "1 to"),
            (changed(WAVENET, "config", "layers", 0, "condition_size", to=2), "1 values arrive there"),
            (changed(WAVENET, "config", "layers", 1, "input_size", to=3), "4 values arrive there"),
            (changed(WAVENET, "config", "layers", 0, "head_size", to=4), "its head sum has 3"),
            (changed(WAVENET, "config", "layers", 0, "bottleneck", to=2), "asks for"),
            (changed(WAVENET, "config", "layers", 0, "dilations", to=[1, 2, 10**6]), "reaches back 2000000"),
            (changed(WAVENET, "config", "condition_dsp", to=WAVENET), "condition"),
            (changed(audio_nam.container(), "config", "submodels", 1, "max_value", to=0.2), "ascending"),
            (changed(audio_nam.container(), "config", "submodels", 1, "model", "sample_rate", to=44100), "44100 Hz inside"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_nam(self, tmp_path: Path, data: Json, words: str) -> None:
        if words == "condition":  # a condition that is the net itself, without end
            inner = data
            for _ in range(6):
                inner = changed(data, "config", "condition_dsp", to=inner)
            data, words = inner, "nested more than"
        assert words in refusal(tmp_path / "amp.nam", data)


class TestOptions:
    @pytest.mark.parametrize(
        "option",
        [{"bind": {"x": 1}}, {"shape": {"x": (1,)}}, {"pair": {"a": "b"}}, {"time_axis": {"x": 1}}, {"lookahead": 4},
         {"outputs": ["y"]}, {"mode": "window"}],
        ids=lambda option: str(*option),
    )  # fmt: skip
    def test_options_of_onnx_files_are_refused_with_the_reason(self, tmp_path: Path, option: Json) -> None:
        message = refusal(tmp_path / "amp.nam", audio_nam.lstm(), **option)
        assert next(iter(option)).replace("_", "-") in message
        assert "belongs to ONNX files" in message

    @pytest.mark.parametrize("option", [{"layers": "gru"}, {"prewarm": True}])
    def test_options_of_audio_formats_are_refused_for_onnx(self, option: Json) -> None:
        with pytest.raises(BindingError, match="belongs to audio formats"):
            convert(EXAMPLES / "models" / "sensor.onnx", **option)

    def test_layers_are_refused_where_the_file_says_them(self, tmp_path: Path) -> None:
        assert "says it itself" in refusal(tmp_path / "m.json", files.aidax(), layers="lstm,dense")

    @pytest.mark.parametrize("make", [files.guitarml, lambda: files.rtneural_models()["dense"]])
    def test_prewarm_is_refused_where_the_player_does_not(self, tmp_path: Path, make: Callable[[], Json]) -> None:
        assert "feeds no silence" in refusal(tmp_path / "m.json", make(), prewarm=True)
