"""What the machines of `targets` can do: the figures behind `streamrnn fit`, as published by those who make or measured them.

Nothing here was measured by this project (but `host`, see `roofline`). Where no sustained rate is published, half of a peak is
taken: of what the bus of a cache carries or the core loads in a cycle, and of what the memory chips transfer. `estimate` says
how far to trust that.

TRM stands for Arm's technical reference manual of the core, SOG for its software optimization guide, RM for a reference manual
of STMicroelectronics.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from math import log

from streamrnn.errors import UnsupportedError

KB, MB, GB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True)
class Board:
    """One core of a machine, and its memory.

    clock      GHz
    lanes      float32 numbers in a register
    rate       register-wide multiply-adds per cycle
    latency    cycles until a multiply-add may use the result of another
    half       cycles of 16 multiply-adds with weights of float16
    byte       cycles of 16 multiply-adds of 8 bits, as the kernels of `byte_products` make them on this machine
    single     cycles of an instruction on single numbers, on average
    overlaps   whether loads run beside arithmetic
    reads      (bytes that are read again and again, bytes per cycle) from small to large; between two points the rate changes
               with the logarithm of the size
    flash      bytes for program and weights; 0 where both lie in RAM
    ram        bytes
    source     where the figures are from
    core       LLVM's name of a core whose pipeline llvm-mca models as this one; "" where it has none
    """

    name: str
    what: str
    clock: float
    lanes: int
    rate: float
    latency: float
    half: float
    byte: float
    single: float
    overlaps: bool
    reads: tuple[tuple[int, float], ...]
    flash: int
    ram: int
    source: str
    core: str = ""

    @property
    def vector(self) -> float:
        """Cycles of one operation on 16 lanes."""
        return 16 / (self.lanes * self.rate)

    @property
    def near(self) -> float:
        """Bytes per cycle that the core loads from the nearest memory: a cache, or RAM of its own."""
        return max(self.reads[0][1], 4.0)

    def read_rate(self, size: int) -> float:
        """Bytes per cycle of reading `size` bytes that were read before."""
        at = bisect_right(self.reads, (size, float("inf")))
        if at == 0 or at == len(self.reads):
            return self.reads[max(0, at - 1)][1]
        (small, near), (large, far) = self.reads[at - 1], self.reads[at]
        return near + (far - near) * log(size / small) / log(large / small)


def caches(*levels: tuple[int, float], memory: float) -> tuple[tuple[int, float], ...]:
    """`Board.reads` of caches (bytes, bytes per cycle) in front of a memory: what is twice as large as a cache is no longer
    found in it."""
    rates = [rate for _, rate in levels[1:]] + [memory]
    return tuple(
        point for (size, rate), behind in zip(levels, rates, strict=True) for point in ((size, rate), (2 * size, behind))
    )


_A53 = (
    "Cortex-A53 TRM: 64-bit loads, L1 32 KB, L2 512 KB. ncnn's notes on its dual issue: one 128-bit FMLA a cycle, beside which \
no 128-bit load is issued. Memory: half of 3.6 GB/s (LPDDR2-900, 32 bits)"
)

BOARDS: Mapping[str, Board] = {
    board.name: board
    for board in (
        Board(
            "pi3", "Raspberry Pi 3B+: Cortex-A53, 1.4 GHz, 1 GB",
            clock=1.4, lanes=4, rate=1, latency=4, half=8, byte=4, single=1, overlaps=False,
            reads=caches((32 * KB, 8), (512 * KB, 4), memory=1.3), flash=0, ram=GB, source=_A53, core="cortex-a53",
        ),
        Board(
            "pi-zero-2", "Raspberry Pi Zero 2 W: Cortex-A53, 1.0 GHz, 512 MB",
            clock=1.0, lanes=4, rate=1, latency=4, half=8, byte=4, single=1, overlaps=False,
            reads=caches((32 * KB, 8), (512 * KB, 4), memory=1.8), flash=0, ram=GB // 2, source=_A53, core="cortex-a53",
        ),
        Board(
            "pi4", "Raspberry Pi 4B: Cortex-A72, 1.5 GHz, 1 GB",
            clock=1.5, lanes=4, rate=1, latency=4, half=8, byte=4, single=0.5, overlaps=True,
            reads=caches((32 * KB, 16), (MB, 8), memory=3.2), flash=0, ram=GB,
            source="Cortex-A72 SOG and TRM: two 64-bit pipes multiply, one 128-bit load a cycle, L1 32 KB, 128 bits from L2. "
            "BCM2711: 1.5 GHz, L2 1 MB. Memory: STREAM add and triad 4.8 GB/s (sci-pi.org.uk)",
            core="cortex-a72",
        ),
        Board(
            "pi5", "Raspberry Pi 5: Cortex-A76, 2.4 GHz, 2 GB",
            clock=2.4, lanes=4, rate=2, latency=4, half=4, byte=0.5, single=0.35, overlaps=True,
            reads=caches((64 * KB, 32), (512 * KB, 16), (2 * MB, 8), memory=3.5), flash=0, ram=2 * GB,
            source="Cortex-A76 SOG and TRM: two 128-bit FMLA or SDOT, two 128-bit loads a cycle, L1 64 KB, 256 bits from L2. "
            "BCM2712: 2.4 GHz, L2 512 KB a core, L3 2 MB. Memory: half of 17 GB/s (LPDDR4X-4267, 32 bits)",
        ),
        Board(
            "armv7", "Raspberry Pi 2B: Cortex-A7, 900 MHz, 1 GB",
            clock=0.9, lanes=4, rate=0.25, latency=4, half=48, byte=12, single=1, overlaps=False,
            reads=caches((32 * KB, 8), (512 * KB, 4), memory=2), flash=0, ram=GB,
            source="The Cortex-A7 TRM has no timings; measured ones (hardwarebug.org, 2014): NEON multiplies one float32 a "
            "cycle, 64-bit loads. L1 32 KB. BCM2836: 900 MHz, L2 512 KB. "
            "Memory: half of 3.6 GB/s (LPDDR2-900, 32 bits)",
        ),
        Board(
            "riscv64", "VisionFive 2: SiFive U74, 1.5 GHz, 2 GB",
            clock=1.5, lanes=1, rate=1, latency=5, half=160, byte=40, single=1, overlaps=True,
            reads=caches((32 * KB, 4), (2 * MB, 2), memory=1), flash=0, ram=2 * GB,
            source="SiFive U74-MC manual: two instructions a cycle, a load and a multiply-add (latency 5) among them; L1 "
            "32 KB. JH7110: 1.5 GHz, L2 2 MB. RV64GC converts float16 in software. Memory: half of the rate of L2",
            core="sifive-u74",
        ),
        Board(
            "cortex-m4", "STM32F407: Cortex-M4F, 168 MHz, 1 MB flash, 192 KB RAM",
            clock=0.168, lanes=1, rate=1 / 3, latency=3, half=80, byte=64, single=1.2, overlaps=False,
            reads=((1, 2.6),), flash=MB, ram=192 * KB,
            source="Cortex-M4 TRM: VFMA 3 cycles, a load 1 to 2. RM0090: a flash line of 128 bits in 6 cycles at 168 MHz",
            core="cortex-m4",
        ),
        Board(
            "cortex-m33", "STM32U585: Cortex-M33, 160 MHz, 2 MB flash, 786 KB RAM",
            clock=0.16, lanes=1, rate=1 / 3, latency=3, half=80, byte=64, single=1.2, overlaps=False,
            reads=((1, 3.2),), flash=2 * MB, ram=786 * KB,
            source="Timings of the Cortex-M33 are not published: those of the Cortex-M4 are taken. RM0456: a flash line of 128 "
            "bits in 5 cycles at 160 MHz",
            core="cortex-m33",
        ),
        Board(
            "cortex-m7", "STM32H743: Cortex-M7, 480 MHz, 2 MB flash, 1 MB RAM",
            clock=0.48, lanes=1, rate=1, latency=3, half=48, byte=32, single=0.7, overlaps=True,
            reads=caches((16 * KB, 4), memory=1.6), flash=2 * MB, ram=MB,
            source="Arm publishes no timings of the Cortex-M7; measured ones (quinapalus.com/cm7cycles.html): two instructions "
            "a cycle, one VFMA among them, taken with a latency of 3. TRM: data cache 16 KB. RM0433: half of a flash line of "
            "256 bits in 5 cycles of a bus at half of the core's clock",
            core="cortex-m7",
        ),
    )
}  # fmt: skip


def find_board(target: str) -> Board:
    """The published figures of a target. Raises UnsupportedError where there are none."""
    if target not in BOARDS:
        raise UnsupportedError(
            f"target '{target}' is no one machine whose speed is known; there are figures for {', '.join(BOARDS)}, and "
            f"'host' is measured"
        )
    return BOARDS[target]
