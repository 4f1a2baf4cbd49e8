"""`model.h` and `main.c` of an exported model.

Names from a model file become C identifiers or nothing: whatever else a name holds does not reach C text.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass

from streamrnn.errors import UnsupportedError
from streamrnn.export.targets import Target
from streamrnn.ir.types import DType
from streamrnn.layout import Layout, Port
from streamrnn.memory import ALIGN

C_TYPES: Mapping[DType, str] = {
    DType.F32: "float",
    DType.F64: "double",
    DType.F16: "uint16_t",
    DType.BOOL: "uint8_t",
    **{DType(f"{sign}int{bits}"): f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
#: longest prefix of the C names
MAX_NAME = 48
#: names of our own in the object
_TAKEN = {"streamrnn", "weights", "llvm"}


def c_name(text: str) -> str:
    """A C identifier made of a model's name."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")[:MAX_NAME] or "model"
    if not name[0].isalpha():
        name = f"m_{name}"
    return f"{name}_" if keyword.iskeyword(name) or name in _TAKEN else name


def check_name(name: str) -> None:
    """UnsupportedError where a given prefix is no C identifier that can be used."""
    fits = re.fullmatch(r"[A-Za-z]\w*", name, flags=re.ASCII) and len(name) <= MAX_NAME
    if not fits or keyword.iskeyword(name) or name in _TAKEN:
        raise UnsupportedError(
            f"--name {name!r}: it becomes part of C and Python names: up to {MAX_NAME} letters, digits and underscores, "
            f"a letter first, and no word of Python"
        )


@dataclass(frozen=True)
class Facts:
    """Numbers of an export that the header states. text_bytes: machine code."""

    name: str
    target: Target
    layout: Layout
    arena_bytes: int
    text_bytes: int
    weights_file: str | None
    sample_rate: object
    version: str

    def ports(self) -> list[tuple[str, Port]]:
        """(C name of a parameter, port): inputs, then outputs. The prefix keeps names off words and macros of C; names that
        agree get a number."""
        found: list[tuple[str, Port]] = []
        for side, ports in (("in", self.layout.inputs), ("out", self.layout.outputs)):
            for port in ports:
                base = name = f"{side}_{c_name(port.name)}"
                number = 2
                while any(name == other for other, _ in found):
                    name, number = f"{base}_{number}", number + 1
                found.append((name, port))
        return found


def header_text(facts: Facts) -> str:
    """`model.h`."""
    name, upper, layout = facts.name, facts.name.upper(), facts.layout
    n = len(layout.inputs)
    params, lines = ["void *state"], []
    for i, (parameter, port) in enumerate(facts.ports()):
        way, const = ("input", "const ") if i < n else ("output", "")
        number = i if i < n else i - n
        kind = C_TYPES[port.type.dtype]
        params.append(f"{const}{kind} *{parameter}")
        note = f"{port.type.dtype.value}[{', '.join(map(str, port.type.shape))}]"
        lines.append(
            f"#define {upper}_{way.upper()}{number}_SIZE {port.type.size} /* elements of {parameter} a step: {note} */"
        )
    weights = ", const void *weights" if facts.weights_file else ""
    where = f"in {facts.weights_file}, to be read to a multiple of {ALIGN}" if facts.weights_file else "in the library"
    rate = ""
    if isinstance(facts.sample_rate, int | float) and facts.sample_rate:
        rate = f"#define {upper}_SAMPLE_RATE {facts.sample_rate} /* Hz */\n"
    ports = "\n".join(lines)
    return f"""/* {name}: made by streamrnn {facts.version} for {facts.target.name} ({facts.target.triple}, {facts.target.cpu}).
 * No function allocates, locks, blocks or calls another library. States do not disturb each other; one belongs to one thread
 * at a time. Buffers hold elements in C order, and may be the same for an input and an output of {name}_process. */
#ifndef {upper}_H
#define {upper}_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {{
#endif

#define {upper}_ALIGN {ALIGN} /* a state lies at a multiple of this */
#define {upper}_ARENA_BYTES {facts.arena_bytes} /* RAM of one state, scratch included */
#define {upper}_STATE_BYTES {layout.state_bytes} /* its first bytes: what a snapshot copies */
#define {upper}_SCRATCH_BYTES {facts.arena_bytes - layout.state_bytes}
#define {upper}_WEIGHTS_BYTES {layout.weights.nbytes} /* read-only, {where} */
#define {upper}_TEXT_BYTES {facts.text_bytes} /* machine code */
#define {upper}_FRAMES {layout.frames} /* input frames that one step takes */
#define {upper}_DELAY {layout.delay} /* input frames by which the outputs lag behind; outputs before that are zero */
{rate}#define {upper}_INPUTS {n}
#define {upper}_OUTPUTS {len(layout.outputs)}
{ports}

/* What a step does with an input that holds NaN or Inf; {name}_init sets PASS. */
enum {{ {upper}_PASS = 0, {upper}_RAISE = 1, {upper}_HOLD = 2, {upper}_RESET = 3 }};
static inline void {name}_on_nonfinite(void *state, int64_t policy) {{ ((int64_t *)state)[1] = policy; }}

/* Makes {upper}_ARENA_BYTES bytes of any content a state at its beginning. */
void {name}_init(void *state{weights});
/* One step. Returns 1; 0 where the policy is RAISE and an input is not finite, with nothing changed. */
int32_t {name}_step({", ".join(params)});
/* Many steps: step i reads inputs[k] + i * (size of input k) and writes outputs[k] + i * (size of output k). The same bits as
 * single steps, however a stream is cut. Returns the steps made. */
int32_t {name}_process(void *state, const void *const *inputs, void *const *outputs, int32_t steps);
/* Back to the beginning; the policy stays. */
void {name}_reset(void *state);
/* {upper}_STATE_BYTES. Copying so many bytes from the start of a state saves it, copying them back restores it. */
uint32_t {name}_snapshot_size(void);

#ifdef __cplusplus
}}
#endif
#endif
"""


