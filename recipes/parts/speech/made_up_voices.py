"""Voices that nobody has: words read out by eSpeak NG, a synthesizer by formants, in English.

Each is one of its accents and one of its throats, higher or lower; each word is a little faster or
slower, and livelier or flatter. To people they sound like machines. But they say "seven" in
hundreds of ways, where a few speakers have a few.
"""

import ctypes
import functools
from pathlib import Path

import numpy as np

from recipes.parts.speech.recordings import Recording, resampled

ACCENTS = "en", "en-us", "en-us-nyc", "en-029", "en-gb-scotland", "en-gb-x-rp"
NO_VOICES = "Demonic", "UniRobot", "Storm", "anikaRobot", "croak", "fast"  # nor robosoft, whisper
SYNCHRONOUS, DONT_EXIT = 2, 0x8000  # eSpeak's, as are the first numbers here:
WORDS_A_MINUTE, PITCH, RANGE = (1, (110, 230)), (3, (15, 90)), (4, (20, 80))


def recordings(count: int, words: list[str], rate: int, seed: int) -> list[Recording]:
    """Each word by `count` voices, at `rate`.

    Raises:
        SystemExit: If eSpeak NG is not installed, or has no sound for a word.
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
            samples = say(word, voice, settings)
            if not samples.any():
                raise SystemExit(f"eSpeak NG has no sound for {word!r}: --made-up-voices 0.")
            samples = resampled(samples, native, rate)
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
    folder = Path(espeakng_loader.get_data_path()).parent
    try:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
    except OSError as error:
        raise SystemExit(f"eSpeak NG can't be loaded ({error}): --made-up-voices 0.") from None
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, str(folder).encode(), DONT_EXIT)
    if rate <= 0:
        raise SystemExit(
            f"eSpeak NG can't read its data in {folder} (it takes 150 bytes of a path): install "
            "into a shorter one, or --made-up-voices 0."
        )
    heard = [np.zeros(0, "float32")]

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def hear(samples, count, _):
        if count > 0:
            heard.append(np.ctypeslib.as_array(samples, (count,)) / np.float32(2**15))
        return 0

    library.espeak_SetSynthCallback(hear)

    def say(word: str, voice: str, settings: dict[int, int]) -> np.ndarray:
        del heard[1:]
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
