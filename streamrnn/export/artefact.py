"""`export_model`: the folder of files that a model becomes for another machine.

model.o  libNAME.a  model.h  main.c  NAME.json  README.md       always
libNAME.so  NAME.py                                             for Linux; NAME.wasm for WebAssembly
NAME.weights                                                    where the weights are to lie in a file
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from streamrnn import __version__
from streamrnn.codegen.exported import FORMAT
from streamrnn.errors import StreamRNNError
from streamrnn.export import objects
from streamrnn.export.compile import object_code, plan_for
from streamrnn.export.header import Facts, c_name, check_name, header_text, main_text
from streamrnn.export.interface import Interface
from streamrnn.export.linker import ADVICE, find_linker, library_name, link_library
from streamrnn.export.readme import readme_text
from streamrnn.export.targets import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamrnn.engine import Engine

_LOADER = Path(__file__).with_name("_loader.py")


@dataclass(frozen=True)
class Artefact:
    """What `export_model` wrote, sizes in bytes.

    library: the shared library or WebAssembly module; None where there is none, and `missing` says why if there should be one
    """

    folder: Path
    name: str
    target: Target
    text_bytes: int
    weights_bytes: int
    state_bytes: int
    arena_bytes: int
    library: Path | None
    missing: str


def export_model(
    engine: Engine,
    target: Target,
    folder: Path,
    *,
    name: str = "",
    weights_file: bool = False,
    notify: Callable[[str], None] = lambda text: None,
) -> Artefact:
    """Write the step of `engine` as a C library for `target`.

    name:         prefix of the C names; left out, it is made of the model's name
    weights_file: whether the weights lie in a file of their own instead of in the object

    `folder` appears whole or not at all; one that an earlier export wrote is replaced. Raises OSError, UnsupportedError where
    the model needs what the target lacks, StreamRNNError where a tool fails or `folder` holds something else.
    """
    if name:
        check_name(name)
    name = name or c_name(engine.name)
    plan = plan_for(engine.plan, target)
    stored = f"{name}.weights" if weights_file else None
    about = {
        "format": FORMAT,
        "name": engine.name,
        "fingerprint": engine.fingerprint,
        "meta": dict(engine.meta),
        "layout": plan.to_json(),
        "target": {"name": target.name, "triple": target.triple, "cpu": target.cpu, "features": target.features},
        "weights_bytes": plan.weights.nbytes,
        "weights_file": stored,
        "streamrnn": __version__,
    }
    interface = Interface(name, plan, "", not weights_file, target.pointer_bytes, target.has_system)
    about["arena_bytes"] = interface.arena_bytes
    interface = replace(interface, description=json.dumps(about))
    ops = {node.name: node.op for node in engine.graph.all_nodes()}
    with _aside(folder) as place:
        code = object_code(plan, interface, target, ops, notify)
        facts = Facts(
            name, target, plan, interface.arena_bytes, objects.text_bytes(code), stored, engine.meta.get("sample_rate"),
            __version__,
        )  # fmt: skip
        (place / "model.o").write_bytes(code)
        (place / f"lib{name}.a").write_bytes(objects.archive("model.o", code, interface.symbols))
        (place / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n")
        if stored:
            (place / stored).write_bytes(plan.weights.tobytes())
        if target.has_system:
            (place / f"{name}.py").write_text(_LOADER.read_text().replace('NAME = "model"', f'NAME = "{name}"', 1))
        library, missing = _linked(target, place, name, interface.symbols, notify)
        texts = {"model.h": header_text(facts), "main.c": main_text(facts), "README.md": readme_text(facts, library)}
        for file, text in texts.items():
            (place / file).write_text(text)
    return Artefact(
        folder, name, target, facts.text_bytes, plan.weights.nbytes, plan.state_bytes, interface.arena_bytes,
        folder / library if library else None, missing,
    )  # fmt: skip


def _linked(
    target: Target, place: Path, name: str, symbols: list[str], notify: Callable[[str], None]
) -> tuple[str | None, str]:
    """(the shared library made, why there is none where there should be one)."""
    library = library_name(name, target)
    if library is None:
        return None, ""
    linker = find_linker(target)
    if linker is None:
        what = f"there is no linker for {target.name} on this machine, so {library} was not made"
        return None, f"{what}; {ADVICE}, or link model.o with the compiler of the target"
    notify(f"linking {library}")
    link_library(linker, target, place / "model.o", place / library, symbols)
    return library, ""


@contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place at the end, or goes. Raises OSError, StreamRNNError."""
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / "model.h").exists())):
        raise StreamRNNError(f"{folder} holds something that no export wrote; choose another folder with -o")
    parent = folder.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=parent, prefix=f".{folder.name}.", suffix=".part"))
    try:
        yield place
        place.chmod(0o755)
        old = place.with_suffix(".old")
        if folder.exists():
            os.rename(folder, old)
        try:
            os.rename(place, folder)
        except OSError:
            if old.exists():
                os.rename(old, folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
