"""What the command line does with files and options that are not what they should be: one clear error, nothing lost."""

from __future__ import annotations

import ast
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_files as files
import onnxruntime
import pytest
import soundfile
import typer
from onnx import helper as h
from onnx_files import F32, I64

from streamrnn import cli

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
AMP, VAD, SENSOR = (EXAMPLES / "models" / f"{name}.onnx" for name in ("amp", "vad", "sensor"))
READINGS = EXAMPLES / "audio" / "sensor_10hz.csv"
COMMAND = [sys.executable, "-c", "from streamrnn.cli import main; main()"]

Command = Callable[..., tuple[int, str, str]]
Refused = Callable[..., str]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run the command in this process: exit code, stdout, stderr."""

    def run(*args: object, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["streamrnn", *map(str, args)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as leaving:
            cli.main()
        code = leaving.value.code
        return code if isinstance(code, int) else 0, *capfd.readouterr()

    return run


@pytest.fixture
def refused(command: Command) -> Refused:
    """The one line of a command that must fail before it has any result."""

    def run(*args: object, stdin: bytes = b"") -> str:
        code, out, err = command(*args, stdin=stdin)
        assert code == 1, err
        assert out == "" or stdin
        said = [line for line in err.splitlines() if "streamrnn: error: " in line]
        assert len(said) == 1, err
        return said[0]

    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x [1, 3] and the integer k [1, 1] -> s = x + k + s: a step model without weights."""
    nodes = [
        h.make_node("Cast", ["k"], ["kf"], to=F32, name="cast"),
        h.make_node("Sum", ["x", "kf", "s"], ["s_out"], name="sum"),
        h.make_node("Neg", ["s_out"], ["y"], name="neg"),
    ]
    inputs = [("x", F32, [1, 3]), ("k", I64, [1, 1]), ("s", F32, [1, 3])]
    outputs = [("y", F32, [1, 3]), ("s_out", F32, [1, 3])]
    return files.save(files.make(nodes, inputs, outputs), tmp_path_factory.mktemp("model"))


# -- where results go -----------------------------------------------------------------------------------------------


def test_dev_stdout_is_stdout(model: Path) -> None:
    done = subprocess.run([*COMMAND, "convert", model, "-o", "/dev/stdout"], capture_output=True, check=True)
    assert b"streamrnn" in done.stdout[:4000]
    assert Path("/dev/stdout").is_symlink()


def test_no_command_overwrites_what_it_reads(tmp_path: Path, refused: Refused, model: Path) -> None:
    own = tmp_path / "m.onnx"
    before = model.read_bytes()
    own.write_bytes(before)
    readings = tmp_path / "x.csv"
    readings.write_text("1,2,3\n")
    (tmp_path / "alias.srnn").symlink_to(own)
    (tmp_path / "hard.csv").hardlink_to(readings)
    for args in (
        ("convert", own, "-o", own),
        ("convert", own, "-o", tmp_path / "alias.srnn"),
        ("convert", own, "-o", tmp_path / "." / "m.onnx"),
        ("run", own, readings, "--set", "k=0", "-o", readings),
        ("run", own, readings, "--set", "k=0", "-o", tmp_path / "hard.csv"),
        ("run", own, readings, "--set", "k=0", "-o", own),
        ("run", own, "-", "--set", "k=0", "-o", own),
        ("validate", own, "--json", own),
        ("validate", own, "--report", own),
        ("validate", own, "--input", readings, "--report", readings),
        ("bench", own, "--json", own),
    ):
        assert "overwrite" in refused(*args)
    assert own.read_bytes() == before
    assert readings.read_text() == "1,2,3\n"


