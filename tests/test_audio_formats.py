"""Every audio format, layer type and architecture computes what its description says, step by step and in blocks alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import audio_files as files
import audio_formulas as formulas
import audio_nam
import numpy as np
import pytest
from streamrnn_converters import convert

import streamrnn
from streamrnn import Engine, Stream
from streamrnn.ir.file import load_graph, save_graph

Json = dict[str, Any]
#: |engine - float64| of models as small as these
ATOL = 2e-6


def signal(width: int, frames: int = 60, seed: int = 1) -> Any:
    return np.random.default_rng(seed).normal(0, 0.8, (frames, width)).astype(np.float32)


def fed(engine: Engine, x: Any) -> dict[str, Any]:
    """Columns of x as the engine's inputs by name."""
    found, at = {}, 0
    for name, port in engine.inputs.items():
        width = int(np.prod(port.shape)) // engine.frames
        found[name] = np.ascontiguousarray(x[:, at : at + width]).reshape(-1, *port.shape)
        at += width
    return found


def played(engine: Engine, x: Any) -> Any:
    """The output [frames, channels] in one block, which single steps give bit for bit."""
    stream, frames = Stream(engine), fed(engine, x)
    whole = stream.process(frames)
    assert isinstance(whole, np.ndarray)
    stream.reset()
    single = [stream.step({name: array[t] for name, array in frames.items()}) for t in range(len(whole))]
    assert np.stack(single).tobytes() == whole.tobytes()  # type: ignore[arg-type]
    return whole.reshape(len(whole), -1)


def check(path: Path, data: Json, formula: Callable[[Json, Any], Any], width: int = 1, **options: Any) -> Engine:
    engine = Engine(convert(files.write(path, data), **options))
    x = signal(width)
    expected = formula(data, x.astype(float))
    found = played(engine, x)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL * max(1.0, np.abs(expected).max()))
    return engine


class TestRtneural:
    @pytest.mark.parametrize("name", files.rtneural_models())
    def test_every_layer_type(self, tmp_path: Path, name: str) -> None:
        data = files.rtneural_models()[name]
        width = int(np.prod(data["in_shape"][2:]))
        check(tmp_path / "model.json", data, formulas.rtneural, width)

    def test_a_stride_gives_one_output_for_several_frames(self, tmp_path: Path) -> None:
        data = files.rtneural_models()["strided"]
        engine = Engine(convert(files.write(tmp_path / "m.json", data)))
        assert (engine.frames, engine.stride, engine.delay) == (4, 4, 0)

    def test_weights_without_a_bias(self, tmp_path: Path) -> None:
        d = files.Dice(7)
        data = files.rtneural([files.lstm(d, 1, 3), files.gru(d, 3, 2)])
        bare = json.loads(json.dumps(data))
        for layer, shape in zip((0, 1), ((12,), (2, 6)), strict=True):
            data["layers"][layer]["weights"][2] = np.zeros(shape).tolist()
            del bare["layers"][layer]["weights"][2]
        path = files.write(tmp_path / "bare.json", bare)
        np.testing.assert_allclose(played(Engine(convert(path)), signal(1)), formulas.rtneural(data, signal(1)), atol=ATOL)

    def test_a_torch_state_dict_with_its_topology(self, tmp_path: Path) -> None:
        state, layers = files.torch_state()
        engine = check(tmp_path / "state.json", state, formulas.torch_flavour, layers=layers)
        assert engine.meta["layers"] == layers
        assert "spare" in str(engine.meta["notes"])

    def test_an_activation_on_a_recurrent_layer_has_no_effect_and_is_told(self, tmp_path: Path) -> None:
        d = files.Dice(8)
        data = files.rtneural([{**files.gru(d, 1, 3), "activation": "relu"}])
        engine = check(tmp_path / "m.json", data, formulas.rtneural)
        assert "relu" in str(engine.meta["notes"])


