"""What to say about ops that are not supported: all of them at once, each with the remedy that fits it."""

from __future__ import annotations

from collections.abc import Sequence

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Node


def unsupported_op(node: Node, depends: Sequence[str]) -> UnsupportedError:
    """The error for a node whose op is not in the table. `depends`: the inputs that its first input is computed from."""
    where = f"node '{node.name}' ({node.op})"
    if node.op == "If":
        names = ", ".join(f"--bind {name}=VALUE" for name in depends) or "export one branch alone"
        return UnsupportedError(f"{where}: its condition is computed at run time; fix what it depends on: {names}")
    if node.op in ("Loop", "Scan"):
        return UnsupportedError(
            f"{where}: loops over a body graph are not supported; export the model with LSTM, GRU or RNN nodes or "
            f"with the loop unrolled"
        )
    if node.op.startswith(("com.microsoft.", "com.ms.")):
        return UnsupportedError(
            f"{where}: an op of onnxruntime, not of ONNX; use the file from before onnxruntime's optimiser or quantiser ran"
        )
    if "." in node.op:
        domain = node.op.rpartition(".")[0]
        return UnsupportedError(f"{where}: an op of the domain '{domain}', not of ONNX; export the model in plain ONNX ops")
    return UnsupportedError(f"{where}: this op is not supported; `streamrnn doctor --ops` lists those that are")


def unsupported_report(errors: Sequence[UnsupportedError], usable: Sequence[str]) -> UnsupportedError:
    """One error for all. `usable`: the outputs that need none of the nodes in question."""
    lines = [str(error) for error in errors]
    text = lines[0] if len(lines) == 1 else "\n  ".join([f"{len(lines)} nodes are not supported:", *lines])
    if usable:
        text += f"\nWithout them: --outputs {','.join(usable)}"
    return UnsupportedError(text)