def test_a_result_that_could_not_be_written_is_refused_before_the_work(tmp_path: Path, refused: Refused, model: Path) -> None:
    run = ("run", SENSOR, READINGS, "-o")
    assert "no such folder" in refused(*run, tmp_path / "missing" / "y.csv")
    assert ".npz" in refused(*run, tmp_path / "y.xyz")
    assert "outputs" in refused(*run, tmp_path / "y.npy")
    assert "-o FILE.csv" in refused("run", model, "-", "--set", "k=0", "-o", tmp_path / "y.npz")
    (tmp_path / "folder.csv").mkdir()
    assert "Is a directory" in refused(*run, tmp_path / "folder.csv")


def test_answers_to_stdin_can_go_to_a_file(tmp_path: Path, model: Path, command: Command) -> None:
    out = tmp_path / "y.csv"
    code, said, _ = command("run", model, "-", "--set", "k=1", "-o", out, stdin=b"a;b;c\n1;2;3\n")
    assert (code, said) == (0, "")
    assert out.read_text() == "y.0,y.1,y.2\n-2,-3,-4\n"


# -- csv ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"1;2;3\n4;5;6\n", 2),
        (b"1,2,3\r\n\r\n4,5,6\r\n", 2),
        (b"a,b,c\n1,2,3\n", 1),
        (b"\n_a;b;c\n1;2;3\n", 1),
        (b"\xef\xbb\xbf1,2,3\n", 1),
        (b"\xef\xbb\xbfa,b,c\n1,2,3\n", 1),
        (b'"1","2"," 3"\n', 1),
        (b"nan,inf,3\n", 1),
    ],
)
def test_every_line_of_numbers_is_one_frame(tmp_path: Path, model: Path, command: Command, content: bytes, rows: int) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    code, out, err = command("run", model, tmp_path / "x.csv", "--set", "k=0")
    assert code == 0, err
    assert len(out.splitlines()) == 1 + rows
    assert command("run", model, "-", "--set", "k=0", stdin=content)[:2] == (0, out)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"1,2,3\n4,,6\n", "line 2, column 2"),
        (b",2,3\n", "line 1, column 1"),
        (b"1,2,\n", "line 1, column 3"),
        (b",,\n1,2,3\n", "line 1, column 1"),
        (b"a,b,c\n1,2\n", "line 2 has 2 numbers"),
        (b"1,2,3\nx,2,3\n", "line 2, column 1: 'x'"),
        (b"1,5;2,5;3,5\n", "'1,5' is not a number"),
        (b"1,2,1e39\n", r"1e\+39 does not fit"),
        (b"1,2,3\n1,2,\xff\n", "line 2, column 3|UTF-8"),
        ("1,2,3\n".encode("utf-16"), "line 1|UTF-8"),
    ],
)
def test_a_line_that_is_no_frame_is_refused_with_its_number(
    tmp_path: Path, model: Path, refused: Refused, content: bytes, words: str
) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    assert re.search(words, refused("run", model, tmp_path / "x.csv", "--set", "k=0"))
    assert re.search(words, refused("run", model, "-", "--set", "k=0", stdin=content))


def test_integers_are_not_cut_and_not_rounded(tmp_path: Path, model: Path, refused: Refused) -> None:
    (tmp_path / "x.csv").write_text("1,2,3\n")
    for value in ("0.5", "nan", "1e300"):
        assert "does not fit input 'k'" in refused("run", model, tmp_path / "x.csv", "--set", f"k={value}")


# -- arrays and sound -----------------------------------------------------------------------------------------------


