"""Audio model formats: NAM, AIDA-X, GuitarML and RTNeural JSON, each recognised by what is in the file.

read      one file per format: JSON -> AudioModel (`model`): checked, with the weights in a layout that is named
build     AudioModel -> a typed sequence Graph, then the passes of every import
oracle    AudioModel -> what it computes, in float64 NumPy from the formula, for `validate`
"""

from __future__ import annotations

from pathlib import Path

from streamrnn.errors import ModelFileError
from streamrnn_converters.audio._json import Fields, read_json, shown
from streamrnn_converters.audio.aidax import is_aidax, read_aidax
from streamrnn_converters.audio.guitarml import read_guitarml
from streamrnn_converters.audio.model import AudioModel
from streamrnn_converters.audio.nam import read_nam
from streamrnn_converters.audio.notes import plain
from streamrnn_converters.audio.rtneural import read_rtneural
from streamrnn_converters.audio.torch_state import is_state_dict, read_state_dict

SUFFIXES = (".json", ".nam", ".aidax")


def is_audio(path: Path) -> bool:
    """Whether a file is meant to be one of these formats: by its name, or because it begins as JSON does."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"
    except OSError:
        return False


def read_audio(path: Path, layers: str = "") -> AudioModel:
    """The model in a file.

    layers: the topology of a PyTorch state_dict (see `torch_state`); refused for the other formats.

    Raises ModelFileError; BindingError where `layers` is missing, does not fit or does not belong here.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise ModelFileError(f"{path}: holds {shown(value)}, not a model; NAM, AIDA-X, GuitarML and RTNeural JSON are known")
    data, name = Fields(value, str(path)), plain(path.stem)
    if is_state_dict(value):
        return read_state_dict(data, name, layers)
    if layers:
        raise ModelFileError(f"{path}: --layers says how a bare PyTorch state_dict is connected; this file says it itself")
    if "architecture" in value and "config" in value:
        return read_nam(data, name)
    if "model_data" in value and "state_dict" in value:
        return read_guitarml(data, name)
    if "in_shape" in value and "layers" in value:
        return read_aidax(data, name) if is_aidax(value) else read_rtneural(data, name)
    raise ModelFileError(
        f"{path}: none of the known formats: NAM has 'architecture' and 'config', GuitarML 'model_data' and 'state_dict', "
        f"AIDA-X and RTNeural 'in_shape' and 'layers'; found {shown(sorted(value))}"
    )
