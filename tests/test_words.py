"""The language model of words, and sentiment that starts from it, against numpy and by hand."""

import os

import keras
import numpy as np
import processes
import pytest
import scipy.special
import tensorflow as tf
from conftest import REPOSITORY
from test_streaming import perturbed

import layers
from recipes import language_model, pos_tagging, sentiment
from recipes.common import encoders, publishing, text_files
from recipes.common import words as of_texts
from recipes.common.row_adam import RowAdam
from recipes.common.tied_softmax import TiedSoftmax
from recipes.common.words import END, Words
from recipes.parts.language_model import text_export, text_scores

TRAIN = ["A good film; isn't it?", "a <br />film, a Good one", "bad"]
KNOWN = ["a", "good", "film", ";", "is", "n't", "it", "?", ",", "one", "bad"]


def model_of(words, cell="lstm", units=6):
    model = perturbed(language_model.build_for_words(len(words), cell, units, dimension=5))
    model.vocabulary = words.layer
    return model


# --- Words and streams of them -----------------------------------------------------------------


def test_the_most_frequent_words_have_the_numbers_of_the_layer(monkeypatch):
    train, validation, known = of_texts.number_most_frequent(TRAIN, ["it is great", ""])
    assert known == KNOWN
    assert validation.tolist() == [8, 6, 1, END, END]
    texts = np.split(train, np.flatnonzero(train == END) + 1)[:-1]
    numbers = Words(known).numbers(tf.constant(TRAIN)).to_list()
    assert [[*row, END] for row in numbers] == [text.tolist() for text in texts]
    ends = of_texts.read_backwards(train).tolist()
    assert ends == [12, END, *texts[1][-2::-1], END, *texts[0][-2::-1], END]
    monkeypatch.setattr(of_texts, "MOST", 4)
    train, _, known = of_texts.number_most_frequent(TRAIN, [])
    assert known == ["a", "good"] and train[:4].tolist() == [2, 3, 1, 1]


LOWER = """
import tensorflow as tf
from recipes.common import words
print([x.decode() for x in words.apart(tf.constant(["I İ ISI", "a\\0B"])).flat_values.numpy()])
print(tf.strings.lower("I", "utf-8").numpy().decode())
"""


def test_small_letters_are_the_same_in_any_locale():
    env = {**os.environ, "LC_ALL": "tr_TR.UTF-8"}
    found, plain = processes.run(["-c", LOWER], cwd=REPOSITORY, env=env).stdout.splitlines()
    assert plain == "ı"  # else the locale is not taken
    assert found == str(["i", "İ".lower(), "isi", "a", "b"])


def test_texts_are_what_blank_lines_separate_or_lines():
    assert text_files.texts("a\nb\n\n \nc\n") == ["a\nb", "c"]
    assert text_files.texts("a\nb\n") == ["a", "b"]


def test_an_epoch_has_all_texts_whole_in_another_order():
    random = np.random.default_rng(0)
    texts = [(*random.integers(1, 99, random.integers(1, 40)), END) for _ in range(150)]
    numbers, epoch = np.concatenate(texts), iter(range(2))
    data = language_model.batches(numbers, 2, 0, END, done=lambda: next(epoch))
    epochs = []
    for _ in range(2):
        now, to_come = (np.concatenate(x, 1) for x in zip(*((n, t) for (n, _), t in data)))
        np.testing.assert_array_equal(now[:, 1:], to_come[:, :-1])
        parts = [np.split(row, np.flatnonzero(row == END) + 1)[1:-1] for row in now]
        epochs.append([tuple(part.tolist()) for row in parts for part in row])
        assert len(epochs[-1]) > 100 and set(epochs[-1]) <= set(texts)
    assert epochs[0] != epochs[1]


# --- Loss and optimizer ------------------------------------------------------------------------


def test_sampled_softmax_stands_for_the_full_one():
    embedding = keras.layers.Embedding(50, 4)
    embedding.build()
    softmax, random = TiedSoftmax(embedding), np.random.default_rng(0)
    vectors = tf.constant(random.normal(size=(8, 30, 4)), tf.float32)
    targets = tf.constant(random.integers(0, 50, (8, 30)), tf.int32)
    embedding.embeddings.assign(random.normal(size=(50, 4)) / 2)
    softmax.bias.assign(random.normal(size=50))
    logits = vectors.numpy() @ embedding.embeddings.numpy().T + softmax.bias.numpy()
    each = scipy.special.log_softmax(logits, -1)
    full = -np.take_along_axis(each, targets.numpy()[..., None], -1).mean()
    assert float(softmax.loss(vectors, targets)) == pytest.approx(full, rel=1e-5)
    assert float(softmax.sampled_loss(vectors, targets, 50)) == pytest.approx(full, rel=1e-5)
    keras.utils.set_random_seed(0)
    sampled = [float(softmax.sampled_loss(vectors, targets, 25)) for _ in range(50)]
    assert np.mean(sampled) == pytest.approx(full, rel=0.03)  # uncorrected, 0.6 lower


