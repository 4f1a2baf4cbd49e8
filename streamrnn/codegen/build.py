"""Link kernels and driver, optimise for this CPU, keep the object, load it."""

from __future__ import annotations

import ctypes
import itertools
import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from streamrnn.codegen import elf
from streamrnn.codegen.abi import INIT, LANES, POOL, RUN, STEP
from streamrnn.codegen.cache import cache_folder, digest, keep, touch
from streamrnn.codegen.cpu_flags import FLAGS, cpu_flags
from streamrnn.errors import MissingExtraError
from streamrnn.versions import compilers

if TYPE_CHECKING:
    from streamrnn.kernels._jit import Kernel
    from streamrnn.plan import StepPlan

#: what an object defines, in the order of the addresses in Step
SYMBOLS = (INIT, RUN, STEP, POOL)
#: features that LLVM does not read off an ARM CPU, and that kernels have instructions of their own for
UNTOLD = ("dotprod", "i8mm")
_DIGEST = 32


@dataclass(frozen=True)
class Step:
    """Loaded machine code of a plan: addresses of the functions in `codegen.abi`. The code lives as long as this object."""

    init: int
    run: int
    step: int
    pool: int
    from_cache: bool
    key: str
    object_bytes: int
    _owner: Any


@dataclass(frozen=True)
class PoolStep:
    """Loaded machine code of a pool's groups: the address of the function `lanes` in `codegen.abi`."""

    lanes: int
    key: str
    _owner: Any


def build(plan: StepPlan, notify: Callable[[str], None] = lambda text: None) -> Step:
    """Machine code for `plan` on this CPU, from the cache where it is there. Raises StreamRNNError."""
    # all ops and kernels, none of which a ready engine needs
    from streamrnn.codegen.driver import driver_kernels, driver_text

    code, key, from_cache = _object(driver_text(plan), driver_kernels(plan), notify)
    return load_object(code, key, from_cache)


def build_pool(plan: StepPlan, notify: Callable[[str], None] = lambda text: None) -> PoolStep:
    """The same for a plan that `lanes.across_streams` made."""
    from streamrnn.codegen.pool_driver import pool_kernels, pool_text

    code, key, _ = _object(pool_text(plan), pool_kernels(plan), notify)
    return load_pool(code, key)


def _object(driver: str, kernels: list[Kernel], notify: Callable[[str], None]) -> tuple[bytes, str, bool]:
    """(object file, key, whether it was in the cache) of a driver and its kernels for this CPU. Raises StreamRNNError."""
    from streamrnn.codegen.library import compile_missing

    cpu, features = host()
    text = module_text(driver)
    key = _key(text, kernels, cpu, features)
    code = cached_object(key)
    if code is not None:
        return code, key, True
    compile_missing(kernels, notify)
    notify("linking and optimising")
    code = link(text, kernels, machine(cpu, features))
    _keep(key, code)
    return code, key, False


def object_code(plan: StepPlan) -> bytes:
    """The object file of `plan` for this CPU, made anew."""
    from streamrnn.codegen.driver import driver_kernels, driver_text
    from streamrnn.codegen.library import compile_missing

    kernels = driver_kernels(plan)
    compile_missing(kernels)
    return link(module_text(driver_text(plan)), kernels, machine(*host()))


def module_text(driver: str) -> str:
    """A driver, and behind it what depends on this CPU."""
    from streamrnn.codegen.cpu import primitives
    from streamrnn.codegen.flush import flush_text

    return "\n".join([driver, primitives(host()[1]), flush_text(default_triple())])


def module_object(text: str, key: str, symbol: str) -> bytes:
    """The object file of a module that needs no kernels, for any CPU of this architecture, from the cache or new."""
    code = cached_object(key)
    if code is None:
        code = link(text, [], machine("generic", ""), (symbol,))
        _keep(key, code)
    return code


def link(text: str, kernels: list[Kernel], machine: Any, exported: tuple[str, ...] = (*SYMBOLS, LANES)) -> bytes:
    """One object file from a driver and its kernels, optimised for `machine`; only `exported` names are seen from outside."""
    import llvmlite.binding as llvm

    from streamrnn.codegen.library import kernel_bitcode
    from streamrnn.kernels.narrow import DOT4
    from streamrnn.kernels.simd import ONE_REGISTER, WIDEN

    module = llvm.parse_assembly(text)
    for kernel in kernels:
        module.link_in(llvm.parse_bitcode(kernel_bitcode(kernel)))
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    for function in module.functions:
        if not function.is_declaration and function.name not in exported:
            function.linkage = "internal"
        if function.name in (DOT4, WIDEN):
            function.add_function_attribute("alwaysinline")
    for variable in module.global_variables:
        if variable.name == ONE_REGISTER:
            variable.linkage = "internal"
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return bytes(machine.emit_object(module))


