"""Kernels: plain Python functions over pointers and sizes, compiled by Numba to LLVM IR.

A kernel is written once and lives three lives. As it stands it runs as plain Python on 1-D NumPy arrays (the
interpreter, a debugger, coverage). `Kernel.ir` gives its LLVM IR, made once per machine in a process of its own, for the
linker. `Kernel.njit` is an ordinary Numba function for use in other jitted code.

    @kernel
    def scale(n: i64, a: f32, x: f32p, y: f32p) -> None:
        for i in range(n):
            y[i] = a * x[i]

Annotations name the C types (`f32p` is a pointer to float32). A kernel may call functions marked `@device` and the vector
primitives of `simd`; `bind` exchanges such a name for another, which makes one cell kernel serve every activation; `typed`
exchanges C types, which makes one `a + b` serve floats and integers. Inside a kernel: no allocation, no raise, float
constants as np.float32 (a Python float would widen the arithmetic to double).

Numba is imported by `njit` and by the compiling process only: whoever finds its object in the cache never loads it.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import pathlib
import types
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from streamrnn.errors import GraphError
from streamrnn.versions import compilers

if TYPE_CHECKING:
    from streamrnn.kernels.frames import Frames

# For the type checker scalars are Any: in plain Python they are NumPy numbers, under Numba machine numbers.
i64: TypeAlias = Any
i32: TypeAlias = Any
u64: TypeAlias = Any
u8: TypeAlias = Any
b1: TypeAlias = Any
f32: TypeAlias = Any
f64: TypeAlias = Any
f16: TypeAlias = Any
f32p: TypeAlias = npt.NDArray[np.float32]
f64p: TypeAlias = npt.NDArray[np.float64]
i64p: TypeAlias = npt.NDArray[np.int64]
i32p: TypeAlias = npt.NDArray[np.int32]
i16p: TypeAlias = npt.NDArray[np.int16]
i8p: TypeAlias = npt.NDArray[np.int8]
u8p: TypeAlias = npt.NDArray[np.uint8]
b1p: TypeAlias = npt.NDArray[np.bool_]

#: C type -> (LLVM type, Numba type)
SCALARS: Mapping[str, tuple[str, str]] = {
    **{f"i{n}": (f"i{n}", f"int{n}") for n in (8, 16, 32, 64)},
    **{f"u{n}": (f"i{n}", f"uint{n}") for n in (8, 16, 32, 64)},
    "b1": ("i8", "boolean"),
    "f32": ("float", "float32"),
    "f64": ("double", "float64"),
    "f16": ("i16", "uint16"),  # its bits: Numba has no such type on a CPU
}


def llvm_type(ctype: str) -> str:
    """LLVM's name of a C type of a kernel signature."""
    return "ptr" if ctype.endswith("p") else SCALARS[ctype][0]


class Device:
    """A function that kernels call: plain Python as it stands, inlined by Numba in a kernel."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__

    @property
    def address(self) -> str:
        return f"{self.function.__module__}:{self.function.__name__}"

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    @cached_property
    def numba(self) -> Any:
        """The same function for Numba's compiler."""
        from numba import njit

        return njit(**_FLAGS)(_rebuilt(self.function, {}))


