"""streamrnn doctor"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from streamrnn.cli.talk import data, notify, number, print_rows
from streamrnn.doctor import OPTIONAL, examine
from streamrnn.errors import MissingExtraError
from streamrnn.ir.op import op_names


def doctor(
    ops: Annotated[bool, typer.Option("--ops", help="List the supported ops, one a line.")] = False,
    onnx_tests: Annotated[
        bool, typer.Option("--onnx-tests", help="Run the node tests of the installed onnx (minutes) and count them.")
    ] = False,
    names: Annotated[bool, typer.Option("--list", help="With --onnx-tests: also name every test that did not pass.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show CPU, SIMD width, versions, the cache of compiled code, and which optional parts are installed."""
    if onnx_tests:
        node_tests(names, as_json)
        return
    if ops:
        data().print("\n".join(supported_ops()), markup=False)
        return
    health = examine()
    if as_json:
        print(json.dumps(asdict(health), indent=2))
        return
    rows = [
        ("versions", ", ".join(f"{name} {version}" for name, version in health.versions.items())),
        ("cpu", health.cpu),
        ("vectors", f"{health.simd_bits} bits ({', '.join(health.features) or 'no vector feature known'})"),
        (
            "cache",
            f"{health.cache}: {health.cached_models} models, {health.cached_kernels} kernels, {number(health.cache_bytes)}",
        ),
    ]
    for what, version in health.parts.items():
        module, extra = OPTIONAL[what]
        rows.append((what, f"{module} {version}" if version else f"not installed: pip install 'streamrnn[{extra}]'"))
    print_rows(data(), rows)


def supported_ops() -> list[str]:
    """Names of the ops; where the converters are installed, those of onnxruntime's domain that they read too."""
    import streamrnn.ops  # noqa: F401  fills the table

    try:
        from streamrnn_converters.onnx.contrib import contrib_names
    except ImportError:
        return sorted(op_names())
    return sorted([*op_names(), *contrib_names()])


def node_tests(names: bool, as_json: bool) -> None:
    """Run ONNX's node tests; exit code 1 where an answer is wrong."""
    try:
        from streamrnn_converters import node_tests as tests
    except ImportError as error:
        raise MissingExtraError(f"the node tests need the converters ({error}); pip install 'streamrnn[convert]'") from None
    notify("collecting the node tests of onnx")
    cases = tests.collect()
    notify(f"running {len(cases)} tests")
    results = tests.run(cases)
    counts = tests.summary(results)
    if as_json:
        print(json.dumps({**asdict(counts), "results": [asdict(result) for result in results]}, indent=2))
    else:
        rows = [
            ("tests", f"{counts.total} in the installed onnx"),
            ("of the list", f"{counts.listed} use only ops of the list; {counts.listed_passed} pass"),
            ("in scope", f"{counts.scope} with their near relatives and what ONNX defines by other ops"),
            ("passed", f"{counts.passed}, {counts.constant} of them computed at conversion; {counts.beyond} out of scope"),
            ("disputed", str(counts.disputed)),
            *((f"refused: {reason}", str(count)) for reason, count in sorted(counts.refused.items())),
            ("wrong", str(counts.failed)),
        ]
        print_rows(data(), rows)
        for result in results if names else ():
            if result.outcome != "passed":
                detail = (result.detail.splitlines() or [""])[0]
                data().print(f"{result.name}: {result.outcome}: {result.reason or detail}", markup=False)
    if counts.failed:
        raise typer.Exit(1)