def test_rows_without_a_gradient_stay_and_others_move_as_adams():
    row, dense = RowAdam(0.1, slower={"": 0.5}), keras.optimizers.Adam(0.05)
    tables = [keras.Variable(np.ones((4, 2), "float32")) for _ in range(2)]
    for optimizer, table in zip((row, dense), tables):
        optimizer.build([table])
    values = np.array([[1.0, -2], [3, 4], [1, 1]], "float32")
    slices = tf.IndexedSlices(values, [2, 0, 2], [4, 2])
    for _ in range(3):
        row.apply([slices], [tables[0]])
        dense.apply([tf.convert_to_tensor(slices)], [tables[1]])
    np.testing.assert_allclose(tables[0], tables[1], rtol=1e-5)
    np.testing.assert_array_equal(tables[0][1], [1, 1])


def test_training_lowers_the_loss_that_is_over_all_words():
    keras.utils.set_random_seed(0)
    words = Words(KNOWN)
    carried = language_model.CarriedSampling(model_of(words), 2, samples=5)
    language_model.compile_model(carried, 20)
    numbers = np.tile(np.arange(2, 8, dtype="int32"), 100)
    data = language_model.batches(numbers, 2)
    before = carried.evaluate(data, verbose=0)
    carried.fit(data, epochs=7, shuffle=False, verbose=0)
    assert carried.evaluate(data, verbose=0) < before - 0.02


def test_perplexity_is_numpys():
    words = Words(KNOWN)
    model, random = model_of(words), np.random.default_rng(0)
    train, numbers = random.integers(0, len(words), (2, 1203)).astype("int32")
    logits = model(np.append(END, numbers[:-1])[None])[0].numpy().astype(float)
    each = scipy.special.log_softmax(logits, -1)[np.arange(1203), numbers]
    found = text_scores.of_words(model, train, numbers)
    assert found["model"]["perplexity"] == pytest.approx(np.exp(-each.mean()), rel=1e-4)
    assert (found["words"], found["unknown"]) == (1203, np.sum(numbers == 1))
    shares = (np.bincount(train, minlength=len(words)) + 1) / (1203 + len(words))
    expected = -np.log(shares[numbers]).mean()
    assert found["frequency alone"]["nats"] == pytest.approx(expected)


# --- Export ------------------------------------------------------------------------------------


def test_words_are_scored_streamed_and_written(tmp_path):
    words = Words(KNOWN)
    model, text = model_of(words), "A good <i>film</i>, isn't it? Great"
    served = text_export.signatures(model, words, "good film")
    version = publishing.publish(model, tmp_path, served)
    served = tf.saved_model.load(str(version)).signatures
    numbers = [2, 3, 4, 10, 6, 7, 8, 9, 1]

    def following(numbers):
        return scipy.special.log_softmax(model(np.array([[END, *numbers]]))[0].numpy(), -1)

    whole = served["serving_default"](texts=tf.constant([text, ""]))
    assert whole["lengths"].numpy().tolist() == [9, 0]
    expected = following(numbers)[np.arange(9), numbers]
    np.testing.assert_allclose(whole["log_probabilities"][0], expected, atol=1e-5)

    states, read = served["initial_state"](batch_size=tf.constant(1)), []
    for chunk in ("A go", "od <i", ">film</i>, is", "n't it? Gr", "eat "):
        answer = served["stream"](chunk=tf.constant([chunk]), **states)
        states = {name: answer[name] for name in states}
        read += answer["log_probabilities"][0].numpy().tolist()
    np.testing.assert_allclose(read, expected, atol=1e-5)
    assert b"" not in answer["next"].numpy() and answer["next"].shape == (1, len(words) - 1)

    asked = {"length": 5, "temperature": 0.0, "top_k": 0, "top_p": 1.0, "seed": 0}
    asked = {name: tf.constant(value) for name, value in asked.items()}
    (found,) = served["generate"](prompts=tf.constant(["A good"]), **asked)["texts"].numpy()
    numbers, expected = [2, 3], "A good"
    for _ in range(5):
        last = following(numbers)[-1]
        last[1] = -np.inf
        numbers.append(int(np.argmax(last)))
        expected += "\n" if numbers[-1] == END else f" {KNOWN[numbers[-1] - 2]}"
    assert found.decode() == expected


