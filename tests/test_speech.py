"""Speech: the front end against its equations, and each answer against one found another way."""

import itertools
import json
import sys

import keras
import numpy as np
import pytest
import scipy.signal
import scipy.special
import soundfile
import tensorflow as tf
from conftest import answered, portable_ops

from recipes import speech
from recipes.common.samples import syllables
from recipes.parts.speech import (
    augmentation,
    ctc,
    made_up_voices,
    recordings,
    resampling,
    spectral_shapes,
    speech_export,
    voice_level,
    word_strings,
)
from recipes.parts.speech.log_mel import QUIET, LogMel
from recipes.parts.speech.recordings import Recording

pytestmark = pytest.mark.usefixtures("without_graph_optimizer")
RANDOM = np.random.default_rng(0)
QUICK = ["--epochs", "6"]
SOUND = syllables.word(3, "ann", RANDOM)


# --- The front end -----------------------------------------------------------------------------


def log_mel_by_numpy(x, rate, bands, stack, a=1.0, b=1.0):
    """The equations at the top of recipes/parts/speech/log_mel.py, one frame and band at a time."""
    window, hop = rate // 40, rate // 100
    size = 2 ** int(np.ceil(np.log2(window)))
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    mel = lambda f: 1127 * np.log(1 + f / 700)  # noqa: E731
    edges = np.linspace(mel(60), mel(0.475 * rate), bands + 2)
    place = mel(a * np.arange(size // 2 + 1) * rate / size)
    frames = []
    for start in np.round(np.arange(0, len(x) - window + 1, b * hop)).astype(int):
        power = np.abs(np.fft.rfft(x[start : start + window] * hann, size)) ** 2
        up, down = np.zeros((2, bands, len(place)))
        for m in range(bands):
            low, middle, high = edges[m : m + 3]
            up[m] = (place - low) / (middle - low)
            down[m] = (high - place) / (high - middle)
        weights = np.maximum(0, np.minimum(up, down))
        weights[:, 0] = 0
        frames.append(np.log(QUIET + weights @ power))
    steps = len(frames) // stack
    return np.array(frames[: steps * stack]).reshape(steps, stack * bands)


@pytest.mark.parametrize("rate, stack", [(8000, 3), (16000, 1)])
def test_the_front_end_is_its_equations(rate, stack):
    hear = LogMel(rate, bands=20, stack=stack)
    expected = log_mel_by_numpy(SOUND.astype(float), rate, 20, stack)
    found = hear(SOUND[None]).numpy()[0]
    np.testing.assert_allclose(found, expected, atol=2e-3)
    hear.adapt([SOUND])
    found = hear(SOUND[None]).numpy().reshape(-1, 20)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(found.std(0), 1, atol=0.02)


@pytest.mark.parametrize("a, b", [(1.0, 1.0), (1.15, 1.0), (0.87, 1.3), (1.0, 0.75)])
def test_another_voice_is_its_equations(a, b):
    hear = LogMel(bands=20)
    expected = log_mel_by_numpy(SOUND.astype(float), 8000, 20, 3, a, b)
    steps = hear.paced_steps(len(SOUND), tf.constant([b]))
    found = hear.voiced(SOUND[None], tf.constant([a]), tf.constant([b]))[0]
    assert steps.numpy() == [len(expected)]
    np.testing.assert_allclose(tf.reshape(found, expected.shape), expected, atol=5e-3)


def test_in_training_each_row_has_a_voice_of_its_own():
    hear = LogMel(bands=20, warp=1.2, pace=1.4)
    same = np.repeat(SOUND[None], 40, axis=0)
    x, mask = hear(same, np.full(40, len(SOUND)), training=True)
    counts = mask.numpy().sum(1)
    usual = hear.steps(len(SOUND)).numpy()
    assert usual / 1.4 - 1 <= counts.min() < 0.9 * usual and counts.max() > 1.1 * usual
    assert counts.max() <= usual * 1.4 + 1 and x.shape[:2] == mask.shape
    assert len(np.unique(x[:, 0, 0])) == 40


def test_however_fast_a_recording_that_makes_a_step_makes_one():
    hear = LogMel(bands=20, pace=1.4)
    samples = np.zeros((100, 4000), "float32")
    _, mask = hear(samples, np.full(100, hear.needed), training=True)
    assert np.all(mask.numpy().sum(1) == 1)
    assert hear.paced_steps(hear.needed - 1, tf.constant([1.4])).numpy() == [0]


def test_a_text_too_long_for_its_sound_is_refused():
    symbols = ctc.Symbols(["a", "b"], "")
    sound = recordings.Recording(np.zeros(600), "abba", "", "x.wav")
    symbols.refuse_crowded([sound], lambda samples: samples // 120)  # five
    with pytest.raises(SystemExit, match=r"x.wav: a text of 5 symbols .* time for 4"):
        symbols.refuse_crowded([sound], lambda samples: samples // 150)


def test_a_streams_steps_are_those_of_the_whole():
    hear = LogMel(bands=20)
    hear.adapt([SOUND])
    whole = hear(SOUND[None]).numpy()
    for size in (113, 240, 1000, len(SOUND)):
        tail, steps = np.zeros((1, 0), "float32"), []
        for start in range(0, len(SOUND), size):
            heard = tf.concat([tail, SOUND[None, start : start + size]], axis=1)
            steps.append(hear(heard))
            tail = hear.split_off_tail(heard)
            assert tail.shape[1] < hear.needed
        np.testing.assert_allclose(tf.concat(steps, axis=1), whole, atol=1e-5)


def test_steps_that_count_are_known():
    hear = LogMel()
    lengths = [0, 359, 360, 599, 600, 4000]
    x, mask = hear(np.zeros((6, 4000), "float32"), np.array(lengths))
    assert x.shape[:2] == mask.shape
    for n, real in zip(lengths, mask.numpy()):
        assert real.sum() == hear(np.zeros((1, n), "float32")).shape[1]


def test_what_pads_a_recording_changes_nothing():
    data = recordings.sample(0, each=1)
    model = speech.together(speech.build_for_words(data, ["a", "b"], "gru", units=8))
    with_biases(model)
    short = data[0].samples[:2040]
    padded = np.zeros((2, 9000), "float32")
    padded[0, : len(short)] = short
    padded[1] = RANDOM.normal(size=9000)
    together = model({"samples": padded, "lengths": np.array([len(short), 9000])})
    alone = model({"samples": short[None], "lengths": np.array([len(short)])})
    np.testing.assert_allclose(together[0], alone[0], atol=1e-5)


def with_biases(model):
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Conv2D):
            layer.bias.assign(RANDOM.normal(size=layer.bias.shape))


def test_networks_learn_each_alone_and_answer_together():
    data = recordings.sample(0, each=1)
    words = sorted({one.text for one in data})
    model = speech.build_for_words(data, words, "gru", units=8, networks=2)
    x, truth = next(iter(speech.batches(data, words, vary=False, batch=8)))
    with tf.GradientTape(persistent=True) as tape:
        said = model(x)
        losses = speech.loss_of_each(truth, said)
        alone = keras.losses.sparse_categorical_crossentropy(truth, said[:, 1], from_logits=True)
    second = model.get_layer("network_2").trainable_weights
    assert len(second) * 2 == len(model.trainable_weights)
    for of_all, of_one in zip(tape.gradient(losses, second), tape.gradient(alone, second)):
        np.testing.assert_allclose(of_all, of_one / 2, atol=1e-6)
    chances = scipy.special.softmax(said, axis=-1)
    right = np.take_along_axis(chances, truth.numpy()[:, None, None], axis=2)
    np.testing.assert_allclose(losses, -np.log(right).mean((1, 2)), rtol=1e-5)
    assert np.abs(said[:, 0] - said[:, 1]).max() > 0.01  # they begin otherwise
    expected = np.log(chances).mean(1)
    np.testing.assert_allclose(speech.together(model)(x), expected, atol=1e-5)
    np.testing.assert_array_equal(speech.accuracy(truth, said), expected.argmax(1) == truth.numpy())
    with pytest.raises(SystemExit):
        speech.arguments(["--strings", "--networks", "2"])


def test_shapes_are_found_in_real_steps_alone():
    x, mask = keras.Input((None, 120)), keras.Input((None,), dtype="bool")
    model = keras.Model([x, mask], spectral_shapes.convolved(x, mask, 40))
    with_biases(model)
    x = RANDOM.normal(size=(2, 7, 120)).astype("float32")
    x[1, :5], real = x[0, :5], np.array([[True] * 5 + [False] * 2] * 2)
    found = model([x, real]).numpy()
    assert found.shape == (2, 7, 320)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    alone = model([x[:1, :5], real[:1, :5]])
    np.testing.assert_allclose(found[0, :5], alone[0], atol=1e-5)


def test_a_shape_eight_bands_higher_is_the_same_shape_one_place_further():
    """In each of a step's frames: so many bands share a feature."""
    model = spectral_shapes.of_one_step(3 * 40, 40)
    low = np.zeros((4, 3, 40), "float32")
    low[..., 16:24] = RANDOM.normal(size=(4, 3, 8))
    below, above = (
        model(x.reshape(4, 120)).numpy().reshape(4, 5, 64) for x in (low, np.roll(low, 8, axis=-1))
    )
    np.testing.assert_allclose(above[:, 1:], below[:, :-1], atol=1e-6)
    assert np.abs(below[:, 2]).max() > 0.01
    swapped = model(low[:, ::-1].reshape(4, 120)).numpy()  # frames are told apart
    assert np.abs(swapped - below.reshape(4, 320)).max() > 0.01


# --- Rates -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [4000, 11025, 16000, 44100, 48000])
def test_a_tone_is_the_same_tone_at_another_rate(rate):
    def tone(frequency, rate):
        return np.sin(2 * np.pi * frequency * np.arange(rate // 2) / rate + 1).astype("float32")

    low, high = (
        resampling.resample(tf.constant(tone(f, rate)[None]), tf.constant(rate), 8000)[0].numpy()
        for f in (700.0, 0.3 * rate)
    )
    assert len(low) == 8000 * (rate // 2) // rate
    expected = tone(700.0, 8000)[: len(low)]
    np.testing.assert_allclose(low[300:-300], expected[300:-300], atol=2e-3)
    if 0.3 * rate > 4500:  # what can't be held is gone
        assert np.abs(high[300:-300]).max() < 2e-3


def test_a_rate_that_is_none_is_named():
    for rate in (0, 3999, 44099, 200_000):
        with pytest.raises(tf.errors.InvalidArgumentError, match="`rate` must be"):
            resampling.resample(tf.zeros((1, 10)), tf.constant(rate), 8000)


# --- Data --------------------------------------------------------------------------------------


def write(path, samples, rate=8000):
    soundfile = pytest.importorskip("soundfile")
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)
    return path


def test_sounds_are_read_as_mono_at_one_rate(tmp_path):
    t = np.arange(44100) / 44100
    left = 0.5 * np.sin(2 * np.pi * 440 * t)
    path = write(tmp_path / "x.flac", np.stack([left, 0 * left], axis=1), 44100)
    found = recordings.read(path, 8000)
    expected = 0.25 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[200:-200], expected[200:-200], atol=2e-3)


def test_what_is_no_recording_is_named(tmp_path):
    (tmp_path / "text.wav").write_text("not a sound at all")
    (tmp_path / "empty.wav").touch()
    write(tmp_path / "none.wav", np.zeros(0))
    write(tmp_path / "silent.wav", np.full(8000, 0.25))
    write(tmp_path / "constant.wav", np.full(44100, 0.25), 44100)
    write(tmp_path / "hour.wav", np.zeros(3600 * 100), 100)
    soundfile.write(tmp_path / "large.wav", 3000 * SOUND, 8000, subtype="FLOAT")
    for name, says in (
        ("text", "can't be read as a sound"),
        ("empty", "can't be read as a sound"),
        ("none", "shorter than"),
        ("silent", "is silent"),
        ("constant", "is silent"),
        ("hour", "cut it into pieces"),
        ("large", "numbers of 16 bits, divide by 32768"),
    ):
        with pytest.raises(SystemExit, match=rf"{name}.wav.*{says}"):
            recordings.read(tmp_path / f"{name}.wav", 8000)


def test_strings_are_cut_where_their_words_are():
    for names in (["yes, sir", "stop"], ["a; b", "c, d", "e"], ["1", "one two"]):
        symbols = ctc.Symbols.of(names, letters=False)
        text = symbols.separator.join(names)
        assert [symbols.names[k] for k in symbols.numbers(text)] == names


def test_a_folder_has_a_word_in_each_folder(tmp_path, capsys):
    args = speech.arguments(["--data", str(tmp_path), "--output", str(tmp_path / "run")])
    with pytest.raises(SystemExit, match=r"WORD/FILE\.wav"):
        recordings.load(args, 8000)
    for word in ("yes", "no", "_background_noise_"):
        for k in range(20):
            write(tmp_path / word / f"{k % 10:02x}_nohash_{k // 10}.wav", SOUND[:800])
    data = recordings.load(args, 8000)
    assert {r.text for part in data.values() for r in part} == {"yes", "no"}
    speakers = [{r.speaker for r in part} for part in data.values()]
    assert sum(map(len, speakers)) == len(set.union(*speakers)) == 10  # each in one part
    for part in ("testing", "validation"):
        name = {"testing": "00", "validation": "01"}[part]
        (tmp_path / f"{part}_list.txt").write_text(f"yes/{name}_nohash_0.wav\n")
    data = recordings.load(args, 8000)
    assert [r.name for r in data["test"]] == ["yes/00_nohash_0.wav"]
    assert {part: len(x) for part, x in data.items()} == {"train": 38, "validation": 1, "test": 1}
    (tmp_path / "validation_list.txt").unlink()
    write(tmp_path / "no/ann 1.wav", SOUND[:800])
    lists = tmp_path / "testing_list.txt"
    lists.write_text("\ufeffno\\ann 1.wav\n./yes/00_nohash_0.wav\n\nmaybe/00_nohash_0.wav\n")
    data = recordings.load(args, 8000)
    assert [r.name for r in data["test"]] == ["no/ann 1.wav", "yes/00_nohash_0.wav"]
    assert {part: len(x) for part, x in data.items()} == {"train": 36, "validation": 3, "test": 2}
    assert "1 of 3 lines name no recording that is here, as 'maybe/00" in capsys.readouterr().out
    for content in (b"yes/00_nohash_0.WAV", b"yes/00", b"data/yes/00_nohash_0.wav", b""):
        lists.write_bytes(content)
        with pytest.raises(SystemExit, match="names no recording that is here: each line must be"):
            recordings.load(args, 8000)
    lists.write_bytes("yes/00_nohash_0.wav".encode("utf-16"))
    with pytest.raises(SystemExit, match="not in UTF-8"):
        recordings.load(args, 8000)
    for part in ("testing", "validation"):
        (tmp_path / f"{part}_list.txt").write_text("yes/00_nohash_0.wav")
    with pytest.raises(SystemExit, match=r"is in testing_list\.txt and validation_list\.txt"):
        recordings.load(args, 8000)
    lists.write_text("yes/00_nohash_0.wav")
    lists.rename(tmp_path / "validation_list.txt")
    with pytest.raises(SystemExit, match=r"has a validation_list\.txt: add a testing_list\.txt"):
        recordings.load(args, 8000)


def test_who_speaks_in_a_folder_is_known_by_the_files_names_or_not_at_all(tmp_path):
    for name in ("yes/ann_1", "yes/ben_1", "yes/7", "yes/yes_1", "yes/no_2", "no/ann_1", "no/8"):
        write(tmp_path / f"{name}.wav", SOUND)
    write(tmp_path / "no/9.flac", SOUND)
    found = recordings.from_folder(tmp_path, 8000)
    assert {r.name: r.speaker for r in found} == {
        "no/8.wav": "", "no/9.flac": "", "no/ann_1.wav": "ann", "yes/7.wav": "",
        "yes/ann_1.wav": "ann", "yes/ben_1.wav": "ben", "yes/no_2.wav": "", "yes/yes_1.wav": "",
    }  # fmt: skip
    (tmp_path / "no/bad.wav").touch()
    (tmp_path / "yes/worse.wav").touch()
    with pytest.raises(SystemExit, match=r"bad\.wav can't be read.*\n.*worse\.wav can't be read"):
        recordings.from_folder(tmp_path, 8000)


def table(folder, rows, header="path,text,speaker"):
    path = folder / "spoken.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_table_names_recordings_and_what_they_say(tmp_path):
    for speaker in ("ann", "ben", "cat"):
        for k in range(10):
            write(tmp_path / f"{speaker}_{k}.wav", 0.1 * RANDOM.normal(size=900).clip(-5, 5))
    rows = [f'{s}_{k}.wav,"text  {k}",{s}' for s in ("ann", "ben", "cat") for k in range(10)]
    path = table(tmp_path, rows)
    found = recordings.from_table(path, 8000)
    assert [(r.text, r.speaker, r.name) for r in found[:2]] == [
        ("text 0", "ann", "ann_0.wav"), ("text 1", "ann", "ann_1.wav")
    ]  # fmt: skip
    places = ["--data", str(path), "--output", str(tmp_path / "run")]
    data = recordings.load(speech.arguments([*places, "--test-speaker", "ben"]), 8000)
    assert [r.name for r in data["test"]] == [f"ben_{k}.wav" for k in range(10)]
    assert [r.name for r in data["validation"]] == ["ann_0.wav", "cat_0.wav"]  # of 20
    assert len(data["train"]) == 18
    with pytest.raises(SystemExit, match="there is no 'eve', but ann, ben, cat"):
        recordings.load(speech.arguments([*places, "--test-speaker", "eve"]), 8000)
    data = recordings.load(speech.arguments(places), 8000)
    assert {part: len(x) for part, x in data.items()} == {"train": 24, "validation": 3, "test": 3}


def test_a_table_that_can_not_be_used_is_named_with_its_line(tmp_path):
    write(tmp_path / "a.wav", SOUND)
    for rows, header, says in (
        (["a.wav,"], "path,text", "line 2: there is no text"),
        (["", "hello"], "text,path", "line 3: there is no path"),
        (['"two', 'lines",a.wav', "hello,"], "text,path", "line 4: there is no path"),
        (["a.wav"], "path", "needs the columns path and text"),
        ([], "path,text", "needs the columns path and text"),
        (["b.wav,hello"], "path,text", r"b\.wav can't be read"),
    ):
        with pytest.raises(SystemExit, match=says):
            recordings.from_table(table(tmp_path, rows, header), 8000)
    with pytest.raises(SystemExit, match="is one recording"):
        recordings.from_table(tmp_path / "a.wav", 8000)


def test_a_recording_that_is_trained_on_and_tested_on_is_told_of(capsys):
    found = [Recording(RANDOM.normal(size=500), "1", f"s{k}", str(k)) for k in range(3)]
    data = {"train": found[:1], "validation": found[1:2], "test": found[2:]}
    recordings.split_of(data)
    assert capsys.readouterr().out == ""
    recordings.split_of(data | {"test": [*data["test"], found[0]._replace(name="copy")]})
    assert "1 of the 2 recordings to test on are in the training part" in capsys.readouterr().out


def made_up(speakers=("a", "b", "c", "d"), each=10):
    return [
        Recording(SOUND * RANDOM.uniform(0.5, 1), text, speaker, f"{text}_{speaker}_{k}")
        for speaker in speakers
        for text in "01"
        for k in range(each)
    ]


def test_who_is_tested_on_was_never_heard(capsys):
    found = made_up()
    each = lambda r: (r.speaker, r.text)  # noqa: E731
    for test in ("a", "d", None):
        data = recordings.by_speaker(found, test, each)
        others = set("abcd") - {test or "d"}
        assert {r.name for r in data["test"]} == {r.name for r in found if r.speaker not in others}
        assert {r.name for r in data["validation"]} == {f"{t}_{s}_0" for t in "01" for s in others}
        assert {r.speaker for r in data["train"]} == others and len(data["train"]) == 54
    with pytest.raises(SystemExit, match="there is no 'e', but a, b, c, d"):
        recordings.by_speaker(found, "e", each)
    with pytest.raises(SystemExit, match="only speaker is a, and another"):
        recordings.by_speaker(made_up("a"), None, each)
    with pytest.raises(SystemExit, match="who speaks is not known of all recordings: x"):
        recordings.by_speaker([*found, Recording(SOUND, "0", "", "x.wav")], "a", each)
    assert recordings.split_of(data) == "speakers"
    data = recordings.split_by_group(found, lambda r: (r.speaker, r.text), None)
    assert recordings.split_of(data) == "shared"
    said = capsys.readouterr().out
    assert said == "Of 4 voices to test on, 4 are in training, too.\n"
    recordings.refuse_unheard(data, ["0", "1"])
    with pytest.raises(SystemExit, match=r"'1' \(1_._.\) is said by nobody in the training part"):
        recordings.refuse_unheard(data, ["0"])
    assert {r.name for r in data["test"]} == {f"{t}_{s}_0" for t in "01" for s in "abcd"}
    assert len(data["validation"]) == 8 and len(data["train"]) == 64


# --- Augmentation ------------------------------------------------------------------------------


def test_another_microphone_changes_levels_of_frequencies_and_nothing_else():
    gains = augmentation.another_microphone(64, np.random.default_rng(0))
    assert gains.max() / gains.min() > 2
    time = np.arange(4000) / 8000
    for frequency in (500, 1000, 3000):
        x = np.sin(2 * np.pi * frequency * time).astype("float32")
        gain = np.interp(frequency / 4000 * 63, np.arange(64), gains)
        np.testing.assert_allclose(augmentation.heard_by(gains, x), gain * x, atol=0.01 * gain)
    np.testing.assert_allclose(augmentation.heard_by(np.ones(64), SOUND), SOUND, atol=1e-6)


def test_edges_are_cut_by_their_level():
    quiet, loud = np.full(800, 0.01, "float32"), np.full(1600, 0.5, "float32")  # 34 dB apart
    x = np.concatenate([quiet, loud, 2 * quiet, loud, quiet, quiet])
    np.testing.assert_array_equal(augmentation.cut(x, -40, 800), x)
    np.testing.assert_array_equal(augmentation.cut(x, -30, 800), x[800:-1600])  # not in between
    np.testing.assert_array_equal(augmentation.cut(x, -30, 5000), x)  # too little were left
    np.testing.assert_array_equal(augmentation.cut(x[:100], -30, 800), x[:100])
    np.testing.assert_array_equal(augmentation.cut(0 * x, -10, 800), 0 * x)
    lengths = [len(augmentation.cut_off([x], np.random.default_rng(k), 8000)[0]) for k in range(50)]
    assert set(lengths) == {len(x), len(x) - 2400}


def test_a_tables_texts_lose_no_edges_and_words_do():
    x = np.concatenate([np.full(16000, 0.001), np.sin(np.arange(4000))]).astype("float32")
    symbols, data = ctc.Symbols.of(["ab"], letters=True), [Recording(x, "ab", "", "")] * 9
    whole, _ = next(iter(speech.text_batches(data, symbols, True, 9)))
    words, _ = next(iter(speech.batches(data, ["ab"], True, 9)))
    assert whole["lengths"].numpy().min() > len(x) / augmentation.FASTEST
    assert words["lengths"].numpy().max() < len(x) / 2


def test_made_up_voices_say_the_words_each_otherwise():
    found = made_up_voices.recordings(6, ["six", "turn on"], 8000, seed=0)
    assert [r.text for r in found] == ["six", "turn on"] * 6
    assert len({r.speaker for r in found}) == 6
    for r in found:
        assert 0.1 < len(r.samples) / 8000 < 2 and 0.1 < np.abs(r.samples).max() < 1.1
    seconds = np.array([len(r.samples) for r in found]).reshape(6, 2) / 8000
    assert np.ptp(seconds[:, 0]) > 0.05 and (seconds[:, 0] < seconds[:, 1]).mean() > 0.6
    # An s hisses, a vowel doesn't: how often the sign changes, at the end and in the middle.
    changes = [np.diff(np.sign(r.samples)) != 0 for r in found[::2]]
    hiss = [[c[-400:].mean(), c[len(c) // 4 : len(c) // 2].mean()] for c in changes]
    assert np.mean(hiss, axis=0)[0] > 1.5 * np.mean(hiss, axis=0)[1]
    assert len(made_up_voices.throats()) > 50 and not made_up_voices.recordings(0, ["a"], 8000, 0)


def test_who_has_no_synthesizer_is_told_how_to_get_it(monkeypatch):
    made_up_voices.synthesizer.cache_clear()
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(SystemExit, match="pip install espeakng-loader"):
        made_up_voices.recordings(1, ["six"], 8000, seed=0)


def test_made_up_voices_are_of_the_spoken_digits(tmp_path, capsys):
    assert speech.arguments([]).made_up_voices == 100
    assert speech.arguments([]).epochs == 16 and speech.arguments(["--strings"]).epochs == 30
    assert speech.arguments(["--strings", "--epochs", "2"]).epochs == 2
    assert speech.arguments(["--made-up-voices", "0"]).made_up_voices == 0
    assert speech.arguments(["--dataset", "sample"]).made_up_voices == 0
    path = ["--data", str(table(tmp_path, ["a.wav,text,ann"])), "--output", str(tmp_path / "run")]
    assert speech.arguments(path).made_up_voices == 0
    with pytest.raises(SystemExit):
        speech.arguments([*path, "--made-up-voices", "9"])
    assert "say words, not a table's texts" in capsys.readouterr().err


def test_words_are_joined_at_their_levels_above_the_noise():
    words = [SOUND, 0.1 * SOUND]
    pauses, levels = np.array([800, 1600, 2400]), np.array([-20.0, -30.0])
    clean = augmentation.joined(words, pauses, levels, None, 0.0, RANDOM)
    assert len(clean) == 4800 + 2 * len(SOUND)
    first, second = clean[800 : 800 + len(SOUND)], clean[-2400 - len(SOUND) : -2400]
    np.testing.assert_allclose(second, first * 10 ** (-10 / 20), atol=1e-5)
    assert augmentation.decibels(first) == pytest.approx(-20, abs=0.01)
    noisy = augmentation.joined(words, pauses, levels, 15.0, 1.0, RANDOM)
    rest = noisy - clean
    assert 10 * np.log10(np.mean(rest**2)) == pytest.approx(-25 - 15, abs=0.01)


def test_noise_has_its_colour():
    for colour in (0.0, 1.0, 2.0):
        frequencies, power = scipy.signal.welch(augmentation.noise(2**16, colour, RANDOM), 1.0)
        some = slice(10, 120)
        slope, _ = np.polyfit(np.log(frequencies[some]), np.log(power[some]), 1)
        assert slope == pytest.approx(-colour, abs=0.15)


def test_spec_augment_leaves_out_strips_in_training_alone():
    """Each made the mean of its row's real steps, and of these alone so many."""
    layer = augmentation.SpecAugment(bands=8, widest=0.5)
    x = RANDOM.normal(RANDOM.normal(0, 9, (64, 1, 1)), size=(64, 40, 16)).astype("float32")
    counts = RANDOM.integers(1, 41, 64)
    real = np.arange(40) < counts[:, None]
    np.testing.assert_array_equal(layer(x, real), x)
    found = layer(x, real, training=True).numpy()
    lost = found != x
    means = [row[:count].mean() for row, count in zip(x, counts)]
    np.testing.assert_allclose(found[lost], np.repeat(means, lost.sum((1, 2))), atol=1e-5)
    np.testing.assert_array_equal(lost[..., :8], lost[..., 8:])  # the same bands of each frame
    steps, bands = lost.all(axis=2), lost.all(axis=1)
    np.testing.assert_array_equal(lost, steps[:, :, None] | bands[:, None])
    for strips, most in ((steps, counts), (bands[:, :8], np.full(64, 8))):
        share = strips.sum(axis=1) / most
        assert 0.1 < share.mean() < 0.4 and (share <= 0.5 + 1 / most).all()
        assert (np.abs(np.diff(np.pad(strips, [[0, 0], [1, 1]]).astype(int))).sum(1) <= 2).all()
    assert not (steps & ~real).any()


# --- A whole run, and what it exports ----------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder, metrics, exported version) of a run on the sample."""
    folder = tmp_path_factory.mktemp("speech")
    places = ["--output", str(folder / "run"), "--saved-models", str(folder / "saved_models")]
    speech.main(speech.arguments(["--dataset", "sample", *QUICK, *places]))
    metrics = json.loads((folder / "run/metrics.json").read_text())
    return folder, metrics, folder / "saved_models/speech/1"


def test_a_voice_never_heard_is_understood(run):
    folder, metrics, _ = run
    assert metrics["test"]["accuracy"] > 0.5 and metrics["test"]["recordings"] == 120
    for name in ("curves.png", "confusion.png"):
        assert (folder / "run" / name).read_bytes().startswith(b"\x89PNG")


def test_the_export_answers_at_any_rate_and_whatever_stands_behind(run):
    *_, version = run
    portable_ops(version)
    data = recordings.by_speaker(recordings.sample(0), None, lambda r: r.text)["test"][::13]
    rows = [r.samples for r in data]
    lengths = np.array([len(x) for x in rows], "int32")
    padded = np.stack([np.pad(x, (0, 4000 - len(x)), constant_values=np.nan) for x in rows])
    inputs = {"samples": padded, "lengths": lengths, "rate": np.int32(8000)}
    found = answered(version, "serving_default", inputs)
    assert np.mean(found["text"] == [r.text for r in data]) > 0.4
    np.testing.assert_allclose(found["probabilities"].sum(-1), 1, atol=1e-5)
    for k in (0, 3):  # alone, and at another rate
        alone = {"samples": rows[k][None], "lengths": lengths[k : k + 1], "rate": np.int32(8000)}
        alone = answered(version, "serving_default", alone)
        np.testing.assert_allclose(alone["probabilities"][0], found["probabilities"][k], atol=1e-5)
        faster = scipy.signal.resample_poly(rows[k], 2, 1).clip(-1, 1)[None].astype("float32")
        faster = {"samples": faster, "lengths": [faster.shape[1]], "rate": np.int32(16000)}
        faster = answered(version, "serving_default", faster)
        assert faster["text"][0] == found["text"][k]
        np.testing.assert_allclose(faster["probabilities"][0], found["probabilities"][k], atol=0.05)


def test_silence_noise_and_nothing_have_an_answer(run):
    *_, version = run
    for x in (np.zeros(8000), np.full(8000, 0.5), np.ones(8000), RANDOM.uniform(-1, 1, 8000), []):
        x = np.array(x, "float32")
        inputs = {"samples": x[None], "lengths": [len(x)], "rate": np.int32(8000)}
        found = answered(version, "serving_default", inputs)
        assert np.isfinite(found["probabilities"]).all() and found["text"][0] in "0123456789"


def test_what_is_too_loud_or_too_long_is_refused(run):
    *_, version = run
    for x, says in (
        (np.full((1, 100), 1000.0), "divide 16-bit ones by 32768"),
        (np.full((1, 100), np.nan), "`samples` must be finite"),
        (np.zeros((1, 3600 * 8000)), "piece by piece where there is a stream"),
    ):
        inputs = {"samples": x.astype("float32"), "lengths": [x.shape[1]], "rate": np.int32(8000)}
        with pytest.raises(tf.errors.InvalidArgumentError, match=says):
            answered(version, "serving_default", inputs)


# --- Texts -------------------------------------------------------------------------------------


def said(path, blank):
    """The B of the equations at the top of recipes/parts/speech/ctc.py."""
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != blank)


def by_brute_force(logits):
    """Of each text its probability, over all paths; of the most probable path its text."""
    y = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    steps, blank = len(y), y.shape[1] - 1
    found = {}
    for path in itertools.product(range(blank + 1), repeat=steps):
        text = said(path, blank)
        found[text] = found.get(text, 0) + np.prod(y[np.arange(steps), path])
    return found, said(y.argmax(-1), blank)


def test_loss_and_decoders_are_those_of_all_paths():
    logits = RANDOM.normal(size=(6, 5, 3)).astype("float32")
    logits[0] = 0.1 * logits[0] + [
        0.4,
        -1.0,
        0.6,
    ]  # a blank is the most probable at each step, and 0 is the text
    counts = np.array([5, 5, 4, 3, 2, 5], "int32")
    best, probabilities = ctc.beam_search(logits, counts, beam=60)
    greedy, _ = ctc.greedy(tf.constant(logits), counts)
    differ = 0
    for row, n in enumerate(counts):
        expected, of_path = by_brute_force(logits[row, :n].astype(float))
        assert greedy[row].numpy().tolist() == list(of_path)
        ranked = sorted(expected.items(), key=lambda x: -x[1])[: ctc.TOLD]
        differ += ranked[0][0] != of_path
        for k, (text, probability) in enumerate(ranked):
            assert best[k][row].numpy().tolist() == list(text)
            assert probabilities[row, k].numpy() == pytest.approx(probability, rel=1e-4)
        for text in ((0,), (0, 0), (0, 1)):
            if text in expected:
                padded = np.full((1, 3), ctc.PADDING)
                padded[0, : len(text)] = text
                loss = ctc.loss(padded, tf.constant(logits[row : row + 1]), counts[row : row + 1])
                assert loss[0].numpy() == pytest.approx(-np.log(expected[text]), rel=1e-4)
    best, probabilities = ctc.beam_search(tf.zeros((0, 5, 3)), tf.zeros(0, tf.int32))
    assert best[0].shape[0] == probabilities.shape[0] == 0
    assert differ  # else one decoder would do


def test_greedy_goes_on_where_it_was():
    logits = 2 * RANDOM.normal(size=(4, 20, 3)).astype("float32")
    whole, _ = ctc.greedy(tf.constant(logits), [20] * 4)
    last, pieces = None, []
    for start in range(0, 20, 3):
        piece = logits[:, start : start + 3]
        found, last = ctc.greedy(tf.constant(piece), [piece.shape[1]] * 4, last)
        pieces.append(found)
    assert tf.concat(pieces, axis=1).to_list() == whole.to_list()


def test_errors_are_what_must_be_changed():
    truth = [[1, 2, 3], [1], [], [1, 2]]
    found = tf.ragged.constant([[1, 3, 3, 4], [], [2], [1, 2]], tf.int32)
    np.testing.assert_array_equal(ctc.errors(truth, found), [2, 1, 1, 0])


def test_texts_of_a_single_symbol_are_refused():
    args = speech.arguments(["--dataset", "sample"])
    args.texts = True
    data = {"train": [Recording(SOUND, text, "", "") for text in ("aa", "a")]}
    with pytest.raises(SystemExit, match="nothing to tell apart"):
        speech.what_is_said(args, data)


def test_symbols_are_words_or_letters():
    words = ctc.Symbols.of(["yes", "no"], letters=False)
    assert words == (["no", "yes"], " ", None) and words.numbers("yes no yes") == [1, 0, 1]
    assert words.texts(tf.ragged.constant([[1, 0], []], tf.int32)).numpy().tolist() == [
        b"yes no",
        b"",
    ]
    letters = ctc.Symbols.of(["ab c", "ba"], letters=True)
    assert letters == ([" ", "a", "b", "c"], "", None) and letters.numbers("c a") == [3, 0, 1]
    with pytest.raises(SystemExit, match=r"x\.wav: its text has \['d'\]"):
        letters.refuse_unknown([Recording(SOUND, "abd", "", "x.wav")])


def test_pieces_of_words_make_the_same_text_again():
    texts = ["one two three", "two three one", "three three"]
    with pytest.raises(SystemExit, match=r"--pieces: .* 8 different characters: give at least 1"):
        ctc.Symbols.of_pieces(texts, 7)
    symbols = ctc.Symbols.of_pieces(texts, 11)
    assert {" three", " "} < {*symbols.names} and len(symbols.names) <= 11
    assert symbols.numbers(texts[0]) == [*map(symbols.names.index, symbols.split(texts[0]))]
    numbers = tf.ragged.constant([symbols.numbers(text) for text in texts], dtype=tf.int32)
    assert [text.decode() for text in symbols.texts(numbers).numpy()] == texts
    assert 2 <= len(symbols.numbers("three three")) < len("three three")
    first, rest = numbers[:, :1], numbers[:, 1:]  # as a stream has them
    found = symbols.texts(rest, before=symbols.texts(first, before=tf.fill([3], "")))
    assert [text.decode() for text in found.numpy()] == texts
    spaced = [symbols.names.index(" "), symbols.names.index(" three")]
    heard = tf.constant([""])
    for number in [*spaced, None]:  # the last chunk says nothing
        numbers = tf.ragged.constant([[] if number is None else [number]], dtype=tf.int32)
        heard = symbols.texts(numbers, before=heard)
    whole = symbols.texts(tf.ragged.constant([spaced], dtype=tf.int32))
    assert heard.numpy() == whole.numpy() == b"three"
    with pytest.raises(SystemExit, match=r"x\.wav: its text has \['q'\]"):
        symbols.refuse_unknown([Recording(SOUND, "two q", "", "x.wav")])


def test_the_level_is_the_loudest_so_far_and_falls():
    x = RANDOM.normal(size=(2, 30, 4)).astype("float32")
    x[0] -= 3  # a whisper, which is as loud as the other from the first step on
    level, expected = np.zeros((2, 1)), []
    for t in range(30):
        level = np.maximum(1.0 + x[:, t].mean(-1, keepdims=True), level - 0.1)
        expected.append(x[:, t] - level)
    found = voice_level.relative(tf.constant(x))
    np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=1e-6)


def test_strings_are_of_one_speaker_and_the_same_each_time():
    found = [r._replace(samples=RANDOM.normal(size=900) * 0.1) for r in made_up()]
    strings = word_strings.fixed(found, 3, 5, "", 8000)
    again = word_strings.fixed(found, 3, 5, "", 8000)
    for one, other in zip(strings, again):
        assert len(one.text) == 3 and one.text == other.text
        np.testing.assert_array_equal(one.samples, other.samples)
    for group in word_strings.of_speakers(found):
        assert len({r.speaker for r in group}) == 1 and len(group) == 20
    voices = {r.speaker: k for k, r in enumerate(made_up())}
    each = [r._replace(samples=np.sin(np.arange(900) / (3 + voices[r.speaker]))) for r in found]
    for string in word_strings.fixed(each, 1, 20, "", 8000):  # who is named speaks
        of = np.corrcoef(string.samples[np.abs(string.samples) > 0][:880], np.sin(np.arange(880) / (
            3 + voices[string.speaker])))[0, 1]  # fmt: skip
        assert of > 0.99 and np.abs(string.samples).max() < 1
    with pytest.raises(SystemExit, match=r"shorter than 0\.1 seconds, too short to be joined"):
        word_strings.refuse_short(
            {"train": found, "test": [found[0]._replace(samples=SOUND[:700])]}, 8000
        )


def test_errors_of_strings_are_counted_over_all_symbols():
    """With an ear for the label alone, which says the texts' first word and no other."""
    symbols = ctc.Symbols.of(["turn on", "stop"], letters=False)
    assert symbols.separator == ", " and symbols.numbers("stop, turn on, stop") == [0, 1, 0]
    said = ["stop, stop", "turn on", "turn on, stop, stop", "stop, turn on"]
    data = [Recording(np.full(1000 + k, 0.1), text, "", "") for k, text in enumerate(said)]

    def read(x):
        first = [symbols.numbers(said[int(n) - 1000])[0] for n in x["lengths"]]
        logits = np.full((len(first), 4, 3), -20.0, "float32")
        logits[np.arange(len(first)), 0, first] = logits[:, 1:, 2] = 20.0
        return {"logits": tf.constant(logits), "counts": tf.fill([len(first)], 4)}

    scores = speech.evaluate_texts(read, data, symbols)
    assert scores["texts"] == 4 and scores["symbols"] == 8
    assert scores["error_rate"] == scores["error_rate_greedy"] == 4 / 8
    assert scores["wholly_right"] == 1 / 4


@pytest.fixture(scope="module", params=[[*"0123"], [" a", "b", " ", " c"]])
def untrained(request):
    """(a model of texts, its signatures as functions, a batch of sounds)."""
    symbols, random = ctc.Symbols(request.param, ""), np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    model = speech.build_for_texts(recordings.sample(0, each=1), symbols, "simple_rnn", units=8)
    for weight in model.trainable_weights:
        if not weight.path.startswith("conv"):  # drawn so, convolutions would make steps alike
            weight.assign(random.normal(size=weight.shape) * 0.5)
    served = speech_export.text_signatures(model, symbols, SOUND, speech.RATE)
    sounds = [
        np.concatenate([syllables.word(n, s, random) for n in (1, 2, 3)]) for s in ("ann", "dan")
    ]
    shortest = min(map(len, sounds))
    sounds = np.stack([x[:shortest] for x in sounds])
    return model, {name: f for name, (f, *_) in served.items()}, sounds


def test_a_stream_hears_what_the_whole_has(untrained):
    model, served, sounds = untrained
    lengths = np.full(2, sounds.shape[1], "int32")
    rate = tf.constant(speech.RATE)
    whole = served["serving_default"](tf.constant(sounds), tf.constant(lengths), rate)
    hear, network = model.get_layer("log_mel"), model.get_layer("network")
    expected = tf.nn.log_softmax(network(hear(sounds)))
    stream = tf.function(served["stream"], reduce_retracing=True)
    for sizes in ([1, 700, 0, 3000, 240], [len(sounds[0])]):
        states = served["initial_state"](tf.constant(2))
        start, steps = 0, []
        for size in itertools.cycle(sizes):
            answer = stream(tf.constant(sounds[:, start : start + size]), rate, *states.values())
            states = {name: answer[name] for name in states}
            steps.append(answer["log_probabilities"])
            start += size
            if start >= sounds.shape[1]:
                break
        np.testing.assert_allclose(tf.concat(steps, axis=1), expected, atol=1e-5)
        assert answer["text"].numpy().tolist() == whole["text"].numpy().tolist()
    assert all(len(text) > 1 for text in answer["text"].numpy())


def test_beam_search_is_served_with_probabilities(untrained):
    _, served, sounds = untrained
    lengths = np.array([sounds.shape[1], 0], "int32")
    answer = served["serving_default"](tf.constant(sounds), tf.constant(lengths), tf.constant(8000))
    assert answer["texts"].shape == answer["probabilities"].shape == (2, ctc.TOLD)
    probabilities = answer["probabilities"].numpy()
    assert (
        np.diff(probabilities) <= 0
    ).all() and 0 < probabilities.min() <= probabilities.max() <= 1


def test_read_from_both_ends_padding_does_not_count_and_there_is_no_stream(capsys):
    symbols = ctc.Symbols([*"0123"], "")
    model = speech.build_for_texts(recordings.sample(0, each=1), symbols, "gru", 8, True)
    sounds = [np.resize(SOUND, n) for n in (len(SOUND), 2 * len(SOUND))]
    longest = max(map(len, sounds))
    padded = np.stack([np.pad(x, (0, longest - len(x)), constant_values=0.5) for x in sounds])
    found = model({"samples": padded, "lengths": np.array([len(x) for x in sounds])})
    for row, count, sound in zip(found["logits"], found["counts"], sounds):
        alone = model({"samples": sound[None], "lengths": np.array([len(sound)])})
        assert alone["counts"] == count
        np.testing.assert_allclose(row[:count], alone["logits"][0, :count], atol=1e-5)
    short = model({"samples": padded[1:], "lengths": np.array([len(sounds[1]) - 2000])})
    assert np.abs(short["logits"][0, 0] - found["logits"][1, 0]).max() > 1e-4  # what follows counts
    served = speech_export.text_signatures(model, symbols, SOUND, speech.RATE)
    assert set(served) == {"serving_default"}
    with pytest.raises(SystemExit):
        speech.arguments(["--bidirectional"])
    assert "single words are read so anyway" in capsys.readouterr().err


def test_a_stream_takes_one_rate(untrained):
    _, served, sounds = untrained
    states = served["initial_state"](tf.constant(2))
    with pytest.raises(tf.errors.InvalidArgumentError, match="`rate` must be"):
        served["stream"](tf.constant(sounds), tf.constant(16000), *states.values())


@pytest.mark.parametrize("strings, both_ends", [(True, False), (False, False), (False, True)])
def test_own_recordings_become_a_model_that_streams(strings, both_ends, tmp_path):
    """Of a folder of words, two of them in two words, joined; of a table, in pieces of words."""
    random, words = np.random.default_rng(0), ["turn on", "turn off", "stop"]
    rows = []
    for speaker, number, k in itertools.product(("ann", "ben", "cat"), range(3), range(4)):
        name = f"{words[number]}/{speaker}_{k}.wav"
        sound = syllables.word(number, speaker, random)
        write(tmp_path / "sounds" / name, np.tile(sound, 1 if strings else 3))
        rows.append(f"{name},{words[number]},{speaker}")
    data = tmp_path / "sounds" if strings else table(tmp_path / "sounds", rows)
    args = ["--data", str(data), "--test-speaker", "ben", "--epochs", "1", "--units", "8"]
    args += ["--strings", "--made-up-voices", "2"] if strings else ["--pieces", "14"]
    args += ["--bidirectional"] if both_ends else []
    args += ["--output", str(tmp_path / "run"), "--saved-models", str(tmp_path / "saved_models")]
    speech.main(speech.arguments(args))
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    test = metrics["test"]
    assert metrics["split"] == "speakers" and test["error_rate"] > 0
    if strings:
        assert [n["texts"] for n in test["by_length"].values()] == [40] * word_strings.MOST
        assert [n["symbols"] for n in test["by_noise"].values()] == [4 * 60] * 5
    assert (tmp_path / "run/spikes.png").read_bytes().startswith(b"\x89PNG")
    version = tmp_path / "saved_models/speech/1"
    portable_ops(version)
    whole = {"samples": SOUND[None], "lengths": np.int32([len(SOUND)]), "rate": np.int32(8000)}
    assert answered(version, "serving_default", whole)["texts"].shape == (1, ctc.TOLD)
    if both_ends:
        assert set(tf.saved_model.load(str(version)).signatures) == {"serving_default"}
        return
    states = answered(version, "initial_state", {"batch_size": np.int32(1)})
    for size in (0, 100, len(SOUND)):
        chunk = {"chunk": SOUND[None, :size], "rate": np.int32(8000)}
        answer = answered(version, "stream", chunk | states)
        states = {name: answer[name] for name in states}
    for name, value, says in (
        ("rate", np.int32(44100), "must be 8000 in a stream"),
        ("heard_samples", np.zeros((1, 500), "float32"), "at most 360 samples"),
        ("last_symbol", np.int32([99]), "`last_symbol` must be between"),
        ("chunk", np.zeros((1, 2**22 + 1), "float32"), "piece by piece"),
        ("chunk", np.full((1, 10), np.nan, "float32"), "must be finite"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=says):
            answered(version, "stream", chunk | states | {name: value})
