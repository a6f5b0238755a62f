"""Voices that nobody has: words read out by eSpeak NG, a synthesizer by formants, in English.

Each is one of its accents and one of its throats, higher or lower; each word is a little faster or
slower, and livelier or flatter. To people they sound like machines. But they say "seven" in
hundreds of ways, where a few speakers have a few.
"""

import ctypes
import functools
from pathlib import Path

import numpy as np

from recipes.common.recordings import Recording, resampled

ACCENTS = "en", "en-us", "en-us-nyc", "en-029", "en-gb-scotland", "en-gb-x-rp"
NO_VOICES = "Demonic", "UniRobot", "Storm", "anikaRobot", "croak", "fast"  # nor robosoft, whisper
WORDS_A_MINUTE, PITCH, RANGE = (1, (110, 230)), (3, (15, 90)), (4, (20, 80))  # numbers of eSpeak's


def recordings(count: int, words: list[str], rate: int, seed: int) -> list[Recording]:
    """Each word by `count` voices, at `rate`.

    Raises:
        SystemExit: If eSpeak NG is not installed.
    """
    random, found = np.random.default_rng(seed), []
    if not count:
        return found
    say, native = synthesizer()
    for k in range(count):
        voice = f"{random.choice(ACCENTS)}+{random.choice(throats())}"
        pitch = random.integers(*PITCH[1])
        for word in words:
            settings = {PITCH[0]: pitch + random.integers(-8, 9)}
            settings |= {which: random.integers(*of) for which, of in (WORDS_A_MINUTE, RANGE)}
            samples = resampled(say(word, voice, settings), native, rate)
            loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
            samples = samples[loud[0] : loud[-1] + 1]
            found.append(Recording(samples, word, f"made up {k}", f"{word}, by made-up voice {k}"))
    return found


@functools.cache
def synthesizer() -> tuple:
    """(what says a word, by a voice, with settings by eSpeak's numbers; its samples a second)."""
    try:
        import espeakng_loader
    except ImportError:
        raise SystemExit("--made-up-voices are eSpeak NG's: pip install espeakng-loader") from None
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    folder = str(Path(espeakng_loader.get_data_path()).parent).encode()
    rate, heard = library.espeak_Initialize(2, 0, folder, 0), []  # 2: samples, while one waits

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def hear(samples, count, _):
        if count > 0:
            heard.append(np.ctypeslib.as_array(samples, (count,)) / np.float32(2**15))
        return 0

    library.espeak_SetSynthCallback(hear)

    def say(word: str, voice: str, settings: dict[int, int]) -> np.ndarray:
        heard.clear()
        if library.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f"eSpeak NG has no voice {voice!r}")
        for which, value in settings.items():
            library.espeak_SetParameter(which, int(value), 0)
        library.espeak_ng_SetRandSeed(ctypes.c_long(settings[PITCH[0]]))  # of its breath
        text = word.encode()
        library.espeak_Synth(text, len(text) + 1, 0, 1, 0, 1, None, None)  # in UTF-8, whole
        return np.concatenate(heard)

    say.heard_by = hear  # else it would be gone, and called
    return say, rate


@functools.cache
def throats() -> list[str]:
    """The names of eSpeak's that sound like people."""
    import espeakng_loader

    folder = Path(espeakng_loader.get_data_path()) / "voices" / "!v"
    names = sorted(path.name for path in folder.iterdir())
    return [name for name in names if not name.startswith((*NO_VOICES, "robosoft", "whisper"))]
