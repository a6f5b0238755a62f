"""Translation: pieces of words, scores and the export, each against what was found another way."""

import gzip
import json

import client
import keras
import numpy as np
import pytest
import sacrebleu
import tensorflow as tf
from conftest import loaded, portable_ops

from recipes import translation
from recipes.common import subwords
from recipes.common.samples import number_words
from recipes.common.subwords import END, PAD, Subwords
from recipes.parts.translation import parallel_texts, translation_export, translation_scores
from recipes.parts.translation.label_smoothing import SmoothedCrossentropy

pytestmark = pytest.mark.usefixtures("without_graph_optimizer")

PAIRS = number_words.pairs(300, "tests")


@pytest.fixture(scope="module")
def known():
    return Subwords(subwords.learn([text for pair in PAIRS for text in pair], 80))


# --- Pieces of words ---------------------------------------------------------------------------


def test_words_are_cut_as_the_library_cuts_them(known):
    texts = [text for pair in PAIRS[:100] for text in pair]
    texts += [
        "",
        " ",
        "漢字 six🙂🙂x",
        "seventy-x-nine",
        "a\u00a0b\tc\x00d \u2003",
        "▁ _ six▁ty",
        "é" * 50,
    ]
    found = known.numbers(tf.constant(texts)).to_list()
    assert found == [known.processor.encode(text) for text in subwords.spaced(texts)]
    again = known.texts(known.numbers(tf.constant(texts[:200])).to_tensor(PAD)).numpy()
    assert [text.decode() for text in again] == texts[:200]
    assert known.numbers(tf.constant([b"six\xff"])).to_list() == [
        known.processor.encode("six\N{REPLACEMENT CHARACTER}")
    ]
    assert known.numbers(tf.constant([], tf.string)).shape[0] == 0


def test_drawn_cuts_differ_and_spell_the_same(known):
    texts = [text for text, _ in PAIRS]
    np.random.seed(0)
    first, second = known.drawn(texts), known.drawn(texts)
    assert first != second
    assert [known.processor.decode(cut) for cut in first] == texts
    np.random.seed(0)
    assert Subwords(known.processor.serialized_model_proto()).drawn(texts) == first


def test_the_probable_cuts_are_drawn_more_often(known):
    word, draws = "seventy", 4000
    cuts = known.processor.nbest_encode_as_ids(word, subwords.BEST)
    p = np.exp([sum(map(known.processor.get_score, cut)) for cut in cuts]) ** subwords.SMOOTHNESS
    found = known.drawn([word] * draws)
    shares = [found.count(cut) / draws for cut in cuts]
    p /= p.sum()
    assert np.all(np.abs(shares - p) <= 4 * np.sqrt(p * (1 - p) / draws) + 1e-3)


# --- Data and loss -----------------------------------------------------------------------------


