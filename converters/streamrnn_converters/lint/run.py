"""Lint of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from streamrnn.errors import StreamRNNError, UnsupportedError
from streamrnn_converters.audio import is_audio
from streamrnn_converters.importer import findings
from streamrnn_converters.lint.rules import Finding
from streamrnn_converters.onnx.reader import read_model
from streamrnn_converters.options import Mode, Options


def lint(
    path: str | Path,
    *,
    mode: Mode = "auto",
    bind: Mapping[str, object] | None = None,
    shape: Mapping[str, Sequence[int]] | None = None,
    pair: Mapping[str, str] | None = None,
    time_axis: Mapping[str, int] | None = None,
    lookahead: int = 0,
    outputs: Sequence[str] | None = None,
) -> tuple[list[Finding], StreamRNNError | None]:
    """What is suspicious in an ONNX file, and what speaks against its conversion (None where nothing does; else only findings
    that need no types are there). The options are those of `convert`.

    Raises ModelFileError, UnsupportedError where the file cannot even be read.
    """
    if is_audio(Path(path)):
        raise UnsupportedError(f"{path}: lint looks at ONNX files; whatever is wrong with an audio model, reading it says")
    options = Options(mode, bind or {}, shape or {}, pair or {}, time_axis or {}, lookahead, outputs)
    return findings(read_model(path), options)
