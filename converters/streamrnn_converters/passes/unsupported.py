"""What to say about nodes that are not supported: all of them at once, each with the remedy that fits it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Node

#: node names listed for one reason
_NAMES = 3

_UNKNOWN = "this op is not supported"


def unsupported_op(node: Node) -> UnsupportedError:
    """The error for a node whose op is not in the table."""
    return UnsupportedError(f"node '{node.name}' ({node.op}): {_reason(node.op)}")


def _reason(op: str) -> str:
    domain = op.rpartition(".")[0]
    if domain.startswith(("com.microsoft", "com.ms")):
        return "an op of onnxruntime, not of ONNX; use the file from before onnxruntime's optimiser or quantiser ran"
    if domain:
        return f"an op of the domain '{domain}', not of ONNX; export the model in plain ONNX ops"
    return _UNKNOWN


def unsupported_report(problems: Iterable[tuple[Node, UnsupportedError]], others: Iterable[str], usable: Sequence[str]) -> str:
    """One message for all. `problems` belong to nodes, `others` (inputs, constants) do not; nodes with the same op and reason
    share a line. `usable`: the outputs that need none of them."""
    groups: dict[tuple[str, str], list[str]] = {}
    for node, error in problems:
        reason = str(error).removeprefix(f"node '{node.name}' ({node.op}): ")
        groups.setdefault((node.op, reason), []).append(node.name)
    lines = [*others, *(_line(op, reason, names) for (op, reason), names in groups.items())]
    text = lines[0] if len(lines) == 1 else "\n  ".join(["the model is not supported for several reasons:", *lines])
    if any(reason == _UNKNOWN for _, reason in groups):
        text += "\n`streamrnn doctor --ops` lists the ops that are supported"
    if usable:
        text += f"\noutputs that work without: --outputs {','.join(usable)}"
    return text


def _line(op: str, reason: str, names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"node '{names[0]}' ({op}): {reason}"
    listed = ", ".join(f"'{name}'" for name in names[:_NAMES])
    return f"{len(names)} nodes {listed}{', ...' if len(names) > _NAMES else ''} ({op}): {reason}"