@cache
def host() -> tuple[str, str]:
    """Name and features of this CPU; NUMBA_CPU_NAME and NUMBA_CPU_FEATURES override them."""
    llvm = _llvm()
    name = os.environ.get("NUMBA_CPU_NAME") or llvm.get_host_cpu_name()
    if os.environ.get("NUMBA_CPU_NAME"):
        return name, os.environ.get("NUMBA_CPU_FEATURES", "")
    known = llvm.get_host_cpu_features().flatten()
    return name, ",".join([known, *(f"+{feature}" for feature in UNTOLD if FLAGS[feature] in cpu_flags())])


def default_triple() -> str:
    """LLVM's name of this machine. Raises MissingExtraError."""
    return str(_llvm().get_default_triple())


@cache
def _llvm() -> Any:
    try:
        import llvmlite.binding as llvm
    except ImportError as error:
        raise MissingExtraError(f"linking a model needs LLVM ({error}): pip install llvmlite") from None
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


def machine(cpu: str, features: str) -> Any:
    """An LLVM target machine for a CPU of this architecture, at the highest optimisation."""
    target = _llvm().Target.from_default_triple()
    return target.create_target_machine(cpu=cpu, features=features, opt=3, reloc="pic", codemodel="default")


def _key(text: str, kernels: list[Kernel], cpu: str, features: str) -> str:
    """Content hash of everything that the object depends on."""
    parts = [text, *(k.key for k in kernels), cpu, features, repr(sorted(compilers().items()))]
    return digest(*parts).hex()


def cached_object(key: str) -> bytes | None:
    """The object under `key`, or None where there is none or it is not what was written."""
    try:
        file = cache_folder() / f"{key}.o"
        data = file.read_bytes()
        touch(file)
    except OSError:
        return None
    code = data[_DIGEST:]
    return code if digest(code) == data[:_DIGEST] else None


def _keep(key: str, code: bytes) -> None:
    keep(cache_folder() / f"{key}.o", digest(code) + code)


@cache
def _jit() -> Any:
    cpu, features = host()
    return _llvm().create_lljit_compiler(machine(cpu, features), use_jit_link=False)


_loaded: weakref.WeakValueDictionary[str, Step] = weakref.WeakValueDictionary()
_pools: weakref.WeakValueDictionary[str, PoolStep] = weakref.WeakValueDictionary()
_loads = itertools.count()
_for_ever: list[object] = []


def load_object(code: bytes, key: str, from_cache: bool) -> Step:
    """Load an object into this process, once per content."""
    step = _loaded.get(key)
    if step is None:
        (init, run, once, pool), owner = _load(code, SYMBOLS)
        step = _loaded[key] = Step(init, run, once, pool, from_cache, key, len(code), owner)
    return step


def load_pool(code: bytes, key: str) -> PoolStep:
    """The same for an object of `build_pool`."""
    step = _pools.get(key)
    if step is None:
        (lanes,), owner = _load(code, (LANES,))
        step = _pools[key] = PoolStep(lanes, key, owner)
    return step


def load_for_ever(code: bytes, symbol: str) -> int:
    """Load an object for the rest of the process; the address of its one function."""
    (address,), owner = _load(code, (symbol,))
    _for_ever.append(owner)
    return address


def _load(code: bytes, symbols: tuple[str, ...]) -> tuple[tuple[int, ...], object]:
    """The addresses of the symbols of an object, and what keeps it loaded."""
    return elf.load(code, symbols) or _load_by_llvm(code, symbols)


def _load_by_llvm(code: bytes, symbols: tuple[str, ...]) -> tuple[tuple[int, ...], object]:
    builder = _llvm().JITLibraryBuilder().add_object_img(code).add_current_process()
    for symbol in symbols:
        builder = builder.export_symbol(symbol)
    library = builder.link(_jit(), f"m{next(_loads)}")  # a name can never be used again, not even after unloading
    return tuple(library[symbol] for symbol in symbols), library


def function(address: int, *, release_gil: bool, args: int) -> Callable[..., int]:
    """A ctypes function over `address` that takes `args` pointers or int64 and returns int64."""
    factory = ctypes.CFUNCTYPE if release_gil else ctypes.PYFUNCTYPE
    return factory(ctypes.c_int64, *[ctypes.c_void_p] * args)(address)
