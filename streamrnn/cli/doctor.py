"""streamrnn doctor"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from streamrnn.cli.talk import data, number, print_rows
from streamrnn.doctor import OPTIONAL, examine
from streamrnn.ir.op import op_names


def doctor(
    ops: Annotated[bool, typer.Option("--ops", help="List the supported ops, one a line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show CPU, SIMD width, versions, the cache of compiled code, and which optional parts are installed."""
    if ops:
        import streamrnn.ops  # noqa: F401  fills the table

        data().print("\n".join(op_names()), markup=False)
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