class TestAidax:
    @pytest.mark.parametrize(
        "more", [{}, {"in_skip": 1}, {"in_gain": -6.0, "out_gain": 3.5}, {"in_skip": 1, "in_gain": 2.0, "out_gain": -9.0}]
    )
    def test_gains_and_skip(self, tmp_path: Path, more: Json) -> None:
        engine = check(tmp_path / "amp.json", files.aidax(**more), formulas.aidax)
        assert engine.meta["sample_rate"] == 48000
        assert engine.meta["in_gain_db"] == more.get("in_gain", 0.0)
        assert engine.meta["out_gain_db"] == more.get("out_gain", 0.0)

    def test_parameters_are_named_inputs(self, tmp_path: Path) -> None:
        engine = check(tmp_path / "amp.aidax", files.aidax(inputs=3, in_skip=1, in_gain=1.0), formulas.aidax, 3)
        assert {name: port.shape for name, port in engine.inputs.items()} == {"audio": (1,), "param1": (1,), "param2": (1,)}


class TestGuitarml:
    @pytest.mark.parametrize("unit", ["LSTM", "GRU"])
    @pytest.mark.parametrize(
        "more", [{}, {"skip": 0}, {"inputs": 3}, {"layers": 2}, {"bias": False}], ids=lambda more: str(*more or ["plain"])
    )
    def test_units_skip_knobs_and_layers(self, tmp_path: Path, unit: str, more: Json) -> None:
        data = files.guitarml(unit, **more)
        engine = check(tmp_path / "amp.json", data, formulas.guitarml, more.get("inputs", 1))
        assert list(engine.inputs) == ["audio", "param1", "param2"][: more.get("inputs", 1)]


NAM: Mapping[str, Callable[[], Json]] = {
    "lstm": audio_nam.lstm,
    "lstm of one layer": lambda: audio_nam.lstm(1),
    "wavenet": audio_nam.wavenet,
    "gated wavenet": lambda: audio_nam.wavenet(gated=True),
    "wavenet of all": audio_nam.wavenet_of_all,
    "convnet": lambda: audio_nam.file(
        "ConvNet", {"channels": 4, "dilations": [1, 2, 4], "batchnorm": False, "activation": "ReLU"}
    ),
    "normed convnet": lambda: audio_nam.file(
        "ConvNet", {"channels": 3, "dilations": [1, 5], "batchnorm": True, "activation": "Tanh"}
    ),
    "linear": lambda: audio_nam.file("Linear", {"receptive_field": 9, "bias": True}),
    "linear without bias": lambda: audio_nam.file("Linear", {"receptive_field": 4, "bias": False}),
    "container": audio_nam.container,
    "sequential": audio_nam.sequential,
}


class TestNam:
    @pytest.mark.parametrize("name", NAM)
    def test_every_architecture(self, tmp_path: Path, name: str) -> None:
        engine = check(tmp_path / "amp.nam", NAM[name](), audio_nam.nam)
        assert engine.meta["sample_rate"] == 48000

    @pytest.mark.parametrize(("n", "m"), [(2, 2), (1, 3), (3, 1)])
    def test_linear_maps_channels(self, tmp_path: Path, n: int, m: int) -> None:
        config = {"receptive_field": 5, "bias": True, "in_channels": n, "out_channels": m}
        engine = check(tmp_path / "ir.nam", audio_nam.file("Linear", config), audio_nam.nam, n)
        assert engine.inputs["audio"].shape == (n,)

    def test_knobs_of_an_lstm_are_named_inputs(self, tmp_path: Path) -> None:
        engine = check(tmp_path / "amp.nam", audio_nam.lstm(inputs=2), audio_nam.nam, 2)
        assert list(engine.inputs) == ["audio", "param1"]

    @pytest.mark.parametrize(
        "activation",
        ["Tanh", "Hardtanh", "Fasttanh", "ReLU", "LeakyReLU", "PReLU", "Sigmoid", "SiLU", "Hardswish", "LeakyHardtanh",
         "Softsign", "Softsigmoid",
         {"type": "LeakyHardtanh", "min_val": -0.5, "max_val": 0.2, "min_slope": 0.3, "max_slope": -0.1},
         {"type": "Hardtanh", "min_val": -0.2, "max_val": 0.4}],
        ids=str,
    )  # fmt: skip
    def test_every_activation(self, tmp_path: Path, activation: Any) -> None:
        config = {"channels": 5, "dilations": [1], "batchnorm": False, "activation": activation}
        check(tmp_path / "amp.nam", audio_nam.file("ConvNet", config), audio_nam.nam)

    def test_the_stored_state_is_the_initial_state(self, tmp_path: Path) -> None:
        data = audio_nam.lstm(1)
        engine = Engine(convert(files.write(tmp_path / "amp.nam", data)))
        source = audio_nam.Source(data["weights"])
        source.take(16, 5)
        source.take(16)
        for state in engine.graph.states:
            np.testing.assert_array_equal(state.init.ravel(), source.take(4).astype(np.float32))

    @pytest.mark.parametrize(("name", "silence"), [("lstm", 24000), ("gated wavenet", 1 + 2 * 7 + 2 * 9), ("convnet", 8)])
    def test_prewarm_starts_behind_the_players_silence(self, tmp_path: Path, name: str, silence: int) -> None:
        path = files.write(tmp_path / "amp.nam", NAM[name]())
        cold, warm = Engine(convert(path)), Engine(convert(path, prewarm=True))
        assert cold.meta["prewarm_samples"] == warm.meta["prewarmed"] == silence
        x = signal(1)
        padded = np.concatenate([np.zeros((silence, 1), np.float32), x])
        np.testing.assert_array_equal(played(warm, x), Stream(cold).process(padded)[silence:])  # type: ignore[index]
        assert (played(warm, x) != played(cold, x)).any()


