"""The README of an exported model."""

from __future__ import annotations

from streamrnn.export.header import Facts


def readme_text(facts: Facts, library: str | None) -> str:
    """`README.md`: how to build, run and keep what lies beside it. library: the file that a linker made."""
    name, layout, target = facts.name, facts.layout, facts.target
    parts = [
        f"# {name} for {target.name}\n",
        f"Made by streamrnn {facts.version} for {target.triple}, CPU {target.cpu} ({target.summary}). The code allocates "
        "nothing, needs no other library, not even libc, and holds no state of its own.\n",
        "| bytes | |\n|---|---|",
        f"| {facts.text_bytes} | machine code |",
        f"| {layout.weights.nbytes} | weights, read-only{f', in `{facts.weights_file}`' if facts.weights_file else ''} |",
        f"| {facts.arena_bytes} | RAM of one stream, of which {layout.state_bytes} are its state |\n",
        f"`model.h` documents the functions. `main.c` runs {name} on 200 steps of noise:\n",
        f"```\ncc -O2 main.c lib{name}.a -o main && ./main\n```\n",
        "with the C compiler of the target in place of `cc`. A state is memory of the caller, zeroed or not:\n",
        f"```c\n#include \"model.h\"\nstatic _Alignas({name.upper()}_ALIGN) unsigned char state[{name.upper()}_ARENA_BYTES];\n"
        f"{name}_init(state{', weights' if facts.weights_file else ''});\n"
        f"{name}_step({', '.join(['state', *(parameter for parameter, _ in facts.ports())])});\n```\n",
    ]  # fmt: skip
    if target.has_system:
        parts.append(
            f"From Python with NumPy alone: `from {name} import Stream` (`{name}.py`, which loads `lib{name}.so` beside it); "
            f'with streamrnn, which needs neither Numba nor llvmlite for it: `streamrnn.load("lib{name}.so")`.\n'
        )
    if library and library.endswith(".wasm"):
        parts.append(
            f"`{library}` imports nothing and exports its memory, the functions of `model.h` and `__heap_base`, from where on "
            f"memory is free; `memory.grow` gives more. `{name}.json` describes inputs, outputs and sizes.\n"
        )
    if library is None and (target.has_system or target.is_wasm):
        parts.append("No linker was found when this folder was made, so it has no shared library: link `model.o` yourself.\n")
    return "\n".join(parts)
