"""The command line as a user meets it: real processes, exit codes, stdout for data and stderr for talk, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_files as files
import pytest
import soundfile
from contract import floats
from onnx import helper as h
from onnx_files import F32
from streamrnn_converters import convert

from streamrnn import Engine, Stream, cli

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
AMP, VAD, SENSOR = (EXAMPLES / "models" / f"{name}.onnx" for name in ("amp", "vad", "sensor"))
READINGS = EXAMPLES / "audio" / "sensor_10hz.csv"
COMMAND = [sys.executable, "-c", "from streamrnn.cli import main; main()"]


def run(*args: object, stdin: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, args)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, env={**os.environ, **env})


def refused(*args: object, stdin: str | None = None) -> str:
    """The message of a command that must fail with exit code 1 and one clear error."""
    done = run(*args, stdin=stdin)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "streamrnn: error: " in done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def sensor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "sensor.srnn"
    done = run("convert", SENSOR, "-o", path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "validated: 200 steps" in done.stderr
    return path


@pytest.mark.parametrize("command", ["convert", "inspect", "lint", "validate", "run", "doctor", "bench", "warm", "demo"])
def test_every_command_has_help_with_examples(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert f"streamrnn {command}" in done.stdout
    assert "Examples" in done.stdout


def test_wrong_usage_exits_with_2() -> None:
    for args in (["run"], ["nothing"], ["inspect", "a", "b"], ["run", str(AMP), "x.wav"]):
        assert run(*args).returncode == 2


def test_warm_builds_what_a_later_load_reads(sensor: Path, tmp_path: Path) -> None:
    cache = {"STREAMRNN_CACHE": str(tmp_path / "cache")}
    said = [run("warm", sensor, **cache).stdout for _ in range(2)]
    assert "built in" in said[0]
    assert "already there" in said[1]
    assert all(str(tmp_path / "cache") in text for text in said)
    code = "import sys, streamrnn; print(streamrnn.load(sys.argv[1]).step.from_cache, 'llvmlite' in sys.modules)"
    command = [sys.executable, "-c", code, str(sensor)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **cache})
    assert done.stdout.split() == ["True", "False"]


def test_after_warm_a_pool_adds_nothing_to_the_cache(sensor: Path, tmp_path: Path) -> None:
    cache = {"STREAMRNN_CACHE": str(tmp_path / "cache")}
    assert run("warm", sensor, "--pool", 16, **cache).returncode == 0
    before = sorted(os.listdir(tmp_path / "cache"))
    code = "import sys, streamrnn; streamrnn.StreamPool(streamrnn.load(sys.argv[1]), 16)"
    subprocess.run([sys.executable, "-c", code, str(sensor)], check=True, env={**os.environ, **cache})
    assert sorted(os.listdir(tmp_path / "cache")) == before


def test_warm_prunes_on_request(tmp_path: Path) -> None:
    (tmp_path / "old.o").write_bytes(bytes(2_000_000))
    os.utime(tmp_path / "old.o", (0, 0))
    (tmp_path / "new.o").write_bytes(bytes(500_000))
    done = run("warm", "--prune", STREAMRNN_CACHE=str(tmp_path), STREAMRNN_CACHE_MB="1")
    assert "2.00 MB removed, 500.0 kB left" in done.stdout
    assert sorted(os.listdir(tmp_path)) == ["new.o"]
    assert run("warm").returncode == 2
    assert "whole number of megabytes" in run("warm", "--prune", STREAMRNN_CACHE_MB="much").stderr


def test_inspect_shows_the_state_map_on_stdout(sensor: Path) -> None:
    done = run("inspect", sensor, COLUMNS="200")
    assert done.returncode == 0
    for word in ("frame:", "forecast", "score", "gru/Y.h", "hidden", "ring", "streamify", "10 Hz"):
        assert word in done.stdout
    plan = run("inspect", sensor, "--plan").stdout.splitlines()
    assert any("gru(" in line for line in plan)


def test_inspect_can_show_what_states_become(sensor: Path) -> None:
    done = run("inspect", sensor, "--steps", 50, COLUMNS="220")
    assert "after 50 steps of noise" in done.stdout
    assert " .. " in next(line for line in done.stdout.splitlines() if "gru/Y.h " in line)


def test_inspect_shows_given_and_found_pairs_with_their_evidence(tmp_path: Path) -> None:
    nodes = [h.make_node("Add", ["x", s], [t], name=f"add_{s}") for s, t in (("p", "17"), ("q", "18"))]
    nodes.append(h.make_node("Add", ["17", "18"], ["y"], name="y"))
    typed = [[(n, F32, [1, 3]) for n in names] for names in (("x", "p", "q"), ("y", "17", "18"))]
    path = files.save(files.make(nodes, *typed), tmp_path)
    message = refused("inspect", path)
    assert "p float32[1, 3]: 17 or 18" in message
    assert "--pair p=17" in message
    done = run("inspect", path, "--pair", "p=18", COLUMNS="200")
    assert "given" in done.stdout
    assert "shape" in done.stdout


def test_run_from_csv_to_csv_is_the_stream(sensor: Path) -> None:
    done = run("run", sensor, READINGS)
    rows = np.loadtxt(done.stdout.splitlines(), delimiter=",", skiprows=1, dtype=np.float32)
    data = np.loadtxt(READINGS, delimiter=",", skiprows=1, dtype=np.float32)
    expected = Stream(Engine(convert(SENSOR))).process(data)
    assert isinstance(expected, dict)
    np.testing.assert_array_equal(rows, np.concatenate([expected["forecast"], expected["score"]], axis=1))


def test_run_answers_each_line_of_a_pipe_at_once(sensor: Path) -> None:
    command = [*COMMAND, "run", str(sensor), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().startswith("forecast.0,")
        for _ in range(3):
            process.stdin.write("20,30,2,0.5\n")
            process.stdin.flush()
            assert len(process.stdout.readline().split(",")) == 5
        process.stdin.close()
        assert process.wait() == 0


def test_a_reader_that_leaves_ends_the_command_quietly(sensor: Path) -> None:
    script = f"'{sys.executable}' -c 'from streamrnn.cli import main; main()' run {sensor} {READINGS} | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("forecast.0")
    assert done.stderr == ""


def test_run_from_wav_to_wav_keeps_rate_and_length(tmp_path: Path) -> None:
    done = run("run", AMP, EXAMPLES / "audio" / "guitar_48k.wav", "--set", "drive=0.5", "-o", tmp_path / "out.wav")
    assert done.returncode == 0, done.stderr
    out, rate = soundfile.read(tmp_path / "out.wav", dtype="float32")
    guitar, _ = soundfile.read(EXAMPLES / "audio" / "guitar_48k.wav", dtype="float32")
    assert rate == 48000
    frames = {"audio": guitar[:, None], "drive": np.full((len(guitar), 1), 0.5, np.float32)}
    np.testing.assert_array_equal(out, np.ravel(Stream(Engine(convert(AMP))).process(frames)))


def test_run_with_npy_and_npz(sensor: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", floats(1, 20, 4))
    assert run("run", sensor, tmp_path / "x.npy", "-o", tmp_path / "y.npz", "--steps", 15).returncode == 0
    with np.load(tmp_path / "y.npz") as result:
        assert {name: result[name].shape for name in result.files} == {"forecast": (15, 4), "score": (15, 1)}
    assert "outputs" in refused("run", sensor, tmp_path / "x.npy", "-o", tmp_path / "y.npy")


def test_a_wrong_sample_rate_is_a_choice_never_silently_made(tmp_path: Path) -> None:
    guitar = EXAMPLES / "audio" / "guitar_48k.wav"
    message = refused("run", VAD, guitar, "-o", tmp_path / "s.csv", "--steps", 10)
    assert "48000 Hz" in message
    assert "16000 Hz" in message
    assert "--rate-mismatch" in message
    done = run("run", VAD, guitar, "-o", tmp_path / "s.csv", "--steps", 10, "--rate-mismatch", "ignore")
    assert done.returncode == 0
    assert "as if they were the same" in done.stderr


def test_channels_have_to_be_chosen(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "two.wav", floats(1, 1600, 2, scale=0.1), 16000)
    assert "--channel" in refused("run", VAD, tmp_path / "two.wav", "-o", tmp_path / "s.csv")
    assert "no channel 5" in refused("run", VAD, tmp_path / "two.wav", "-o", tmp_path / "s.csv", "--channel", 5)
    assert run("run", VAD, tmp_path / "two.wav", "-o", tmp_path / "s.csv", "--channel", 1).returncode == 0


def test_nan_on_the_pipe_follows_the_policy(sensor: Path) -> None:
    lines = "20,30,2,0.5\n20,nan,2,0.5\n"
    assert "NaN" in refused("run", sensor, "-", "--on-nonfinite", "raise", stdin=lines)
    held = run("run", sensor, "-", "--on-nonfinite", "hold", stdin=lines)
    assert "nan" not in held.stdout
    assert "nan" in run("run", sensor, "-", stdin=lines).stdout


def test_validate_reports_as_table_json_and_page(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = run("validate", SENSOR, "--steps", 100, "--json", "-", "--report", page, "--input", READINGS)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == str(SENSOR)
    assert page.read_text().lstrip().lower().startswith("<!doctype html>")
    assert "PASSED" in run("validate", SENSOR, "--steps", 50).stdout


def test_convert_that_fails_validation_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sabotaged engine must not reach the disk."""
    from streamrnn_converters import importer

    def sabotaged(*args: object, **options: object) -> object:
        graph = convert(*args, **options)  # type: ignore[arg-type]
        return graph.replace(constants={n: a * 1.1 if a.dtype.kind == "f" else a for n, a in graph.constants.items()})

    monkeypatch.setattr(importer, "convert", sabotaged)
    monkeypatch.setattr("streamrnn_converters.convert", sabotaged)
    monkeypatch.setattr(sys, "argv", ["streamrnn", "convert", str(SENSOR), "-o", str(tmp_path / "out.srnn")])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 1
    assert os.listdir(tmp_path) == []


