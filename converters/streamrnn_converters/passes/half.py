"""What an op does not take in float16 it takes in float32, and what it gives in float32 is rounded to float16."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from streamrnn.ir.graph import Node
from streamrnn.ir.op import Op, get_op
from streamrnn.ir.types import DType

if TYPE_CHECKING:
    from streamrnn_converters.passes.fold import Walk


def in_float32(walk: Walk, op: Op, node: Node) -> None:
    """Enter a node between casts. Raises what the op's `infer` raises for float32."""
    wide = {name: _cast(walk, name, DType.F32) if _is_half(walk, name) else name for name in node.inputs}
    results = {name: walk.values.fresh(f"{name}.float32") for name in node.outputs if name}
    inputs, outputs = (wide[name] for name in node.inputs), (results.get(name, "") for name in node.outputs)
    walk.apply(op, replace(node, inputs=tuple(inputs), outputs=tuple(outputs)))
    for name, found in results.items():
        to = DType.F16 if walk.types[found].dtype is DType.F32 else walk.types[found].dtype
        _cast(walk, found, to, name)


def _is_half(walk: Walk, name: str) -> bool:
    return bool(name) and walk.types[name].dtype is DType.F16


def _cast(walk: Walk, name: str, to: DType, result: str = "") -> str:
    """Add a Cast of `name`, to a new value where `result` names none."""
    result = result or walk.values.fresh(f"{name}.{to.value}")
    cast = Node("Cast", walk.node_names.fresh(f"{result}.Cast"), (name,), (result,), {"to": to.value})
    walk.apply(get_op(cast), cast)
    return result
