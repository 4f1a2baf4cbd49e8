"""The README's generated parts are what the code says. `python tests/test_readme.py` writes the tables of ops anew."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from streamrnn_converters.lint.rules import rules_table
from streamrnn_converters.onnx.contrib import FAMILIES

import streamrnn.ops
from streamrnn.ir.op import find_op, op_names

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
LINT = ROOT / "docs" / "lint.md"
#: one row of the table per module of `streamrnn.ops`; own ops exist in step graphs alone
OWN = {"Window", "Fused"}


def ops_table() -> str:
    """Supported ONNX ops by family, as Markdown."""
    families: dict[str, list[str]] = {}
    for name in op_names():
        if name not in OWN:
            families.setdefault(type(find_op(name)).__module__.rsplit(".", 1)[-1], []).append(name)
    rows = [f"| {family} | {', '.join(names)} |" for family, names in sorted(families.items())]
    return "\n".join(["| family | ops |", "|---|---|", *rows])


def contrib_table() -> str:
    """onnxruntime's own ops that are read, as Markdown."""
    rows = [f"| {family} | {', '.join(names)} |" for family, names in FAMILIES.items()]
    return "\n".join(["| com.microsoft | ops |", "|---|---|", *rows])


def part(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*?)\n?<!-- /{name} -->", README.read_text(), re.S)
    assert found is not None
    return found[1]


def test_the_table_of_ops_is_the_op_table() -> None:
    assert part("ops") == ops_table()


def test_the_table_of_onnxruntimes_ops_is_that_of_the_reader() -> None:
    assert part("contrib") == contrib_table()


def test_the_speed_table_was_filled_in() -> None:
    assert part("speed").count("|") > 50


def test_the_commands_at_the_top_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README.read_text(), re.M):
        assert f"\n{target}:" in makefile


def test_the_ten_lines_run(monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    from small import recurrent_engine

    code = re.search(r"```python\n(.*?)```", README.read_text(), re.S)
    assert code is not None
    assert len(code[1].strip().splitlines()) <= 10
    engine = recurrent_engine(n_in=3)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(streamrnn, "load", lambda path: engine)
    scope: dict[str, object] = {}
    exec(code[1], scope)
    assert (tmp_path / "state.snapshot").exists()


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README.read_text()):
        assert (ROOT / target).exists(), target


def lint_page() -> str:
    return (
        "# What lint finds\n\n"
        "`streamrnn lint MODEL` prints these findings, `convert` and `inspect` show them too. A code keeps its meaning. An "
        "error or a warning makes the exit code of `lint` 1, a note does not. `convert --fix CODE,...` (or `all`) repairs a "
        "copy in memory where the last column says how; the repair is kept in the converted file, and `validate` asks "
        "onnxruntime about the file with the same repair.\n\n" + rules_table() + "\n"
    )


def test_the_page_of_lint_is_the_table_of_rules() -> None:
    assert LINT.read_text() == lint_page()


if __name__ == "__main__":
    LINT.write_text(lint_page())
    text = README.read_text()
    for name, table in (("ops", ops_table()), ("contrib", contrib_table())):
        text = re.sub(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda m, t=table: f"{m[1]}{t}\n{m[2]}", text, flags=re.S)
    README.write_text(text)
    sys.exit(0)
