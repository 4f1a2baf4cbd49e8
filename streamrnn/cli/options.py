"""Options that several commands share, and how their texts become values."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from streamrnn.engine import Engine, load
from streamrnn.errors import BindingError, InputError, ModelFileError

Model = Annotated[
    Path,
    typer.Argument(
        help="Model file: .onnx, .nam, .json (AIDA-X, GuitarML, RTNeural), or .srnn from `streamrnn convert`.",
        show_default=False,
    ),
]
Held = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Hold an input of the signal: drive=0.7.")]
Channel = Annotated[int | None, typer.Option(help="Channel of a sound file, from 0.")]
#: option -> (type, default), in the order of `--help`
_SHARED: dict[str, tuple[Any, Any]] = {
    "mode": (
        Annotated[str, typer.Option(help="auto, frame (one step is one frame) or window (one step is one call of the file).")],
        "auto",
    ),
    "bind": (
        Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Fix an input to a constant: sr=16000.")],
        None,
    ),
    "shape": (Annotated[list[str] | None, typer.Option(metavar="NAME=N,...", help="Fix open dimensions: input=1,512.")], None),
    "pair": (
        Annotated[
            list[str] | None,
            typer.Option(metavar="IN=OUT", help="Next value of a state: state=stateN, h=packed[0:1]; `x=` for no state."),
        ],
        None,
    ),
    "time_axis": (
        Annotated[list[str] | None, typer.Option(metavar="NAME=AXIS", help="Which axis of an input is time: x=1.")],
        None,
    ),
    "lookahead": (
        Annotated[int, typer.Option(min=0, help="Frames per chunk for models that are bidirectional over time.")],
        0,
    ),
    "outputs": (Annotated[str, typer.Option(metavar="A,B", help="Import these outputs of the file alone.")], ""),
    "fix": (
        Annotated[str, typer.Option(metavar="CODE,...|all", help="Repair what `streamrnn lint` finds under these codes.")],
        "",
    ),
    "layers": (
        Annotated[str, typer.Option(metavar="A,B", help="Modules of a PyTorch state_dict (.json) in order: gru,tanh,dense.")],
        "",
    ),
    "prewarm": (
        Annotated[bool, typer.Option("--prewarm", help="Audio models: start as their own player does, after silence.")],
        False,
    ),
    "weights": (
        Annotated[str, typer.Option(metavar="f32|f16|int8|auto", help="How weights are stored: fewer bytes are faster.")],
        "f32",
    ),
}

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Conversion:
    """What the user said about the import of a model."""

    mode: str = "auto"
    bind: Sequence[str] = ()
    shape: Sequence[str] = ()
    pair: Sequence[str] = ()
    time_axis: Sequence[str] = ()
    lookahead: int = 0
    outputs: str = ""
    fix: str = ""
    layers: str = ""
    prewarm: bool = False
    weights: str = "f32"

    def keywords(self) -> dict[str, Any]:
        """Arguments of `streamrnn_converters.convert`, those that were given alone. Raises BindingError."""
        found: dict[str, Any] = {}
        if self.mode != "auto":
            if self.mode not in ("frame", "window"):
                raise BindingError(f"--mode {self.mode}: it is auto, frame or window")
            found["mode"] = self.mode
        if self.bind:
            found["bind"] = pairs("--bind", self.bind, _numbers, "numbers (sr=16000)")
        if self.shape:
            found["shape"] = pairs("--shape", self.shape, _sizes, "whole numbers (input=1,512)")
        if self.pair:
            found["pair"] = pairs("--pair", self.pair, str, "an output (state=stateN)")
        if self.time_axis:
            found["time_axis"] = pairs("--time-axis", self.time_axis, int, "a whole number (x=1)")
        if self.lookahead:
            found["lookahead"] = self.lookahead
        if self.outputs:
            found["outputs"] = [name.strip() for name in self.outputs.split(",")]
        if self.fix:
            found["fix"] = [code.strip() for code in self.fix.split(",")]
        if self.layers:
            found["layers"] = self.layers
        if self.prewarm:
            found["prewarm"] = True
        if self.weights != "f32":
            found["weights"] = self.weights
        return found


def takes_conversion(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that has a parameter `how: Conversion` the options of an import in its place."""

    def wrapped(**given: Any) -> None:
        shared: dict[str, Any] = {name: given.pop(name) for name in _SHARED}
        command(how=Conversion(**{name: value for name, value in shared.items() if value is not None}), **given)

    hints = get_type_hints(command, include_extras=True)
    own = inspect.signature(command).parameters.values()
    params = [p.replace(annotation=hints[p.name], kind=p.KEYWORD_ONLY) for p in own if p.name != "how"]
    params += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in _SHARED.items()
    ]
    wrapped.__signature__ = inspect.Signature(params)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in params}
    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    return wrapped


def open_engine(model: Path, how: Conversion, notify: Callable[[str], None]) -> Engine:
    """The engine of a model file. Raises StreamRNNError."""
    if not model.exists():
        raise ModelFileError(f"{model}: there is no such file")
    return load(model, notify, **how.keywords())


def pairs(option: str, texts: Sequence[str], value: Callable[[str], _Value], what: str) -> dict[str, _Value]:
    """{"sr": 16000} from ["sr=16000"]; `what` says what stands behind the name. Raises BindingError."""
    found: dict[str, _Value] = {}
    for text in texts:
        name, equals, rest = text.partition("=")
        if not equals or not name:
            raise BindingError(f"{option} {text}: it has the form NAME=VALUE")
        if name in found:
            raise BindingError(f"{option} {text}: '{name}' is given twice")
        try:
            found[name] = value(rest)
        except ValueError:
            raise BindingError(f"{option} {text}: '{rest}' is not understood; it takes {what}") from None
    return found


def spare(output: str | Path | None, *sources: str | Path | None) -> None:
    """InputError where writing `output` would overwrite one of the files that a command reads."""
    for source in sources:
        if output and source and os.path.exists(output) and os.path.exists(source) and os.path.samefile(output, source):
            raise InputError(f"{output}: this would overwrite what the command reads; give the result another name")


def _numbers(text: str) -> Any:
    values = [float(part) if any(c in part for c in ".eEnN") else int(part) for part in text.split(",")]
    return values[0] if len(values) == 1 else values


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))
