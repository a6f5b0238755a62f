"""Sounds that a client sends: what it reads of a WAV file, and what it shows of a stream."""

import sys
import wave

import client
import numpy as np
import pytest
import sounds


def wav(path, samples, rate=8000, width=2):
    """Written from whole numbers, (samples,) or (samples, channels)."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples.astype(f"<i{width}").tobytes())
    return path


def test_a_file_is_the_mean_of_its_channels(tmp_path):
    stereo = np.random.default_rng(0).integers(-(2**15), 2**15, (4410, 2))
    found, rate = sounds.read(wav(tmp_path / "x.wav", stereo, 44100))
    np.testing.assert_allclose(found, stereo.mean(1) / 2**15, atol=1e-9)
    assert rate == 44100


def test_pieces_are_a_tenth_of_a_second_and_together_the_file(tmp_path):
    samples = np.arange(-1000, 1000)
    found = [*sounds.pieces(wav(tmp_path / "x.wav", samples))]
    assert [len(piece) for piece in found] == [800, 800, 400]
    np.testing.assert_allclose(np.concatenate(found), samples / 2**15)


def test_what_can_not_be_sent_is_named_with_the_way_out(tmp_path):
    hour = wav(tmp_path / "hour.wav", np.zeros(3600 * 8000, "i2"))
    with pytest.raises(
        SystemExit, match=r"hour.wav has more than 4,194,304 samples, 524 sec.* use --stream"
    ):
        sounds.read(hour)
    assert len(next(sounds.pieces(hour))) == 800
    other = wav(tmp_path / "other.wav", np.zeros(4410), 44100)
    with pytest.raises(SystemExit, match=r"44100 samples a second, and a stream 8000: sox"):
        next(sounds.pieces(other))
    (tmp_path / "text.wav").write_text("not a sound")
    wav(tmp_path / "bytes.wav", np.zeros(10), width=1)
    for name, says in (("text", "sox"), ("none", "There is no file"), ("bytes", "make it 16")):
        with pytest.raises(SystemExit, match=says):
            sounds.read(tmp_path / f"{name}.wav")


def heard(texts):
    """A server, as `ask`, that has heard one text more after each chunk."""
    count = 0

    def ask(signature, inputs):
        nonlocal count
        if signature == "initial_state":
            return {"heard_text": [""], "level": [0.0]}
        assert inputs["rate"] == 8000 and inputs["level"] == [float(count)]
        assert inputs["heard_text"] == ["", *texts][count : count + 1]
        count += 1
        return {"text": texts[count - 1 : count], "heard_text": texts[count - 1 : count],
                "level": [float(count)], "log_probabilities": []}  # fmt: skip

    return ask


def test_what_was_heard_is_shown_whenever_it_changes(capsys):
    client.listen(heard(["", "1", "1", "12"]), [[0.0]] * 4, 8000)
    assert capsys.readouterr().out == "1\n12\n"
    client.listen(heard([]), [], 8000)
    assert capsys.readouterr().out == "(Nothing was heard.)\n"

    def until_stopped():
        yield [0.0]
        raise KeyboardInterrupt

    client.listen(heard(["1"]), until_stopped(), 8000)
    assert capsys.readouterr().out == "1\n"


@pytest.mark.parametrize(
    "options, says",
    [
        (["--wav", "x.wav", "--as-written"], "of texts"),
        (["--microphone", "--split"], "of texts"),
        (["--microphone", "--signature", "stream"], "signatures of its own"),
    ],
)
def test_options_that_a_sound_has_no_use_for_are_refused(monkeypatch, capsys, options, says):
    monkeypatch.setattr(sys, "argv", ["client.py", "speech", *options])
    with pytest.raises(SystemExit):
        client.main()
    assert says in capsys.readouterr().err