def test_batches_hold_each_pair_once(known):
    for training_ in (False, True):
        data = list(translation.batches(PAIRS, known, training_))
        assert len(data) == -(-len(PAIRS) // translation.BATCH)
        found = []
        for (source, before), target, weights in data:
            np.testing.assert_array_equal(weights, target != PAD)
            assert np.all(before[:, 0] == END)
            shifted = np.where(before[:, 1:] == PAD, END, before[:, 1:])
            real = weights[:, :-1].numpy() > 0
            np.testing.assert_array_equal(target[:, :-1][real], shifted[real])
            for read, written in zip(source.numpy().tolist(), target.numpy().tolist()):
                sides = [side[: side.index(END)] for side in (read, written)]
                assert not any(read[len(sides[0]) + 1 :])
                found.append(tuple(map(known.processor.decode, sides)))
        assert sorted(found) == sorted(PAIRS)


def test_the_loss_is_that_of_a_smoothed_truth():
    random = np.random.default_rng(0)
    logits, true = random.normal(size=(2, 3, 5)), random.integers(0, 5, (2, 3))
    weights = np.array([[1, 1, 0], [1, 0, 0]])
    q = 0.9 * np.eye(5)[true] + 0.1 / 5
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -(q * log_p).sum(-1)
    found = SmoothedCrossentropy(0.1)(true, logits, sample_weight=weights)
    np.testing.assert_allclose(found, (expected * weights).sum() / weights.sum(), rtol=1e-5)


def test_numbers_are_read_as_they_are_said():
    said = {
        7: "seven",
        80: "eighty",
        42: "forty-two",
        300: "three hundred",
        2006: "two thousand and six",
    }
    said |= {999_115: "nine hundred and ninety-nine thousand one hundred and fifteen"}
    assert {n: number_words.words(n) for n in said} == said
    assert len(set(map(number_words.words, range(3000)))) == 3000


# --- Files -------------------------------------------------------------------------------------


def arguments(folder, **files):
    """Of files with these contents."""
    options = []
    for option, contents in files.items():
        options.append(f"--{option}")
        for k, content in enumerate(contents):
            path = folder / f"{option}_{k}.txt.gz"
            path.write_bytes(gzip.compress(content.encode()))
            options.append(str(path))
    return translation.arguments([*options, "--output", str(folder / "run")])


def test_pairs_are_read_from_two_files_or_one(tmp_path, capsys):
    german, english = zip(*[(f"Satz {k} ö", f"sentence {k}") for k in range(300)])
    both = ["\n".join(german) + "\n", "\n".join(english) + "\n"]
    tabs = ["\n".join(f"{a}\t{b}\tmore" for a, b in zip(german, english))]
    found = parallel_texts.from_files(arguments(tmp_path, data=both))
    assert {name: len(pairs) for name, pairs in found.items()} == {
        "train": 240, "validation": 30, "test": 30
    }  # fmt: skip
    assert sorted(pair for pairs in found.values() for pair in pairs) == sorted(
        zip(german, english)
    )
    assert parallel_texts.from_files(arguments(tmp_path, data=tabs)) == found
    own = parallel_texts.from_files(arguments(tmp_path, data=both, test=["a\tb\n\n \tc\nd\te\n"]))
    assert own["test"] == [("a", "b"), ("d", "e")] and len(own["train"]) == 270
    assert "training part" not in capsys.readouterr().out
    parallel_texts.from_files(arguments(tmp_path, data=both, test=tabs))
    assert "of the 300 sentences to test on are in" in capsys.readouterr().out
    stray = ["\n".join(german).replace("ö", "\rö") + "\r\n", "\r".join(english)]
    found = parallel_texts.read(arguments(tmp_path, data=stray).data)
    assert found == [(f"Satz {k}  ö", f"sentence {k}") for k in range(300)]


def test_a_sentence_and_all_its_translations_are_in_one_part(tmp_path, known, capsys):
    lines = [f"Satz {k} \tsentence {k}\nSatz  {k}\tphrase {k}\n" for k in range(250)]
    found = parallel_texts.from_files(arguments(tmp_path, data=["".join(lines)]))
    assert {name: len(pairs) for name, pairs in found.items()} == {
        "train": 400, "validation": 50, "test": 50
    }  # fmt: skip
    few = "".join(f"one {k}\t{k}\n" for k in range(200))
    few = parallel_texts.from_files(arguments(tmp_path, data=[few]))["train"]
    assert len(few) == 160 and translation.short_enough(few, known, "train") == few
    numbers = [{pair[1].split()[1] for pair in pairs} for pairs in found.values()]
    assert sum(map(len, numbers)) == len(set.union(*numbers)) == 250
    assert "training part" not in capsys.readouterr().out


def test_pairs_that_are_too_long_are_left_out_or_refused(known, capsys):
    long = ("one " * 200, "1")
    assert translation.short_enough([*PAIRS, long], known, "train") == PAIRS
    assert "1 of the 301 pairs to train" in capsys.readouterr().out
    for pairs, part in (([*PAIRS[:99], long], "train"), ([long], "validate")):
        with pytest.raises(SystemExit, match="cut them into sentences"):
            translation.short_enough(pairs, known, part)


def test_what_is_no_pair_is_refused(tmp_path, capsys):
    for data, says in (
        (["a\nb\n", "c\n"], "must stand in the same line"),
        (["a\tb\nc d\n"], "line 2, has no tab"),
        (["\t\n"], "no sentence with a translation"),
        (["a\tb\n"] * 1, "too little to learn from"),
    ):
        with pytest.raises(SystemExit, match=says):
            parallel_texts.from_files(arguments(tmp_path, data=data))
    with pytest.raises(SystemExit):
        arguments(tmp_path, test=["a\tb\n"])
    assert "--test goes with --data" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        arguments(tmp_path, data=["a\tb\n"] * 3)
    assert "takes one file, or two" in capsys.readouterr().err


def test_what_the_export_refuses_counts_as_not_translated(capsys):
    def write(sentences):
        if tf.size(sentences) > 5 or tf.reduce_any(tf.strings.length(sentences) > 9):
            raise tf.errors.InvalidArgumentError(None, None, "too many or too long")
        return {"translations": tf.strings.upper(sentences)}

    sentences = [*"abcdefghijkl", "x" * 10, "y" * 20, "z"]
    found = translation.translate(write, sentences)
    assert found == [*"ABCDEFGHIJKL", "", "", "Z"]
    assert "2 are too long, and count as not translated; the first: xxx" in capsys.readouterr().out


# --- Scores ------------------------------------------------------------------------------------


def test_scores_are_sacrebleus():
    true = ["The dog runs over the grass.", "Two men are sitting on a bench."]
    written = ["The dog runs across the grass.", "two men are sitting on a Bench."]
    found = translation_scores.score(written, true)
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(written, [true]).score)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(written, [true]).score)
    assert found["lower_cased_bleu"] > found["bleu"] and "version:" in found["bleu_signature"]
    assert translation_scores.score(true, true)["bleu"] == pytest.approx(100)
    lengths = translation_scores.by_length(["a b", "a " * 9], true, true)
    assert list(lengths) == ["1+", "8+"] and list(lengths.values()) == pytest.approx([100, 100])
    train = [("ein Hund", "a dog"), ("eine Katze schläft", "a cat sleeps")]
    assert translation_scores.nearest(train, ["die Katze", "Hund!"]) == ["a cat sleeps", "a dog"]
    assert translation_scores.nearest([("+ -", "a"), ("( )", "b")], ["( (", "-"]) == ["b", "a"]
    spaced = translation_scores.score(["a b ?", "c"], ["a  b\u00a0? ", "d"])
    assert spaced["exact"] == 0.5