# --- What other models start from --------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of encoders: forwards, backwards, of other words, by another cell."""
    folder, words = tmp_path_factory.mktemp("runs"), Words(KNOWN)
    made = {"forwards": (words, "lstm"), "backwards": (words, "lstm")}
    made |= {"others": (Words(KNOWN[::-1]), "lstm"), "gru": (words, "gru")}
    for name, (of, cell) in made.items():
        backwards = name in ("backwards", "others")
        encoders.write(folder / name, model_of(of, cell), of.known, backwards)
    return {name: str(folder / name) for name in made}


def test_the_sentiment_model_reads_as_its_encoders_do(runs):
    reviews = ["a good film, is n't it", "bad ?"], [1, 0]
    started = encoders.Encoders([runs["backwards"], runs["forwards"]], layers.LSTM)
    model = sentiment.build(reviews, "lstm", pretrained=started)
    assert model.get_layer("vocabulary").get_vocabulary()[2:] == KNOWN
    numbers = np.array([[2, 3, 4, 10, 6, 7, 8, 0], [12, 9, 0, 0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(model.get_layer("vocabulary")(reviews[0]), numbers[:, :-1])
    read = keras.Model(model.input, model.get_layer("read_both").output)
    found = read(tf.constant(reviews[0]))
    assert found.shape[-1] == 12
    for i, length in enumerate((7, 2)):
        row = numbers[i : i + 1, :length]
        backwards = started.models["backwards"](row[:, ::-1])[0][::-1]
        np.testing.assert_allclose(found[i, :length, :6], backwards, atol=1e-5)
        forwards = started.models["forwards"](row)[0]
        np.testing.assert_allclose(found[i, :length, 6:], forwards, atol=1e-5)
        both, last = np.concatenate([backwards, forwards], -1), [backwards[0], forwards[-1]]
        pooled = np.concatenate([both.max(0), both.mean(0), *last])
        classify = model.get_layer("classify")
        scores = model(tf.constant(reviews[0]))["network"]
        np.testing.assert_allclose(scores[i], classify(pooled[None])[0], atol=1e-5)


def test_with_one_direction_it_streams(runs):
    started = encoders.Encoders([runs["forwards"]], layers.LSTM)
    model = sentiment.build((TRAIN, [1, 1, 0]), "lstm", pretrained=started, unidirectional=True)
    served = sentiment.signatures(model)
    states = served["initial_state"][0](tf.constant(1))
    for chunk in ("a goo", "d film"):
        answer = served["stream"][0](*({"chunk": tf.constant([chunk])} | states).values())
        states = {name: answer[name] for name in states}
    whole = served["serving_default"][0](tf.constant(["a good film"]))
    np.testing.assert_allclose(answer["probabilities"], whole["probabilities"], atol=1e-5)


def test_a_text_goes_on_being_read_after_what_only_looks_like_a_tag():
    texts = ["I <3 this film", "I <3 a <b", "a <\u212a b", "a < b <", "a </b c", "a <é b"]
    _, tails = of_texts.split_off_tail(tf.constant(texts))
    tails = [tail.decode() for tail in tails.numpy()]
    assert tails == ["film", "<b", "<\u212a b", "<", "</b c", "<é b"]


@pytest.mark.parametrize(
    "names, says",
    [
        (["forwards", "forwards"], "both read forwards.*--backwards"),
        (["forwards", "others"], "different vocabularies.*--seed"),
        (["gru"], "reads by GRU.*--cell"),
    ],
)
def test_encoders_that_do_not_fit_are_refused(runs, names, says):
    with pytest.raises(SystemExit, match=says):
        encoders.Encoders([runs[name] for name in names], layers.LSTM)


def test_texts_that_encoders_do_not_know_are_refused(runs, tmp_path, capsys):
    started = encoders.Encoders([runs["forwards"]], layers.LSTM)
    started.say_known(["a", "good", "unheard", "film"])
    assert "75.0% of the words to learn from were known" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="another language"):
        started.say_known(["фильм", "хорош"])
    rows = ["text,label", *(f"это очень хороший фильм {i},{'ab'[i % 2]}" for i in range(60))]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    args = ["--data", str(tmp_path / "a.csv"), "--pretrained", runs["forwards"]]
    with pytest.raises(SystemExit, match="another language"):
        sentiment.main(sentiment.arguments([*args, "--output", str(tmp_path / "run")]))
    words = [("1", "хорош", "ADJ"), ("2", "фильм", "NOUN")]
    lines = ["\t".join([k, word, "_", tag, *"______"]) + "\n" for k, word, tag in words]
    (tmp_path / "a.conllu").write_text(("".join(lines) + "\n") * 60)
    args = ["--data", str(tmp_path / "a.conllu"), "--pretrained", runs["forwards"]]
    with pytest.raises(SystemExit, match="another language"):
        pos_tagging.main(pos_tagging.arguments([*args, "--output", str(tmp_path / "run")]))
    assert not (tmp_path / "run").exists()


def test_texts_that_fill_no_piece_are_refused_before_training(tmp_path):
    texts = ["a title of six short words", *["many words " * 10_000]]
    for k in range(30):
        (tmp_path / f"{k}.txt").write_text(texts[k == 0])
    files = [str(path) for path in sorted(tmp_path.glob("*.txt"))]
    args = ["--text", *files, "--tokens", "words", "--output", str(tmp_path / "run")]
    with pytest.raises(SystemExit, match="words: it is too short to learn from; 97 are needed"):
        language_model.main(language_model.arguments(args))
    assert not (tmp_path / "run").exists()


def test_each_files_texts_are_its_own(tmp_path):
    """One has its texts between blank lines, the other one a line; neither ends in a line's end."""
    for name, text in (("a", "one\nwith two lines\n\ntwo"), ("b", "three\nfour")):
        (tmp_path / name).write_text(text)
    args = language_model.arguments(["--text", str(tmp_path / "a"), str(tmp_path / "b")])
    found = language_model.load_texts(args)
    assert found == ["one\nwith two lines", "two", "three", "four"]
    assert language_model.load(args) == "one\nwith two lines\n\ntwo\nthree\nfour"


def test_damaged_encoders_are_refused(runs, tmp_path):
    (tmp_path / "vocabulary.txt").write_text("a\nb")
    (tmp_path / "encoder.keras").write_bytes((runs_file := f"{runs['gru']}/encoder.keras").encode())
    with pytest.raises(SystemExit, match="can't be read"):
        encoders.Encoders([str(tmp_path)], layers.GRU)
    with open(runs_file, "rb") as file:
        (tmp_path / "encoder.keras").write_bytes(file.read())
    with pytest.raises(SystemExit, match="has 2 words"):
        encoders.Encoders([str(tmp_path)], layers.GRU)


def test_wrong_options_are_refused(runs, tmp_path, capsys):
    forwards, backwards = runs["forwards"], ["--dataset", "imdb", "--backwards"]
    for recipe, wrong, says in (
        (language_model, ["--backwards"], "give --tokens words"),
        (language_model, ["--dataset", "imdb", "--tokens", "characters"], "give --tokens words"),
        (language_model, [*backwards, "--generate", "a"], "makes an encoder"),
        (sentiment, ["--pretrained", str(tmp_path)], "has no encoder.keras"),
        (sentiment, ["--pretrained", *[forwards] * 3], "one folder or two"),
    ):
        with pytest.raises(SystemExit):
            recipe.arguments(wrong)
        assert says in capsys.readouterr().err
    with pytest.raises(SystemExit, match="too little text"):
        language_model.split_texts(["a b"] * 100, 0)


def test_the_tagger_reads_as_its_encoders_do(runs):
    """Its words are the treebank's and then theirs, and it doesn't change what they say."""
    started = encoders.Encoders([runs["backwards"], runs["forwards"]], layers.LSTM)
    train = [(["A", "good", "saw", "saw"], ["DET", "ADJ", "NOUN", "VERB"])]
    model = pos_tagging.build(train, ["DET", "ADJ", "NOUN", "VERB"], "lstm", pretrained=started)
    lookup = model.get_layer("vocabulary").number.get_vocabulary()
    assert lookup[2:] == ["saw", *KNOWN]
    read = keras.Model(model.input, [model.get_layer("read_both").output, model.output])
    words = [["a", "Good", "saw", "film"], ["bad", "", "", ""]]
    found, _ = read(tf.constant(words))
    numbers = [[KNOWN.index(w.lower()) + 2 if w.lower() in KNOWN else 1 for w in row if w]
               for row in words]  # fmt: skip
    for states, row in zip(found.numpy(), numbers):
        forwards, backwards = (started.models[name] for name in ("forwards", "backwards"))
        after = forwards(np.array([row]))[0]
        before = backwards(np.array([row[::-1]]))[0][::-1]
        np.testing.assert_allclose(
            states[: len(row)], np.concatenate([before, after], -1), atol=1e-5
        )
    frozen = ("embedding_backwards", "embedding", "read", "read_backwards")
    fixed = [layer.name for layer in model.layers if layer.weights and not layer.trainable]
    assert set(fixed) == {*frozen}
