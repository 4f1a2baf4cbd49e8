"""What a linker may define anew for the CPU: see `codegen.cpu`. Imported only where Numba compiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from streamrnn.kernels.simd import ONE_REGISTER

_I8 = ir.IntType(8)


def own_function(module: Any, name: str, result: Any, kinds: tuple[Any, ...], body: Callable[..., Any]) -> Any:
    """A function of streamrnn's own with a body that serves every CPU: `body(builder, *arguments)` gives its result. A linker's
    own definition replaces it."""
    function = module.globals.get(name)
    if function is None:
        function = ir.Function(module, ir.FunctionType(result, kinds), name)
        function.linkage = "weak"
        builder = ir.IRBuilder(function.append_basic_block())
        builder.ret(body(builder, *function.args))
    return function


def in_one_register(builder: Any) -> Any:
    """The bit behind `one_register`."""
    found = builder.module.globals.get(ONE_REGISTER)
    if found is None:
        found = ir.GlobalVariable(builder.module, _I8, ONE_REGISTER)
        # a linker's own definition replaces this one
        found.linkage, found.global_constant, found.initializer = "weak", True, _I8(0)
    return builder.icmp_unsigned("!=", builder.load(found, typ=_I8), _I8(0))
