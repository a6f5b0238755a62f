"""Sounds as numbers from −1 to 1: of a WAV file, or from a microphone."""

import array
import contextlib
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

RATE = 8000  # of streams: what recipes/speech.py's take
MOST = 2**22  # samples in a request: what its models take


def read(path: Path) -> tuple[list[float], int]:
    """(samples, the mean of all channels; samples a second)."""
    with opened(path) as file:
        rate, samples = file.getframerate(), samples_of(file, MOST + 1)
        if len(samples) > MOST:
            raise SystemExit(
                f"{path} has more than {MOST:,} samples, {MOST / rate:.0f} seconds: too many for a "
                f"request. Cut it, give it {RATE} a second, or, if the model has a stream, "
                "use --stream."
            )
        return samples, rate


def pieces(path: Path) -> Iterator[list[float]]:
    """A tenth of a second after the other, at `RATE`, read when it is asked for."""
    with opened(path) as file:
        if file.getframerate() != RATE:
            raise SystemExit(
                f"{path} has {file.getframerate()} samples a second, and a stream {RATE}: "
                f"sox IN -r {RATE} OUT. (Without --stream any usual rate will do.)"
            )
        while piece := samples_of(file, RATE // 10):
            yield piece


@contextlib.contextmanager
def opened(path: Path) -> Iterator[wave.Wave_read]:
    """The file, once it is known to be one of 16 bits."""
    try:
        with wave.open(str(path)) as file:
            bits = 8 * file.getsampwidth()
            if bits != 16:
                raise SystemExit(f"{path} has {bits} bits a sample; make it 16: sox IN -b 16 OUT")
            yield file
    except FileNotFoundError:
        raise SystemExit(f"There is no file {path}.") from None
    except (OSError, EOFError, wave.Error) as error:
        raise SystemExit(
            f"{path} can't be read as a WAV file of whole numbers ({error}): sox IN -b 16 OUT.wav"
        ) from None


def samples_of(file: wave.Wave_read, count: int) -> list[float]:
    """The next `count` samples, the mean of all channels, from −1 to 1; fewer at the end."""
    channels = file.getnchannels()
    data = file.readframes(count)
    values = array.array("h", data[: len(data) // (2 * channels) * 2 * channels])
    if sys.byteorder == "big":
        values.byteswap()
    rows = [values[channel::channels] for channel in range(channels)]
    return [sum(row) / (channels * 32768) for row in zip(*rows)]


def microphone(rate: int) -> Iterator[list[float]]:
    """What is heard now, a tenth of a second at a time, without end."""
    try:
        import sounddevice
    except ImportError as error:
        raise SystemExit(f"--microphone: {error}; pip install sounddevice") from None
    except OSError as error:
        raise SystemExit(f"--microphone: {error}; install it: apt install libportaudio2") from None
    try:
        with sounddevice.RawInputStream(rate, dtype="int16", channels=1) as heard:
            print("Speak; Ctrl-C ends.", flush=True)
            while True:
                data, missed = heard.read(rate // 10)
                if missed:
                    print("(Some was missed: the server is slower than speech.)", file=sys.stderr)
                yield [x / 32768 for x in array.array("h", bytes(data))]
    except sounddevice.PortAudioError as error:
        raise SystemExit(f"--microphone: there is none that can be opened ({error}).") from None