def main_text(facts: Facts) -> str:
    """`main.c`: steps on noise that any language can make again, and every output of each on one line."""
    name, upper = facts.name, facts.name.upper()
    n = len(facts.layout.inputs)
    ports = facts.ports()
    buffers = "\n".join(f"static {C_TYPES[p.type.dtype]} {c}[{max(1, p.type.size)}];" for c, p in ports)
    fill = "\n".join(
        f"    for (int k = 0; k < {upper}_INPUT{i}_SIZE; k++) {c}[k] = {_NOISE[_kind(p.type.dtype)]};"
        for i, (c, p) in enumerate(ports[:n])
    )
    show = "\n".join(
        f"    for (int k = 0; k < {upper}_OUTPUT{i}_SIZE; k++) printf({_FORMAT[_kind(p.type.dtype)].format(f'{c}[k]')});"
        for i, (c, p) in enumerate(ports[n:])
    )
    weights, given = "", ""
    if facts.weights_file:
        weights = f"static _Alignas({upper}_ALIGN) unsigned char weights[{upper}_WEIGHTS_BYTES];\n"
        given = f"""  FILE *file = fopen("{facts.weights_file}", "rb");
  if (!file || fread(weights, 1, sizeof weights, file) != sizeof weights) return 1;
  fclose(file);
"""
    return f"""#include "model.h"
#include <stdio.h>
#include <stdlib.h>

static _Alignas({upper}_ALIGN) unsigned char state[{upper}_ARENA_BYTES];
{weights}{buffers}
static uint32_t seed = 1;

static uint32_t noise(void) {{ return seed = seed * 1664525u + 1013904223u; }} /* of 32 bits */

int main(int argc, char **argv) {{ /* main [STEPS] */
  long steps = argc > 1 ? atol(argv[1]) : 200;
{given}  {name}_init(state{", weights" if facts.weights_file else ""});
  for (long i = 0; i < steps; i++) {{
{fill}
    if ({name}_step({", ".join(["state", *(c for c, _ in ports)])}) != 1) return 1;
{show}
    printf("\\n");
  }}
  return 0;
}}
"""


def _kind(dtype: DType) -> str:
    if dtype is DType.F16:
        return "half"
    return "real" if dtype.is_float else "integer"


#: reals in -1 .. 1, exact in float32; of whole numbers 0 and 1, which every model takes
_NOISE = {
    "real": "(float)(int32_t)(noise() >> 8) / 8388608.0f - 1.0f",
    "half": "(uint16_t)(0x3800 | noise() >> 23)",
    "integer": "noise() >> 31",
}
_FORMAT = {"real": '"%.17g ", (double){}', "half": '"%u ", (unsigned){}', "integer": '"%lld ", (long long){}'}