def saved(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def single(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


FRAMES = np.zeros((5, 3), np.float32)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.npy", single(np.array([{}, 1], object)), "Object arrays"),
        ("x.npz", saved(x=np.array([{}, 1], object)), "Object arrays"),
        ("x.npz", saved(y=FRAMES), "takes"),
        ("x.npz", saved(), "not one frame"),
        ("x.npz", saved(x=np.float32(3)), "not one frame"),
        ("x.npz", saved(x=FRAMES, k=np.zeros((5, 1), np.int64)), "--set k"),
        ("x.npz", saved(x=FRAMES.astype(np.complex64)), "complex64"),
        ("x.npz", saved(x=np.full((5, 3), "a")), "U1"),
        ("x.npz", saved(x=FRAMES[:, :2]), "shape"),
        ("x.npz", saved(x=FRAMES)[:150], "not a readable .npz"),
        ("x.npz", saved(x=FRAMES)[:100] + b"\xff" + saved(x=FRAMES)[101:], "not a readable .npz"),
        ("x.npz", single(FRAMES), "whatever its name says"),
        ("x.npy", saved(x=FRAMES), "whatever its name says"),
        ("x.npy", single(FRAMES)[:-20], "not a readable .npy"),
        ("x.npy", b"junk", "not a readable .npy"),
        ("x.npy", single(FRAMES[:0]), "not one frame"),
        ("x.npy", b"", "not a readable .npy"),
        ("x.npz", b"", "not a readable .npz"),
        ("x.npz", b"PK\x03\x04junk", "not a readable .npz"),
        ("x.csv", b"", "not one frame"),
        ("x.csv", b"a,b,c\n", "not one frame"),
        ("x.wav", b"", "not a readable sound file"),
        ("x.wav", b"RIFF0000junk", "not a readable sound file"),
        ("x.xyz", b"", "signals are read from"),
    ],
)
def test_a_signal_that_is_none_is_refused(
    tmp_path: Path, model: Path, refused: Refused, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert words in refused("run", model, tmp_path / name, "--set", "k=0", "-o", "-")


def test_inputs_of_different_length_are_refused_before_the_first_answer(tmp_path: Path, model: Path, refused: Refused) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((5000, 3), np.float32), k=np.zeros((4999, 1), np.int64))
    assert "different numbers of steps" in refused("run", model, tmp_path / "x.npz", "-o", "-")


def test_a_held_input_joins_the_arrays_of_an_archive(tmp_path: Path, model: Path, command: Command) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((2, 3), np.float32))
    code, out, _ = command("run", model, tmp_path / "x.npz", "--set", "k=4", "-o", "-")
    assert code == 0
    assert out.splitlines()[1:] == ["-5,-5,-5", "-10,-10,-10"]


def test_folders_and_sounds_without_samples_are_refused(tmp_path: Path, model: Path, refused: Refused) -> None:
    for name in ("d.csv", "d.npy", "d.npz", "d.onnx", "d.srnn"):
        (tmp_path / name).mkdir()
    for name in ("d.csv", "d.npy", "d.npz"):
        assert "Is a directory" in refused("run", model, tmp_path / name, "--set", "k=0", "-o", "-")
    for name in ("d.onnx", "d.srnn"):
        assert name in refused("inspect", tmp_path / name)
    soundfile.write(tmp_path / "none.wav", np.zeros(0, np.float32), 16000)
    assert "not one frame" in refused("run", VAD, tmp_path / "none.wav", "-o", tmp_path / "y.csv")


# -- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--shape", "x="], "not understood"),
        (["--shape", "x=1,,2"], "not understood"),
        (["--shape", "x=-1,1,4"], "sizes are whole numbers"),
        (["--shape", "x=99999999999999999999,1,4"], "sizes are whole numbers"),
        (["--shape", "=1"], "NAME=VALUE"),
        (["--shape", "x=1,5,4", "--shape", "x=1,6,4"], "given twice"),
        (["--pair", "x"], "NAME=VALUE"),
        (["--pair", "x=y[a:b]"], "no output 'y[a:b]'"),
        (["--pair", "x=score[0:99999999999999999999]"], "rows 0:"),
        (["--bind", "x="], "not understood"),
        (["--bind", "x=1,2,a"], "not understood"),
        (["--bind", "x=99999999999999999999999"], "does not fit"),
        (["--time-axis", "x=a"], "not understood"),
        (["--time-axis", "x=99"], "has 3 dimensions"),
        (["--time-axis", "z=1"], "no live input"),
        (["--outputs", "nothing"], "not among the outputs"),
        (["--outputs", ","], "not among the outputs"),
    ],
)
def test_a_malformed_option_is_answered_once_with_the_reason(refused: Refused, args: list[str], words: str) -> None:
    said = refused("inspect", SENSOR, *args)
    assert words in said
    assert said.count(words) == 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--set", "drive=abc"], "'abc' is not understood"),
        (["--set", "drive"], "NAME=VALUE"),
        (["--set", "=3"], "NAME=VALUE"),
        (["--set", "drive=1", "--set", "drive=2"], "given twice"),
        (["--set", "drive=1", "--set", "audio=2"], "none is left"),
        (["--set", "gain=1"], "no input 'gain'"),
    ],
)
def test_a_malformed_knob_is_refused(refused: Refused, tmp_path: Path, args: list[str], words: str) -> None:
    guitar = EXAMPLES / "audio" / "guitar_48k.wav"
    assert words in refused("run", AMP, guitar, "-o", tmp_path / "y.wav", *args)


