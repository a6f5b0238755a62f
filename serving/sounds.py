"""Sounds as numbers from −1 to 1: of a WAV file, or from a microphone."""

import array
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

RATE = 8000  # that a microphone is asked for: what recipes/speech.py's streams take


def read(path: Path) -> tuple[list[float], int]:
    """(samples, the mean of all channels; samples a second)."""
    try:
        with wave.open(str(path)) as file:
            channels, width, rate, count, *_ = file.getparams()
            data = file.readframes(count)
    except FileNotFoundError:
        raise SystemExit(f"There is no file {path}.") from None
    except (OSError, EOFError, wave.Error) as error:
        raise SystemExit(f"{path} can't be read as a WAV file: {error}") from None
    if width != 2:
        raise SystemExit(f"{path} has {8 * width} bits a sample; make it 16: sox IN -b 16 OUT")
    values = array.array("h", data[: len(data) // (2 * channels) * 2 * channels])
    if sys.byteorder == "big":
        values.byteswap()
    rows = [values[channel::channels] for channel in range(channels)]
    return [sum(row) / (channels * 32768) for row in zip(*rows)], rate


def pieces(samples: list[float], rate: int) -> Iterator[list[float]]:
    """A tenth of a second after the other."""
    step = max(1, rate // 10)
    for start in range(0, len(samples), step):
        yield samples[start : start + step]


def microphone(rate: int) -> Iterator[list[float]]:
    """What is heard now, a tenth of a second at a time, until Ctrl-C."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise SystemExit(f"--microphone: {error}; pip install sounddevice") from None
    try:
        with sounddevice.RawInputStream(rate, dtype="int16", channels=1) as heard:
            print("Speak; Ctrl-C ends.", flush=True)
            while True:
                data, _ = heard.read(rate // 10)
                yield [x / 32768 for x in array.array("h", bytes(data))]
    except KeyboardInterrupt:
        return
    except sounddevice.PortAudioError as error:
        raise SystemExit(f"--microphone: there is none that can be opened ({error}).") from None
