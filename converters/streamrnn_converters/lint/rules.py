"""The table of what lint looks for: codes are stable, so that scripts and `--fix` can name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Rule:
    """One kind of finding.

    level: error: what the file computes is not what was trained. warning: the model runs, but probably not as it is meant to
           in a stream. note: worth knowing.
    why:   what it means for a stream.
    fix:   what `--fix` does about it, "" where it cannot.
    """

    code: str
    level: Level
    title: str
    why: str
    remedy: str
    fix: str = ""


@dataclass(frozen=True)
class Edit:
    """One change of an ONNX file, as plain data, so that a converted file can record it and validation can repeat it.

    action   target             value
    set      an output of the   [op, attribute, integer]: the attribute of the node
             node
    flush    a tensor           []: elements too small for a normal float become 0
    drop     an output of the   []: it is an output no more
             file
    resize   an input of the    [axis, size]: the size of that axis; shapes that were declared behind it are forgotten
             file
    """

    action: str
    target: str
    value: Sequence[Any] = ()


@dataclass(frozen=True)
class Finding:
    """One thing that lint found.

    where:  the node, tensor, input or output.
    text:   what is there and what it does.
    remedy: what to do about it.
    edits:  how `--fix` repairs it; empty where it cannot.
    """

    code: str
    level: Level
    where: str
    text: str
    remedy: str
    edits: tuple[Edit, ...] = ()

    def __str__(self) -> str:
        return f"{self.code} {self.level}: {self.where}: {self.text}; {self.remedy}"


def finding(
    code: str, where: str, text: str, *, remedy: str = "", level: Level | None = None, edits: Sequence[Edit] = ()
) -> Finding:
    """A finding of the rule `code`; level and remedy are the rule's where none are given."""
    rule = RULES[code]
    return Finding(code, level or rule.level, where, text, remedy or rule.remedy, tuple(edits))


def findings_row(found: Finding) -> list[Any]:
    """A finding as JSON."""
    edits = [[edit.action, edit.target, list(edit.value)] for edit in found.edits]
    return [found.code, found.level, found.where, found.text, found.remedy, edits]


def findings_of(meta: Mapping[str, object], key: str = "lint") -> list[Finding]:
    """The findings that a conversion stored."""
    rows = meta.get(key, [])
    return [
        Finding(code, level, where, text, remedy, tuple(Edit(action, target, tuple(value)) for action, target, value in edits))
        for code, level, where, text, remedy, edits in (rows if isinstance(rows, list) else [])
    ]


def listed(what: str, names: Sequence[str]) -> str:
    """Names for `where`: the first few, and how many more."""
    some = ", ".join(f"'{name}'" for name in names[:_LISTED])
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{what}{'s' * (len(names) > 1)} {some}{rest}"


#: names that are written out
_LISTED = 4

