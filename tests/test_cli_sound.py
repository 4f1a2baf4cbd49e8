"""Audio model files on the command line, and `run` on sounds: rates are a choice, channels have states of their own, samples
keep their depth."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import audio_files as files
import audio_nam
import numpy as np
import pytest
import soundfile
from streamrnn_converters import convert

from streamrnn import Engine, Stream, cli
from streamrnn.rate import at_rate
from streamrnn.resample import resample

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def streamrnn(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run `streamrnn` in this process: exit code, stdout and stderr."""

    def run(*args: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["streamrnn", *map(str, args)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
        with pytest.raises(SystemExit) as leaving:
            cli.main()
        code = leaving.value.code
        return code if isinstance(code, int) else 0, "".join(capfd.readouterr())

    return run


@pytest.fixture
def command(streamrnn: Command) -> Command:
    """`streamrnn run`"""
    return partial(streamrnn, "run")


@pytest.fixture
def amp(tmp_path: Path) -> Path:
    return files.write(tmp_path / "amp.nam", audio_nam.lstm(1))


def sine(frames: int = 2000, rate: int = 48000, channels: int = 1) -> Any:
    t = np.arange(frames)[:, None] / rate
    return (0.4 * np.sin(2 * np.pi * 220 * np.arange(1, channels + 1) * t)).astype(np.float32)


def through(engine: Engine, x: Any) -> Any:
    return Stream(engine).process(np.ascontiguousarray(x).reshape(-1, 1))


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_samples_of_every_depth_are_read(command: Command, amp: Path, tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "in.wav", sine(), 48000, subtype=subtype)
    assert command(amp, tmp_path / "in.wav", "-o", tmp_path / "out.wav")[0] == 0
    x, _ = soundfile.read(tmp_path / "in.wav", dtype="float32")
    out, rate = soundfile.read(tmp_path / "out.wav", dtype="float32", always_2d=True)
    assert rate == 48000
    np.testing.assert_array_equal(out, through(Engine(convert(amp)), x))


@pytest.mark.parametrize(("bits", "subtype"), [("16", "PCM_16"), ("24", "PCM_24"), ("float", "FLOAT")])
def test_results_have_the_depth_that_was_asked_for(
    command: Command, amp: Path, tmp_path: Path, bits: str, subtype: str
) -> None:
    soundfile.write(tmp_path / "in.wav", sine(), 48000)
    assert command(amp, tmp_path / "in.wav", "-o", tmp_path / "out.wav", "--bits", bits)[0] == 0
    assert soundfile.info(tmp_path / "out.wav").subtype == subtype


def test_what_does_not_fit_into_whole_samples_is_told(command: Command, tmp_path: Path) -> None:
    data = files.aidax(out_gain=60.0)
    soundfile.write(tmp_path / "in.wav", sine(), 48000)
    code, err = command(
        files.write(tmp_path / "loud.json", data), tmp_path / "in.wav", "-o", tmp_path / "out.wav", "--bits", 16
    )
    assert code == 0
    assert "beyond full scale" in err


def test_each_channel_has_a_state_of_its_own(command: Command, amp: Path, tmp_path: Path) -> None:
    stereo = sine(channels=2)
    soundfile.write(tmp_path / "in.wav", stereo, 48000, subtype="FLOAT")
    code, err = command(amp, tmp_path / "in.wav", "-o", tmp_path / "out.wav")
    assert code == 0
    assert "2 channels" in err
    out, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    engine = Engine(convert(amp))
    for k in range(2):
        np.testing.assert_array_equal(out[:, k], through(engine, stereo[:, k])[:, 0])


def test_one_channel_of_several_can_be_chosen(command: Command, amp: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", sine(channels=2), 48000, subtype="FLOAT")
    assert command(amp, tmp_path / "in.wav", "-o", tmp_path / "out.wav", "--channel", 1)[0] == 0
    assert soundfile.info(tmp_path / "out.wav").channels == 1
    assert "--channel" in command(amp, tmp_path / "in.wav", "-o", tmp_path / "out.csv")[1]


def test_a_model_of_several_channels_takes_them_at_once(command: Command, tmp_path: Path) -> None:
    config = {"receptive_field": 5, "bias": True, "in_channels": 2, "out_channels": 2}
    model = files.write(tmp_path / "ir.nam", audio_nam.file("Linear", config))
    stereo = sine(channels=2)
    soundfile.write(tmp_path / "in.wav", stereo, 48000, subtype="FLOAT")
    assert command(model, tmp_path / "in.wav", "-o", tmp_path / "out.wav")[0] == 0
    out, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    np.testing.assert_array_equal(out, Stream(Engine(convert(model))).process(stereo))  # type: ignore[arg-type]
    soundfile.write(tmp_path / "mono.wav", sine(), 48000)
    assert "takes 2 at once" in command(model, tmp_path / "mono.wav", "-o", tmp_path / "out.wav")[1]


class TestRates:
    @pytest.fixture
    def fast(self, tmp_path: Path) -> Path:
        soundfile.write(tmp_path / "fast.wav", sine(4000, 96000), 96000, subtype="FLOAT")
        return tmp_path / "fast.wav"

    def test_another_rate_than_the_model_s_has_to_be_answered(self, command: Command, amp: Path, fast: Path) -> None:
        code, err = command(amp, fast, "-o", fast.with_name("out.wav"))
        assert code == 1
        for words in ("96000 Hz", "48000 Hz", "--rate-mismatch", "resample", "delay", "ignore"):
            assert words in err
        assert not fast.with_name("out.wav").exists()

    def test_resample_goes_to_the_model_s_rate_and_back(self, command: Command, amp: Path, fast: Path) -> None:
        assert command(amp, fast, "-o", fast.with_name("out.wav"), "--rate-mismatch", "resample")[0] == 0
        out, rate = soundfile.read(fast.with_name("out.wav"), dtype="float32", always_2d=True)
        inside = through(Engine(convert(amp)), resample(sine(4000, 96000), 96000, 48000))
        assert (rate, len(out)) == (96000, 4000)
        np.testing.assert_array_equal(out, resample(inside, 48000, 96000))

    def test_resample_to_a_table_stays_at_the_model_s_rate(self, command: Command, amp: Path, fast: Path) -> None:
        assert command(amp, fast, "-o", fast.with_name("out.npy"), "--rate-mismatch", "resample")[0] == 0
        assert len(np.load(fast.with_name("out.npy"))) == 2000

    def test_delay_reads_the_state_a_trained_sample_back(self, command: Command, amp: Path, fast: Path) -> None:
        code, err = command(amp, fast, "-o", fast.with_name("out.wav"), "--rate-mismatch", "delay")
        assert code == 0
        assert "2 samples back" in err
        out, _ = soundfile.read(fast.with_name("out.wav"), dtype="float32", always_2d=True)
        np.testing.assert_array_equal(out, through(Engine(at_rate(convert(amp), 2.0)), sine(4000, 96000)))

    def test_delay_works_on_a_converted_file(self, command: Command, amp: Path, fast: Path, tmp_path: Path) -> None:
        Engine(convert(amp)).save(tmp_path / "amp.srnn")
        assert command(tmp_path / "amp.srnn", fast, "-o", tmp_path / "out.wav", "--rate-mismatch", "delay")[0] == 0

    def test_ignore_warns(self, command: Command, amp: Path, fast: Path) -> None:
        code, err = command(amp, fast, "-o", fast.with_name("out.wav"), "--rate-mismatch", "ignore")
        assert code == 0
        assert "as if they were the same" in err
        out, _ = soundfile.read(fast.with_name("out.wav"), dtype="float32", always_2d=True)
        np.testing.assert_array_equal(out, through(Engine(convert(amp)), sine(4000, 96000)))

    def test_a_file_that_names_no_rate_is_told_and_can_be_given_one(self, command: Command, fast: Path) -> None:
        model = files.write(fast.with_name("amp.json"), files.guitarml())
        assert "does not say at which rate" in command(model, fast, "-o", fast.with_name("out.wav"))[1]
        args = (model, fast, "-o", fast.with_name("out.wav"), "--model-rate", 48000)
        assert "--rate-mismatch" in command(*args)[1]
        assert command(*args, "--rate-mismatch", "delay")[0] == 0

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (["--rate-mismatch", "hope"], "resample, delay, ignore"),
            (["--model-rate", 44100], "the file says 48000 Hz"),
            (["--bits", 12], "16, 24 or float"),
        ],
    )
    def test_wrong_answers_are_refused(self, command: Command, amp: Path, fast: Path, args: list[object], words: str) -> None:
        code, err = command(amp, fast, "-o", fast.with_name("out.wav"), *args)
        assert code == 1
        assert words in err

    def test_rates_belong_to_sound_files(self, command: Command, amp: Path, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", sine(50))
        assert "belong to .wav" in command(amp, tmp_path / "x.npy", "-o", tmp_path / "y.npy", "--rate-mismatch", "delay")[1]
        assert "no sample rate" in command(amp, tmp_path / "x.npy", "-o", tmp_path / "y.wav")[1]

    def test_delay_is_for_recurrent_models_and_higher_rates(
        self, command: Command, fast: Path, tmp_path: Path, amp: Path
    ) -> None:
        net = files.write(tmp_path / "net.nam", audio_nam.wavenet())
        assert "recurrent" in command(net, fast, "-o", tmp_path / "o.wav", "--rate-mismatch", "delay")[1]
        soundfile.write(tmp_path / "slow.wav", sine(1000, 24000), 24000)
        assert "0.5 times" in command(amp, tmp_path / "slow.wav", "-o", tmp_path / "o.wav", "--rate-mismatch", "delay")[1]


class TestModelFiles:
    def test_inspect_shows_rate_levels_and_gains(self, streamrnn: Command, amp: Path, tmp_path: Path) -> None:
        code, text = streamrnn("inspect", amp)
        assert code == 0
        for words in ("48000 Hz", "NAM LSTM (file version 0.5.4)", "-20.5", "18.3", "Test amp", "prewarm samples", "24000"):
            assert words in text
        code, text = streamrnn("inspect", files.write(tmp_path / "a.json", files.aidax(in_gain=-3.0, out_gain=2.5)))
        assert "in gain db" in text
        assert "-3.0" in text
        assert "out gain db" in text

    def test_convert_validates_against_the_formula_and_writes(self, streamrnn: Command, amp: Path) -> None:
        code, text = streamrnn("convert", amp, "--prewarm", "--steps", 50)
        assert code == 0
        assert "largest difference from the float64 formula" in text
        assert amp.with_suffix(".srnn").exists()
        assert "24000" in streamrnn("inspect", amp.with_suffix(".srnn"))[1]

    def test_a_file_that_fails_its_own_test_is_not_written(self, streamrnn: Command, tmp_path: Path) -> None:
        data = files.aidax(input_batch=[0.1] * 20, output_batch=[0.5] * 20)
        path = files.write(tmp_path / "amp.json", data)
        code, text = streamrnn("convert", path, "--steps", 20)
        assert code == 1
        assert "nothing was written" in text
        assert "file's own" in " ".join(text.split())
        assert not path.with_suffix(".srnn").exists()

    def test_validate_takes_them_directly(self, streamrnn: Command, amp: Path, tmp_path: Path) -> None:
        code, text = streamrnn("validate", amp, "--steps", 40, "--report", tmp_path / "report.html")
        assert code == 0
        assert "PASSED" in text
        assert "the float64 formula" in (tmp_path / "report.html").read_text()

    def test_a_topology_is_given_on_the_command_line(self, streamrnn: Command, tmp_path: Path) -> None:
        state, layers = files.torch_state()
        path = files.write(tmp_path / "state.json", state)
        assert "--layers conv,wide" in streamrnn("inspect", path)[1]
        code, text = streamrnn("inspect", path, "--layers", layers)
        assert code == 0
        assert "not in --layers, so left out: spare" in text
