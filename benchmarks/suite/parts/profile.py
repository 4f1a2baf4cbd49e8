"""Where the time of a step of a real model goes: by kind of kernel, in native code.

A kind's time is what a step saves without all of its calls. So each is measured among its neighbours, with the caches as they
are in a step; the times need not add up to that of the whole step, which runs some of them side by side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np
from model_folder import Folder, arguments

from streamrnn import Engine
from streamrnn.codegen.build import Step, load_object, object_code
from streamrnn.plan import Call, Copy, Item, Loop, Repeat, StepPlan, When, each
from suite.native import in_kernel
from suite.parts import Setup
from suite.roofline import flops, step_bound
from suite.rows import KERNEL, OWN, Row
from suite.targets import ENHANCERS, named
from suite.timing import abba, medians

QUICK = ("gtcrn_simple",)
REPEAT = 16
#: kinds with a smaller share of the step are left out
LEAST = 0.02


def rows(setup: Setup) -> Iterator[Row]:
    if setup.models is None or not (setup.models / "manifest.json").exists():
        yield Row("profile", {"model": "all"}, {}, {OWN: "no folder of models: --models FOLDER or STREAMRNN_MODELS"})
        return
    folder = Folder(setup.models)
    for name in QUICK if setup.quick else [n for n in folder.entries if named(n, ENHANCERS)]:
        yield row(folder, name, setup)


def row(folder: Folder, name: str, setup: Setup) -> Row:
    engine = Engine(folder.window(name))
    plan = replace(engine.plan, block=None)
    frame = [np.ascontiguousarray(array) for array in arguments(engine, folder.feed(name)(0)).values()]
    kinds = sorted({kind(item) for item, _ in each((*plan.calls, *plan.commit))})
    plans = [plan, *(with_kinds(plan, set(kinds) - {left_out}) for left_out in kinds)]
    sides = [(in_kernel(p, built(p), frame), REPEAT) for p in plans]
    whole, *rests = (ns / REPEAT for ns in medians(abba(sides, setup.budget * 2)))
    figures = {KERNEL: {"ns": whole, "roofline": step_bound(setup.roofline, plan) / whole}}
    for name_, rest in sorted(zip(kinds, rests, strict=True), key=lambda pair: pair[1]):
        spent = whole - rest
        if spent >= LEAST * whole:
            figures[name_] = {"ns": spent, "share": spent / whole, "gflops": flops(with_kinds(plan, (name_,))) / spent}
    return Row("profile", {"model": name}, figures)


def kind(item: Call | Loop | Copy) -> str:
    """The kernels' module of a call; "pointwise" or "copies" for loops and copies."""
    if isinstance(item, Call):
        return item.kernel.address.partition(":")[0].rpartition(".")[2]
    return "pointwise" if isinstance(item, Loop) and item.body else "copies"


def with_kinds(plan: StepPlan, kinds: Collection[str]) -> StepPlan:
    """The plan with the calls of some kinds alone. What it computes means nothing."""
    return replace(plan, calls=kept(plan.calls, kinds), commit=tuple(item for item in plan.commit if kind(item) in kinds))


def kept(items: Sequence[Item], kinds: Collection[str]) -> tuple[Item, ...]:
    inner = (replace(i, calls=kept(i.calls, kinds)) if isinstance(i, When | Repeat) else i for i in items)
    return tuple(item for item in inner if isinstance(item, When | Repeat) or kind(item) in kinds)


def built(plan: StepPlan) -> Step:
    code = object_code(plan)
    return load_object(code, hashlib.sha256(code).hexdigest(), from_cache=False)
