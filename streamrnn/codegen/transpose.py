"""Transposing blocks of 16 by 16 float32, as a function in LLVM IR."""

from __future__ import annotations

from streamrnn.kernels.simd import LANES

_VECTOR = f"<{LANES} x float>"


def transpose_text() -> str:
    """@transpose(count, x, x_block, x_row, y, y_block, y_row): element j of row i of each of `count` blocks of y is element i
    of row j of the same block of x; blocks begin x_block and y_block elements apart, rows x_row and y_row.

    Four perfect shuffles of the 256 elements of a block exchange rows and columns; a shuffle interleaves the rows of the first
    half with those of the second.
    """
    halves = [
        f"<{LANES} x i32> <{', '.join(f'i32 {half + i // 2 + LANES * (i % 2)}' for i in range(LANES))}>"
        for half in (0, LANES // 2)
    ]
    lines = []
    for j in range(LANES):
        lines += [
            f"%xj{j} = mul i64 %x_row, {j}",
            f"%xo{j} = add i64 %xb, %xj{j}",
            f"%xp{j} = getelementptr float, ptr %x, i64 %xo{j}",
            f"%r0x{j} = load {_VECTOR}, ptr %xp{j}, align 4",
        ]
    for stage in range(4):
        for j in range(LANES):
            low, high = f"%r{stage}x{j // 2}", f"%r{stage}x{j // 2 + LANES // 2}"
            lines.append(f"%r{stage + 1}x{j} = shufflevector {_VECTOR} {low}, {_VECTOR} {high}, {halves[j % 2]}")
    for i in range(LANES):
        lines += [
            f"%yi{i} = mul i64 %y_row, {i}",
            f"%yo{i} = add i64 %yb, %yi{i}",
            f"%yp{i} = getelementptr float, ptr %y, i64 %yo{i}",
            f"store {_VECTOR} %r4x{i}, ptr %yp{i}, align 4",
        ]
    body = "\n".join(f"  {line}" for line in lines)
    return (
        "define internal void @transpose(i64 %count, ptr noalias %x, i64 %x_block, i64 %x_row, ptr noalias %y, i64 %y_block, "
        "i64 %y_row) noinline {\n"
        "entry:\n  %some = icmp sgt i64 %count, 0\n  br i1 %some, label %loop, label %end\n"
        "loop:\n  %b = phi i64 [0, %entry], [%b1, %loop]\n"
        f"  %xb = mul i64 %b, %x_block\n  %yb = mul i64 %b, %y_block\n{body}\n"
        "  %b1 = add i64 %b, 1\n  %more = icmp slt i64 %b1, %count\n  br i1 %more, label %loop, label %end\n"
        "end:\n  ret void\n}"
    )