def test_validate_takes_signals_with_held_inputs_and_channels(tmp_path: Path, command: Command) -> None:
    stereo = np.random.default_rng(0).uniform(-0.1, 0.1, (50, 2))
    soundfile.write(tmp_path / "two.wav", stereo, 48000)
    args = ("validate", AMP, "--steps", 8, "--input", tmp_path / "two.wav", "--set", "drive=0.5", "--channel", 1)
    code, out, err = command(*args)
    assert code == 0, err
    assert "given" in out


def commands() -> dict[str, set[str]]:
    """The options of each command."""
    group = typer.main.get_command(cli.app)
    assert isinstance(group, typer.core.TyperGroup)
    return {
        name: {"--help"} | {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for name, command in group.commands.items()
    }


def test_every_option_that_a_message_names_exists() -> None:
    """In the command that says it, where one command alone does; else in one at least."""
    known = commands()
    where = {"signals.py": ("run", "validate"), "run.py": ("run",), "demo.py": ("demo",), "convert.py": ("convert",)}
    seen = 0
    for path in [*(ROOT / "streamrnn").rglob("*.py"), *(ROOT / "converters").rglob("*.py")]:
        if path.name == "page.py":  # CSS has names of that form
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
                continue
            for option in re.findall(r"(?<![\w,-])--[a-z][a-z-]+", node.value):
                seen += 1
                for name in where.get(path.name, ()):
                    assert option in known[name], f"{path.name}: {node.value!r}"
                assert any(option in options for options in known.values()), f"{path.name}: {node.value!r}"
    assert seen > 30


# -- pipes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [["doctor", "--json"], ["inspect", str(SENSOR)], ["run", str(SENSOR), str(READINGS)]])
def test_a_closed_or_full_stdout_ends_quietly_or_with_one_line(args: list[str]) -> None:
    subprocess.run([*COMMAND, *args], capture_output=True, check=True)  # an empty cache would have something to say
    read, write = os.pipe()
    os.close(read)
    closed = subprocess.run([*COMMAND, *args], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (closed.returncode, closed.stderr) == (1, "")
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, *args], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == "streamrnn: error: No space left on device"


def test_stdin_without_a_line_is_an_empty_answer_and_closed_stdin_an_error(model: Path) -> None:
    command = [*COMMAND, "run", str(model), "-", "--set", "k=0"]
    empty = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert empty.stdout == "y.0,y.1,y.2\n"
    closed = subprocess.run(["bash", "-c", '"$@" <&-', "x", *command], capture_output=True, text=True, check=False)
    assert closed.returncode == 1
    assert "stdin is closed" in closed.stderr


def test_bench_says_what_onnxruntime_says(model: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **options: object) -> object:
        raise RuntimeError("kernel not found")

    monkeypatch.setattr(onnxruntime, "InferenceSession", broken)
    assert "onnxruntime cannot run the file: kernel not found" in refused("bench", model, "--against", "onnxruntime")