# --- The recipe, but for what a step of training does -------------------------------------------


def epochs_without_steps(self, *data, initial_epoch, epochs, callbacks, **how):
    callbacks = keras.callbacks.CallbackList(callbacks[:1], model=self)
    for epoch in range(initial_epoch, epochs):
        callbacks.on_epoch_begin(epoch)
        names = ("loss", "val_loss", "accuracy", "val_accuracy")
        callbacks.on_epoch_end(epoch, dict.fromkeys(names, 1 / (epoch + 1)))


def parts(_):
    return {"train": PAIRS[:250], "validation": PAIRS[250:275], "test": PAIRS[275:]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(the folder, the recipe's metrics, the translator)."""
    folder, made, build = tmp_path_factory.mktemp("translation"), [], translation.build

    def built(*given, **how):
        made.append(build(*given, **how))
        # So that it writes something, and that this ends.
        decoder = made[0][1].decoder
        kernel, bias = decoder.get_layer("vectors").kernel, decoder.get_layer("logits").layer.bias
        kernel.assign(40 * kernel)
        bias.assign(12.0 * keras.ops.one_hot(END, bias.shape[0]))
        return made[0]

    options = ["--dataset", "sample", "--epochs", "1", "--pieces", "80", "--cell", "gru"]
    options += ["--output", f"{folder}/run", "--saved-models", f"{folder}/saved_models"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "fit", epochs_without_steps)
        patch.setattr(translation, "load", parts)
        patch.setattr(translation, "SMALL", {"units": 8, "dimension": 8, "dropout": 0.0})
        patch.setattr(translation, "build", built)
        translation.main(translation.arguments(options))
    return folder, json.loads((folder / "run/metrics.json").read_text()), made[0][1]


@pytest.fixture(scope="module")
def served(run):
    version = run[0] / "saved_models/translation/1"
    portable_ops(version)
    return loaded(version).signatures


SENTENCES = ["forty-two", "three hundred and six 漢", "", "zero " * 12]


def test_it_leaves_scores_and_pictures(run):
    folder, metrics, _ = run
    assert set(metrics["test"]) == {"model", "nearest sentence's translation"}
    assert metrics["test"]["model"]["sentences"] == 25
    for name in ("curves", "attention", "bleu_by_length"):
        assert (folder / f"run/{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_translation_is_the_best_of_the_alternatives_and_alone_the_same(run, served):
    one = served["serving_default"](sentences=tf.constant(SENTENCES))
    few = served["alternatives"](sentences=tf.constant(SENTENCES))
    np.testing.assert_allclose(one["scores"], few["scores"][:, 0], atol=1e-5)
    np.testing.assert_array_equal(one["translations"], few["translations"][:, 0])
    assert np.all(np.diff(few["scores"].numpy(), axis=1) <= 0)
    for k, sentence in enumerate(SENTENCES):
        alone = served["serving_default"](sentences=tf.constant([sentence]))
        assert len(alone["pieces"][0]) < limit(alone)  # it ended by itself
        np.testing.assert_allclose(alone["scores"][0], one["scores"][k], atol=1e-5)
        assert alone["translations"][0] == one["translations"][k]


def limit(answer):
    return 2 * answer["read"].shape[1] + translation_export.MORE


def test_scores_and_attention_are_those_of_the_model(run, served):
    _, _, (encoder, decoder, known) = run
    answer = served["serving_default"](sentences=tf.constant(SENTENCES))
    number = {piece: k for k, piece in enumerate(known.pieces.numpy())}
    for row, sentence in enumerate(SENTENCES):
        source = known.processor.encode(" ".join(sentence.split()))
        pieces = [x for x in answer["pieces"][row].numpy() if x]
        target = [*(number[x] for x in pieces), END]
        memory = encoder(np.array([[*source, END]]))
        logits, *_ = decoder([tf.constant([[END, *target[:-1]]]), *memory])
        logits = logits[0].numpy().astype(float)
        logits[:, [PAD, subwords.UNKNOWN]] = -np.inf
        log_p = tf.nn.log_softmax(logits).numpy()[np.arange(len(target)), target]
        assert len(pieces) < limit(answer)
        score = log_p.sum() / ((5 + len(target)) / 6) ** translation_export.PENALTY
        np.testing.assert_allclose(answer["scores"][row], score, rtol=1e-3)
        weights = answer["attention"][row].numpy()
        sums = [1.0] * len(pieces) + [0.0] * (len(weights) - len(pieces))
        np.testing.assert_allclose(weights.sum(-1), sums, atol=1e-5)
        assert np.all(weights[:, len(source) + 1 :] == 0)
        read = [x.decode() for x in answer["read"][row].numpy() if x]
        assert read == [*(known.pieces[k].numpy().decode() for k in source), "</s>"]


def test_written_piece_by_piece_it_is_the_most_probable(run, served):
    _, _, (encoder, decoder, known) = run
    sentences = tf.constant(SENTENCES[:2])
    states = served["start"](sentences=sentences)
    texts, tokens = [b"", b""], []
    for _ in range(6):
        answer = served["next"](sentences=sentences, **states)
        states = {name: answer[name] for name in states}
        texts = [a + b for a, b in zip(texts, answer["text"].numpy())]
        tokens.append(answer["last"].numpy())
        np.testing.assert_array_equal(answer["ended"], tokens[-1] == END)
    for row, sentence in enumerate(SENTENCES[:2]):
        memory = encoder(np.array([[*known.processor.encode(sentence), END]]))
        expected = []
        for _ in range(6):
            logits, *_ = decoder([tf.constant([[END, *expected]]), *memory])
            expected.append(2 + int(np.argmax(logits[0, -1, 2:])))
        assert [t[row] for t in tokens] == expected
        assert (
            texts[row].decode().strip() == known.texts(tf.constant([expected])).numpy()[0].decode()
        )


@pytest.mark.parametrize("rest", [True, False])
def test_the_client_shows_it_growing(served, capsys, monkeypatch, rest):
    monkeypatch.setattr(client, "MOST_WRITTEN", 20)

    def ask(signature, inputs):
        given = {name: tf.constant(x) for name, x in inputs.items()}
        found = {n: x.numpy().tolist() for n, x in served[signature](**given).items()}
        as_rest = {n: [t.decode() for t in x] for n, x in found.items() if n == "text"}
        return found | (as_rest if rest else {})

    client.show_as_written(ask, SENTENCES[:1])
    pieces, states = "", served["start"](sentences=tf.constant(SENTENCES[:1]))
    for _ in range(client.MOST_WRITTEN):
        answer = served["next"](sentences=tf.constant(SENTENCES[:1]), **states)
        if answer["ended"][0]:
            break
        pieces += answer["text"][0].numpy().decode()
        states = {name: answer[name] for name in states}
    assert capsys.readouterr().out in (f"{pieces}\n", f"{pieces} …\n")


def test_what_is_too_much_or_does_not_fit_is_refused(served):
    states = served["start"](sentences=tf.constant(["six"]))
    for inputs, says in (
        ({"sentences": ["six " * 400]}, "pieces of words in a sentence"),
        ({"sentences": ["six"] * 257}, "at most 256 sentences"),
        ({"sentences": ["x" * 40_000]}, "letters, each word padded"),
        ({"sentences": ["zero " * 40] + [""] * 200}, "each sentence padded to the longest"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"`sentences`: .*{says}"):
            served["serving_default"](**{n: tf.constant(x) for n, x in inputs.items()})
    for wrong, says in (
        ({"last": tf.constant([10**6])}, "`last` must be between"),
        ({"state_0": tf.fill(states["state_0"].shape, np.nan)}, "`state_0` must be finite"),
        ({"last": tf.constant([2, 2])}, "same batch size"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=says):
            served["next"](**{"sentences": tf.constant(["six"]), **states, **wrong})