_TABLE = (
    Rule(
        "SR101", "error", "a GRU that lost linear_before_reset",
        "The reset gate is applied in front of the recurrent product where the trained network applies it behind: every answer "
        "is wrong, by a quarter of its size in one case, and no comparison with onnxruntime shows it. PyTorch knows the other "
        "form alone; its exporter wrote the wrong one with torchlib (torch 2.10, onnxscript 0.6.2, and others of that time). "
        "A second bias on the recurrent side says the same of any exporter: in the form that the file names it would be idle.",
        "convert with --fix SR101, or export again with a mended exporter (PyTorch: dynamo=False)",
        "sets linear_before_reset=1",
    ),
    Rule(
        "SR102", "note", "a recurrence along something other than time",
        "The sequence axis of the node lies inside one step (frequency bins, most often): its state begins anew in each step, "
        "and it may run in both directions.",
        "nothing, where that axis is not time; else export the model with one frame per call",
    ),
    Rule(
        "SR103", "warning", "an unrolled recurrence",
        "The same recurrent weights are applied several times in a row: the exporter has written out the loop over a clip. A "
        "call computes all frames of that clip, whatever is new, and no other length. Frame mode makes the loop again where "
        "every round is the same.",
        "export with LSTM, GRU or RNN nodes (a time axis that is dynamic), or with a loop of one frame",
    ),
    Rule(
        "SR201", "warning", "a state output that nothing takes",
        "The file gives a final state and has no input for it.",
        "pair it (--pair INPUT=OUTPUT) or drop it (--fix SR201)",
        "takes the output out of the file",
    ),
    Rule(
        "SR202", "warning", "a state input that nothing feeds",
        "The file takes an initial state and gives no final one that fits: it stays an input that somebody has to feed.",
        "name its next value (--pair INPUT=OUTPUT) or fix its value (--bind INPUT=0)",
    ),
    Rule(
        "SR301", "warning", "the batch is frozen at more than one",
        "One stream is one signal; a step of this file computes several.",
        "convert with --fix SR301, or export with a batch of 1 or a dynamic one",
        "sets the batch to 1, where onnxruntime gives the same answers for it",
    ),
    Rule(
        "SR302", "warning", "time is frozen and nothing is carried",
        "One step is one call with a clip of fixed length, from which the recurrence starts anew each time.",
        "export with a dynamic time axis and one direction, or feed overlapping clips and take the last answer",
    ),
    Rule(
        "SR303", "note", "the clip length is frozen, the stream has none",
        "The file was exported for clips of one length, each from the initial state; as a stream the model goes on without "
        "end, further than it may have been trained for.",
        "compare a long signal with what training did, and reset the stream where training did",
    ),
    Rule(
        "SR304", "note", "a grid of 8 bits for each step",
        "Dynamic quantisation makes its grid from all that one call sees: the clip in the file, the frames of one step in a "
        "stream. Both are within the rounding of 8 bits of the float model, and so far from each other.",
        "nothing, if onnxruntime was to be called frame by frame too; else quantise with fixed scales (quantize_static)",
    ),
    Rule(
        "SR401", "error", "NaN or Inf in weights",
        "The training diverged, or the file is altered: what depends on them is NaN for ever.",
        "export an earlier checkpoint; nothing can mend this",
    ),
    Rule(
        "SR402", "warning", "denormal weights",
        "Numbers below 1.2e-38 cost a hundred times the time of others on many processors and count for nothing.",
        "convert with --fix SR402",
        "sets them to 0",
    ),
    Rule(
        "SR403", "note", "float16 in the name, float32 in the file",
        "The name promises half the size; the weights have not been converted.",
        "rename the file, or convert it to float16 once more",
    ),
    Rule(
        "SR404", "warning", "a quantisation scale of zero",
        "Everything quantised with it is 0, or NaN where it divides.",
        "quantise the model again with calibration data that reaches this tensor",
    ),
    Rule(
        "SR501", "note", "random outputs",
        "They depend on random draws and cannot be compared one by one.",
        "import the others alone (--outputs), or take them as they are: the seed is part of the state",
    ),
    Rule(
        "SR502", "note", "weights in other files",
        "The model needs these files beside it to be converted; the converted file does not.",
        "keep them together",
    ),
    Rule(
        "SR503", "note", "weights that nothing uses",
        "They make the file larger and nothing else; the converted file is without them.",
        "nothing, unless a part of the model is missing: then export it again",
    ),
    Rule(
        "SR504", "note", "outputs that depend on no input",
        "They are the same in every step.",
        "leave them out with --outputs",
    ),
    Rule(
        "SR505", "note", "inputs that no output needs",
        "The converted model does not take them.",
        "nothing, unless the model should depend on them: then export it again",
    ),
)  # fmt: skip

RULES: dict[str, Rule] = {rule.code: rule for rule in _TABLE}


def rules_table() -> str:
    """The rules as Markdown."""
    rows = [f"| {r.code} | {r.level} | {r.title} | {r.why} | {r.remedy} | {r.fix or '-'} |" for r in _TABLE]
    return "\n".join(["| code | level | what | why it matters | remedy | `--fix` |", "|---|---|---|---|---|---|", *rows])