def test_doctor_says_what_is_there_and_lists_the_ops() -> None:
    health = json.loads(run("doctor", "--json").stdout)
    assert health["simd_bits"] >= 32
    assert health["parts"]["validation"]
    ops = run("doctor", "--ops").stdout.split()
    assert {"LSTM", "GRU", "RNN", "Conv", "Window", "com.microsoft.QLinearAdd"} <= set(ops)
    assert ops == sorted(ops)


def test_no_colour_when_nobody_wants_it(sensor: Path) -> None:
    assert "\x1b" not in run("inspect", sensor, NO_COLOR="1", FORCE_COLOR="").stdout


def damaged(folder: Path, sensor: Path) -> Sequence[tuple[Path, str]]:
    onnx, srnn = SENSOR.read_bytes(), sensor.read_bytes()
    cases = {
        "text.onnx": (b"hello world, this is no model", "not an ONNX file"),
        "empty.onnx": (b"", "empty"),
        "cut.onnx": (onnx[: len(onnx) // 2], "cut.onnx"),
        "pointer.onnx": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"),
        "cut.srnn": (srnn[: len(srnn) // 2], "not a readable .srnn file"),
        "altered.srnn": (srnn[:-1] + bytes([srnn[-1] ^ 1]), "altered"),
    }
    for name, (content, _) in cases.items():
        (folder / name).write_bytes(content)
    return [(folder / name, words) for name, (_, words) in cases.items()]


def test_each_kind_of_damaged_file_gets_one_clear_error(tmp_path: Path, sensor: Path) -> None:
    for path, words in damaged(tmp_path, sensor):
        assert words in refused("inspect", path)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["inspect", "missing.onnx"], "missing.onnx: there is no such file"),
        (["inspect", SENSOR, "--bind", "sr"], "NAME=VALUE"),
        (["inspect", SENSOR, "--bind", "sr=16000"], "no input has that name"),
        (["inspect", SENSOR, "--shape", "x=1,a"], "not understood"),
        (["inspect", SENSOR, "--mode", "sideways"], "auto, frame or window"),
        (["inspect", SENSOR, "--mode", "window"], "open"),
        (["inspect", SENSOR, "--pair", "x=nothing"], "no output 'nothing'"),
        (["inspect", SENSOR, "--time-axis", "x=7"], "3 dimensions"),
        (["run", SENSOR, "missing.csv"], "missing.csv: there is no such file"),
        (["run", SENSOR, READINGS, "--set", "gain=1"], "no input 'gain'"),
        (["run", AMP, EXAMPLES / "audio" / "guitar_48k.wav", "-o", "x.wav"], "--set NAME=VALUE"),
        (["run", SENSOR, READINGS, "--on-nonfinite", "panic"], "pass, raise, hold, reset"),
        (["convert", SENSOR, "-o", "/proc/nowhere/x.srnn"], "/proc/nowhere/x.srnn"),
    ],
)
def test_what_a_user_gets_wrong_is_answered_with_the_remedy(args: list[object], words: str) -> None:
    assert words in refused(*args)


def test_conversion_options_on_a_converted_file_are_an_error(sensor: Path) -> None:
    assert "belong to the conversion" in refused("inspect", sensor, "--mode", "window")
    assert "converted already" in refused("convert", sensor)
    assert "no oracle" in refused("validate", sensor)