class TestFiles:
    FILES: Mapping[str, Callable[[], Json]] = {
        "NAM LSTM": audio_nam.lstm,
        "AIDA-X": files.aidax,
        "GuitarML": files.guitarml,
        "RTNeural": lambda: files.rtneural_models()["dense"],
    }

    @pytest.mark.parametrize("kind", FILES)
    @pytest.mark.parametrize("name", ["model.json", "model.nam", "model.aidax", "model.txt", "model"])
    def test_the_format_is_recognised_by_what_is_in_the_file(self, tmp_path: Path, kind: str, name: str) -> None:
        graph = convert(files.write(tmp_path / name, self.FILES[kind]()))
        assert str(graph.meta["format"]).startswith(kind)

    def test_a_byte_order_mark_and_blanks_are_no_obstacle(self, tmp_path: Path) -> None:
        (tmp_path / "m").write_bytes(b"\xef\xbb\xbf \n\t" + json.dumps(audio_nam.lstm()).encode())
        assert convert(tmp_path / "m").meta["format"] == "NAM LSTM (file version 0.5.4)"

    def test_levels_and_rates_survive_into_the_srnn_file(self, tmp_path: Path) -> None:
        graph = convert(files.write(tmp_path / "amp.nam", audio_nam.lstm()))
        save_graph(graph, tmp_path / "amp.srnn")
        for meta in (graph.meta, load_graph(tmp_path / "amp.srnn").meta):
            assert meta["sample_rate"] == 48000
            assert meta["loudness"] == -20.5
            assert meta["input_level_dbu"] == 18.3
            assert meta["name"] == "Test amp"

    def test_metadata_cannot_overwrite_what_the_compiler_stores(self, tmp_path: Path) -> None:
        data = audio_nam.lstm()
        data["metadata"] |= {"mode": "window", "frames": 7, "time_axes": "x", "receptive_field": 3, "prewarm_samples": -1}
        engine = Engine(convert(files.write(tmp_path / "amp.nam", data)))
        assert (engine.meta["mode"], engine.frames, engine.receptive_field) == ("frame", 1, None)
        assert engine.meta["prewarm_samples"] == 24000

    def test_metadata_cannot_talk_to_the_terminal(self, tmp_path: Path) -> None:
        data = audio_nam.lstm()
        data["metadata"] = {"name": "a\x1b[31m\ud800b", "x\x07": "y\n"}
        graph = convert(files.write(tmp_path / "amp.nam", data))
        assert graph.name == graph.meta["name"] == "a?[31m?b"
        assert graph.meta["x?"] == "y?"

    def test_load_takes_them_directly(self, tmp_path: Path) -> None:
        assert streamrnn.load(files.write(tmp_path / "amp.nam", audio_nam.wavenet())).name == "Test amp"

    def test_a_wavenet_says_how_far_it_looks_back(self, tmp_path: Path) -> None:
        engine = Engine(convert(files.write(tmp_path / "amp.nam", audio_nam.wavenet())))
        assert engine.receptive_field == 1 + 2 * (1 + 2 + 4) + 2 * (8 + 1)
