"""A guitar amp in an audio callback: 64 samples at a time, everything prepared before the first block.

python examples/audio_callback.py            through the sound card (pip install 'streamrnn[audio]')
python examples/audio_callback.py out.wav    through a file-driven fake device, written to out.wav
"""

import sys
import time
from pathlib import Path

import numpy as np
import soundfile
from fake_device import FileStream

import streamrnn

HERE = Path(__file__).parent
RATE, BLOCK = 48000, 64

engine = streamrnn.load(HERE / "models" / "amp.onnx")
# a cable pulled out or a driver that hands over NaN must not silence the amp for ever
stream = streamrnn.Stream(engine, on_nonfinite="hold")
frames = {"audio": np.zeros((BLOCK, 1), np.float32), "drive": np.full((BLOCK, 1), 0.7, np.float32)}
out = np.zeros((BLOCK, 1), np.float32)
stream.process(frames, out=out)  # the first call touches all memory once
stream.reset()
busy: list[float] = []


def callback(indata: np.ndarray, outdata: np.ndarray, count: int, when: object, status: object) -> None:
    """Runs on the audio thread every 1.3 ms: copy in, one compiled block, copy out."""
    began = time.perf_counter()
    frames["audio"][:] = indata[:, :1]
    stream.process(frames, out=out)
    outdata[:] = out
    busy.append(time.perf_counter() - began)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        with FileStream(HERE / "audio" / "guitar_48k.wav", BLOCK, callback) as device:
            soundfile.write(sys.argv[1], device.played, RATE)
        deadline = BLOCK / RATE
        print(f"{len(busy)} blocks of {BLOCK} samples, peak {np.abs(device.played).max():.2f}, written to {sys.argv[1]}")
        print(f"median {np.median(busy) * 1e6:.0f} us of the {deadline * 1e6:.0f} us between two blocks")
    else:
        import sounddevice

        with sounddevice.Stream(samplerate=RATE, blocksize=BLOCK, channels=1, dtype="float32", callback=callback):
            input("the amp is live; press Enter to stop\n")