class Primitive:
    """A vector or bit primitive: a plain Python twin in `simd` or `narrow`, an LLVM intrinsic of the same name in `_lanes` or
    `_narrow_lanes`."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    @cached_property
    def numba(self) -> Any:
        twins = {"simd": "_lanes", "narrow": "_narrow_lanes"}
        package, _, module = self.function.__module__.rpartition(".")
        return getattr(importlib.import_module(f"{package}.{twins[module]}"), self.__name__)


Binding: TypeAlias = "Device | float"

#: the only place with Numba flags. No fast-math: a fixed order of additions is what makes chunking unobservable.
_FLAGS: dict[str, Any] = {
    "error_model": "numpy",
    "boundscheck": False,
    "_nrt": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}


class Kernel:
    """A compiled-once function over pointers and sizes. See the module's text."""

    def __init__(
        self,
        function: Callable[..., Any],
        bindings: Mapping[str, Binding] | None = None,
        types: Mapping[str, str] | None = None,
        frames: Frames | None = None,
    ) -> None:
        self.function = function
        self.frames = frames
        self.bindings = dict(bindings or {})
        self.types = dict(types or {})
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        annotations = {**inspect.get_annotations(function), **self.types}
        self.returns: str | None = annotations.pop("return", None)
        if self.returns == "None":
            self.returns = None
        self.params: tuple[tuple[str, str], ...] = tuple(annotations.items())
        for name, ctype in self.params:
            if ctype.removesuffix("p") not in SCALARS:
                raise GraphError(f"kernel {function.__name__}: parameter {name} has no C type ({ctype!r})")

    def __call__(self, *args: Any) -> Any:
        return self.plain(*args)

    def __repr__(self) -> str:
        return f"<kernel {self.address}>"

    def bind(self, **bindings: Binding) -> Kernel:
        """The same kernel with other functions or numbers behind some of its global names."""
        unknown = set(bindings) - set(self.function.__code__.co_names)
        if unknown:
            raise GraphError(f"kernel {self.__name__} uses no name {sorted(unknown)}")
        return Kernel(self.function, {**self.bindings, **bindings}, self.types, self.frames)

    def typed(self, **types: str) -> Kernel:
        """The same text with other C types: `add.typed(a="i64", b="i64", result="i64")`."""
        if "result" in types:
            types["return"] = types.pop("result")
        unknown = set(types) - set(inspect.get_annotations(self.function))
        if unknown:
            raise GraphError(f"kernel {self.__name__} has no parameter {sorted(unknown)}")
        return Kernel(self.function, self.bindings, {**self.types, **types}, self.frames)

    @cached_property
    def plain(self) -> Callable[..., Any]:
        """The plain Python function, bindings applied."""
        numbers = {n: v if isinstance(v, Device) else np.float32(v) for n, v in self.bindings.items()}
        return _with_globals(self.function, {**self.function.__globals__, **numbers})

    @cached_property
    def address(self) -> str:
        """Text from which another process finds this kernel again: module:name|bound=module:name|bound=number|:param=type."""
        parts = [f"{self.function.__module__}:{self.function.__name__}"]
        parts += [f":{name}={ctype}" for name, ctype in sorted(self.types.items())]
        for name, value in sorted(self.bindings.items()):
            parts.append(f"{name}={value.address if isinstance(value, Device) else float(value).hex()}")
        return "|".join(parts)

    @cached_property
    def symbol(self) -> str:
        """Name of the function in LLVM IR; made from a hash, so it never holds foreign text."""
        return f"k.{self.__name__}.{hashlib.sha256(self.address.encode()).hexdigest()[:8]}"

    @cached_property
    def key(self) -> str:
        """Hash of everything that the IR depends on: sources, bindings, versions of the compilers."""
        own = _module_source(self.function.__module__)
        return hashlib.sha256(f"{kernel_sources()}\0{own}\0{self.address}\0{sorted(compilers().items())}".encode()).hexdigest()

    @cached_property
    def njit(self) -> Any:
        """This kernel as an ordinary Numba function (pointers become 1-D arrays), for use in other jitted code."""
        from numba import njit

        return njit(error_model="numpy", boundscheck=False)(_rebuilt(self.function, self.bindings))

    def compile(self) -> tuple[str, str]:
        """Numba's unoptimised IR and the mangled name in it. Call it in a process that compiles nothing else."""
        from numba import njit
        from numba import types as nb

        def numba_type(ctype: str) -> Any:
            scalar = getattr(nb, SCALARS[ctype.removesuffix("p")][1])
            return nb.CPointer(scalar) if ctype.endswith("p") else scalar

        result = numba_type(self.returns) if self.returns else nb.void
        args = tuple(numba_type(ctype) for _, ctype in self.params)
        dispatcher = njit(result(*args), **_FLAGS)(_rebuilt(self.function, self.bindings))
        compiled = dispatcher.overloads[args]
        return compiled.library.get_llvm_str(), compiled.fndesc.llvm_func_name


def kernel(function: Callable[..., Any]) -> Kernel:
    """Decorator: make a Kernel of an annotated function."""
    return Kernel(function)


def device(function: Callable[..., Any]) -> Device:
    """Decorator: make a function that kernels can call."""
    return Device(function)


def find_kernel(address: str) -> Kernel:
    """The kernel behind `Kernel.address`."""
    head, *bound = address.split("|")
    found = _find(head)
    if not isinstance(found, Kernel):
        raise GraphError(f"{head} is not a kernel")
    bindings: dict[str, Binding] = {}
    kinds: dict[str, str] = {}
    for part in bound:
        name, _, value = part.partition("=")
        if name.startswith(":"):
            kinds[name[1:]] = value
        else:
            bindings[name] = _find(value) if ":" in value else float.fromhex(value)
    return Kernel(found.function, {**found.bindings, **bindings}, {**found.types, **kinds})


def _find(address: str) -> Any:
    module, _, name = address.partition(":")
    return getattr(importlib.import_module(module), name)


def _with_globals(function: Callable[..., Any], names: dict[str, Any]) -> types.FunctionType:
    return types.FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)


def _rebuilt(function: Callable[..., Any], bindings: Mapping[str, Binding]) -> types.FunctionType:
    """A copy of `function` in whose globals devices and primitives are what Numba can compile."""
    names: dict[str, Any] = {**function.__globals__, **bindings}
    for name in function.__code__.co_names:
        value = names.get(name)
        if isinstance(value, Device | Primitive):
            names[name] = value.numba
        elif isinstance(value, Kernel):
            names[name] = Device(value.plain).numba
        elif isinstance(value, float) and not isinstance(value, np.floating):
            names[name] = np.float32(value)
    return _with_globals(function, names)


@cache
def kernel_sources() -> str:
    """Hash of the text of this package: an edited kernel or helper makes all compiled code stale."""
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def _module_source(module: str) -> str:
    file = getattr(importlib.import_module(module), "__file__", None)
    return hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest() if file else ""
