"""A stand-in for `sounddevice.Stream` on machines without a sound card: a wav file plays the microphone."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile


class FileStream:
    """Calls `callback(indata, outdata, frames, time, status)` with blocks of a wav file, in real time if asked, and keeps
    what the callback wrote."""

    def __init__(self, path: Path, blocksize: int, callback: Callable[..., Any], realtime: bool = False) -> None:
        self.audio, self.samplerate = soundfile.read(path, dtype="float32", always_2d=True)
        self.audio = self.audio[: len(self.audio) // blocksize * blocksize]
        self.blocksize, self.callback, self.realtime = blocksize, callback, realtime
        self.played = np.zeros_like(self.audio)

    def __enter__(self) -> FileStream:
        for start in range(0, len(self.audio), self.blocksize):
            block = slice(start, start + self.blocksize)
            self.callback(self.audio[block], self.played[block], self.blocksize, None, None)
            if self.realtime:
                time.sleep(self.blocksize / self.samplerate)
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing to close."""
