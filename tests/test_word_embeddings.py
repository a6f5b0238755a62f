"""Word embeddings: the objective, the evaluation, the files and the SavedModel."""

import gzip
import json
import os
from collections import Counter

import numpy as np
import processes
import pytest
import tensorflow as tf
from conftest import REPOSITORY, answered, ask, ask_in_c, assert_same_answers, portable_ops
from google.protobuf import text_format
from tensorboard.plugins.projector import ProjectorConfig

from recipes import pos_tagging, sentiment, word_embeddings
from recipes.common import word_vectors
from recipes.common.samples import analogies
from recipes.common.word_dropout import WordDropout
from recipes.parts.word_embeddings import analogy_questions, vector_tables

pytestmark = pytest.mark.usefixtures("without_graph_optimizer")

FILES = {"curves.png", "map.png", "similarities.png"}


def run_recipe(folder, *arguments):
    script = REPOSITORY / "recipes/word_embeddings.py"
    places = ["--output", folder / "run", "--saved-models", folder / "saved_models"]
    return processes.run([script, *places, *arguments], cwd=folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder, what it printed) of a finished run on the sample."""
    folder = tmp_path_factory.mktemp("word_embeddings")
    done = run_recipe(folder, "--dataset", "sample", "--epochs", "5")
    return folder, done.stdout


@pytest.fixture(scope="module")
def spelt(tmp_path_factory):
    """The folder of a run on a text file, with n-grams, taken up again once it was done."""
    folder = tmp_path_factory.mktemp("ngrams")
    lines = "\n".join(analogies.texts(4000, "another"))
    (folder / "text.txt").write_bytes(lines.encode())
    command = ["--text", folder / "text.txt", "--ngrams", "--dimension", "20", "--epochs", "1"]
    run_recipe(folder, *command)
    again = run_recipe(folder, *command, "--analogy", "rome", "italy", "france")
    assert "Going on after epoch 1" in again.stdout and "rome − italy + france" in again.stdout
    return folder


def read_plainly(path):
    """word2vec's text format, by its description: (words, vectors)."""
    header, *lines = path.read_text("utf-8").split("\n")[:-1]
    rows = [line.split(" ") for line in lines]
    vectors = np.array([row[1:] for row in rows], float)
    assert [int(n) for n in header.split()] == list(vectors.shape)
    return [row[0] for row in rows], vectors


# --- A whole run ---------------------------------------------------------------------------


def test_it_solves_the_analogies_of_the_sample(run):
    folder, printed = run
    metrics = json.loads((folder / "run/metrics.json").read_text())
    test = metrics["test"]
    assert test["coverage"] == 1 and test["questions"] == 3 * 2 * 8 * 7
    assert min(test[kind]["accuracy"] for kind in ("semantic", "syntactic")) > 0.8
    assert metrics["vocabulary"] > 150  # by chance it would be one in so many
    assert metrics["words_per_second"] > 0
    assert "king − man + woman ≈ queen" in printed


def test_it_leaves_pictures_logs_and_checkpoints(run):
    folder, _ = run
    for name in FILES:
        assert (folder / "run" / name).read_bytes().startswith(b"\x89PNG")
    assert list((folder / "run/tensorboard").rglob("events.out.tfevents.*"))
    assert list((folder / "run/checkpoints").glob("*.weights.h5"))
    assert not [p for p in folder.rglob(".writing-*")]


def test_the_projector_finds_vectors_and_words_beside_the_logs(run):
    folder, _ = run
    logs = folder / "run/tensorboard/train"  # TensorBoard looks where there are events
    assert list(logs.glob("events.out.tfevents.*"))
    config = text_format.Parse((logs / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    assert not config.model_checkpoint_path  # so that TensorBoard looks for the latest
    checkpoint = tf.train.load_checkpoint(tf.train.latest_checkpoint(logs))
    vectors = checkpoint.get_tensor(embedding.tensor_name)
    labels = (logs / embedding.metadata_path).read_text("utf-8").splitlines()
    words, expected = read_plainly(folder / "run/vectors.txt")
    assert labels == words
    np.testing.assert_allclose(vectors, expected, rtol=1e-5)


def test_gensim_reads_the_vectors(run):
    gensim = pytest.importorskip("gensim")
    path = run[0] / "run/vectors.txt"
    loaded = gensim.models.KeyedVectors.load_word2vec_format(path)
    words, vectors = read_plainly(path)
    assert loaded.index_to_key == words
    np.testing.assert_allclose(loaded.vectors, vectors, rtol=1e-6)
    assert loaded.most_similar(["king", "woman"], ["man"])[0][0] == "queen"


# --- The SavedModel ------------------------------------------------------------------------


def test_the_saved_model_answers_as_numpy_does(run, tmp_path):
    folder, _ = run
    version = folder / "saved_models/word_embeddings/1"
    portable_ops(version)
    words, vectors = read_plainly(folder / "run/vectors.txt")
    place = {word: i for i, word in enumerate(words)}
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    asked = ["king", "Paris", "dogs", "unheard-of", ""]
    rows = [place[word.lower()] for word in asked[:3]]
    answer = ask(version, "serving_default", {"words": asked}, tmp_path)
    assert answer["known"].tolist() == [1, 1, 1, 0, 0]
    np.testing.assert_allclose(answer["vectors"][:3], vectors[rows], rtol=1e-5)
    assert np.all(answer["vectors"][3:] == 0)

    answer = answered(version, "neighbours", {"words": asked})
    assert answer["known"].tolist() == [1, 1, 1, 0, 0]
    for i, row in enumerate(rows):
        cosines, distances = units @ units[row], np.linalg.norm(vectors - vectors[row], axis=1)
        order = [j for j in np.argsort(-cosines) if j != row][:10]
        assert answer["similar"][i].tolist() == [words[j] for j in order]
        np.testing.assert_allclose(answer["similarities"][i], cosines[order], atol=1e-5)
        order = [j for j in np.argsort(distances) if j != row][:10]
        assert answer["near"][i].tolist() == [words[j] for j in order]
        np.testing.assert_allclose(answer["distances"][i], distances[order], rtol=1e-4)
    assert np.all(answer["similar"][3:] == "") and np.all(answer["near"][3:] == "")
    assert np.all(answer["similarities"][3:] == 0) and np.all(answer["distances"][3:] == 0)

    questions = np.array([["king", "man", "woman"], ["dogs", "dog", "Car"], ["king", "?", "man"]])
    answer = answered(version, "analogies", {"questions": questions})
    assert answer["known"].tolist() == [1, 1, 0]
    for i in range(2):
        a, b, c = (place[word.lower()] for word in questions[i])
        wanted = units[a] - units[b] + units[c]
        cosines = units @ wanted / np.linalg.norm(wanted)
        order = [j for j in np.argsort(-cosines) if j not in (a, b, c)][:10]
        assert answer["answers"][i].tolist() == [words[j] for j in order]
        np.testing.assert_allclose(answer["similarities"][i], cosines[order], atol=1e-5)
    assert answer["answers"][:2, 0].tolist() == ["queen", "cars"]
    assert np.all(answer["answers"][2] == "") and np.all(answer["similarities"][2] == 0)


def test_without_python_it_answers_the_same(run, c_program, tmp_path):
    version = run[0] / "saved_models/word_embeddings/1"
    for signature, inputs in {
        "neighbours": {"words": ["king", "unheard-of"]},
        "analogies": {"questions": [["king", "man", "woman"]]},
    }.items():
        expected = answered(version, signature, inputs)
        answer = ask_in_c(c_program, version, signature, inputs)
        assert_same_answers(answer, expected)


def test_with_ngrams_a_word_never_seen_has_a_vector_and_neighbours(spelt):
    version = spelt / "saved_models/word_embeddings/1"
    portable_ops(version)
    words, vectors = read_plainly(spelt / "run/vectors.txt")
    asked = ["king", "kings", "kıng🙂", "x", ""]
    answer = answered(version, "serving_default", {"words": asked})
    assert answer["known"].tolist() == [1, 0, 0, 0, 0]
    np.testing.assert_allclose(answer["vectors"][0], vectors[words.index("king")], rtol=1e-4)
    assert np.all(np.any(answer["vectors"][:4] != 0, axis=1)) and np.all(answer["vectors"][4] == 0)
    answer = answered(version, "neighbours", {"words": asked})
    assert np.all(answer["similar"][:4] != "") and np.all(answer["similar"][4] == "")


# --- The objective, against numpy and the papers' equations ----------------------------------


@pytest.fixture(scope="module")
def batch():
    """(text, counts, window, a batch) of words so rare that none is left out."""
    random = np.random.default_rng(0)
    text = np.concatenate([np.append(random.integers(1, 3001, n), 0) for n in (1, 2, 90, 400)])
    counts = np.full(3000, 7)
    (batch,) = word_embeddings.batches(text.astype("int32"), counts, 3, shuffle=False)
    return text, counts, 3, batch


def test_each_neighbour_counts_by_its_chance_to_be_in_the_window(batch):
    text, _, window, ((words, others), weights) = batch
    expected = Counter()
    for i in range(len(text)):
        for size in range(1, window + 1):  # word2vec draws one of these sizes
            for j in range(i - size, i + size + 1):
                between = text[max(0, min(i, j)) : max(i, j) + 1]
                if j != i and 0 <= j < len(text) and np.all(between > 0):
                    expected[text[i] - 1, text[j] - 1] += 1 / window
    found = Counter()
    for block, row, column in zip(*np.nonzero(weights.numpy() > 0)):
        pair = int(words[block, row]), int(others[block, column])
        found[pair] += float(weights[block, row, column])
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=1e-5)
    # For each pair, NEGATIVES negatives, and from those of its block one as much as another.
    weights = weights.numpy()
    negative = weights[:, :, -word_embeddings.SHARED :]
    assert np.all(weights[:, :, : -word_embeddings.SHARED] >= 0) and np.all(negative <= 0)
    np.testing.assert_allclose(
        negative.sum(-1), -word_embeddings.NEGATIVES * np.maximum(weights, 0).sum(-1), rtol=1e-5
    )
    assert np.ptp(negative, axis=-1).max() == 0


def loss_and_gradients(batch, v, u):
    """−log σ(u·v) for a neighbour, −log σ(−u·v) for a negative (Mikolov et al. 2013, 4)."""
    (words, others), weights = tf.nest.map_structure(lambda x: x.numpy(), batch)
    loss, dv, du = 0, np.zeros(v.shape), np.zeros(u.shape)
    for block, row, column in zip(*np.nonzero(weights)):
        w, c = words[block, row], others[block, column]
        sign, weight = np.sign(weights[block, row, column]), abs(weights[block, row, column])
        right = 1 / (1 + np.exp(-sign * (v[w] @ u[c])))
        loss -= weight * np.log(right)
        dv[w] -= weight * sign * (1 - right) * u[c]
        du[c] -= weight * sign * (1 - right) * v[w]
    return loss / np.maximum(weights, 0).sum(), [dv, du]


def test_steps_follow_the_gradient_of_the_papers_objective(batch):
    _, counts, _, batch = batch
    model = word_embeddings.build(["?"] * len(counts), 8, with_ngrams=False)
    word_embeddings.compile_model(model, 4)
    random = np.random.default_rng(1)
    tables = [random.normal(size=(len(counts), 8)) for _ in range(2)]
    model.set_weights(tables)
    data = tf.data.Dataset.from_tensors(batch)
    sums = [np.zeros((len(counts), 1)) for _ in range(2)]
    for step in range(3):
        loss, gradients = loss_and_gradients(batch, *tables)
        assert model.evaluate(data, verbose=0) == pytest.approx(loss, rel=1e-4)
        model.fit(data, shuffle=False, verbose=0)
        rate = word_embeddings.RATE * (1 - step / 4)
        for table, sum_, gradient in zip(tables, sums, gradients):
            sum_ += np.mean(gradient**2, axis=1, keepdims=True)
            table -= rate * gradient / np.sqrt(np.where(sum_ > 0, sum_, 1))
        for found, expected in zip(model.get_weights(), tables):
            np.testing.assert_allclose(found, expected, atol=1e-4)


def test_frequent_words_are_left_out_and_drawn_less_often():
    counts = np.array([60_000, 30_000, 9_000, 900, 100])
    text = np.random.default_rng(0).permutation(np.repeat(np.arange(1, 6), counts))
    data = list(word_embeddings.batches(text.astype("int32"), counts, 5, shuffle=False))
    share = counts / counts.sum()
    # The chance to be kept of word2vec's program: √(t / f) + t / f.
    kept = np.minimum(1, np.sqrt(1e-3 / share) + 1e-3 / share)
    positive = np.concatenate(
        [words.numpy()[(weights.numpy() > 0).any(-1)] for (words, _), weights in data]
    )
    found = np.bincount(positive, minlength=5)
    allowed = 4 * np.sqrt(counts * kept * (1 - kept)) + 2
    assert np.all(np.abs(found - counts * kept) <= allowed)
    negatives = np.concatenate(
        [others.numpy()[:, -word_embeddings.SHARED :].ravel() for (_, others), _ in data]
    )
    drawn = np.bincount(negatives, minlength=5) / len(negatives)
    expected = counts**0.75 / np.sum(counts**0.75)
    np.testing.assert_allclose(drawn, expected, atol=4 * np.sqrt(0.25 / len(negatives)))


def test_every_word_of_the_text_is_seen_once_an_epoch():
    random = np.random.default_rng(0)
    length = 2 * word_embeddings.BATCH + 100
    text = random.permutation(length) % 5000 + 1
    counts = np.bincount(text)[1:]
    for shuffle in (False, True):
        data = word_embeddings.batches(text.astype("int32"), counts, 2, shuffle)
        assert len(data) == 3
        words = np.concatenate([x.numpy()[(w.numpy() > 0).any(-1)] for (x, _), w in data])
        np.testing.assert_array_equal(np.bincount(words), counts)


def test_a_word_is_the_mean_of_its_own_vector_and_its_ngrams():
    words = ["king", "ça", "a"]
    layer = word_embeddings.build(words, 4, with_ngrams=True).get_layer("words")
    table = np.random.default_rng(0).normal(size=layer.table.shape).astype("float32")
    layer.table.assign(table)
    for i, word in enumerate(words):
        marked = f"<{word}>"
        grams = [marked[j : j + n] for n in (3, 4, 5, 6) for j in range(len(marked) - n + 1)]
        buckets = tf.strings.to_hash_bucket_fast(grams, vector_tables.BUCKETS).numpy()
        mean = table[[vector_tables.BUCKETS + i, *buckets]].mean(0)
        np.testing.assert_allclose(layer.of_all_words()[i], mean, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(layer(tf.constant([[i, 0]]))[0, 0], mean, rtol=1e-4, atol=1e-6)


# --- Evaluation ------------------------------------------------------------------------------


def test_analogies_are_counted_as_gensim_does(tmp_path):
    gensim = pytest.importorskip("gensim")
    random = np.random.default_rng(0)
    sections = analogies.questions()
    words = sorted({word for asked in sections.values() for q in asked for word in q})[:-3]
    vectors = random.normal(size=(len(words), 4)).astype("float32")
    path = tmp_path / "questions.txt"
    path.write_text(
        "".join(f": {s}\n" + "".join(f"{' '.join(q)}\n" for q in qs) for s, qs in sections.items())
    )
    assert analogy_questions.read(path) == sections
    scores = analogy_questions.evaluate(words, vectors, sections)
    theirs = gensim.models.KeyedVectors(4)
    theirs.add_vectors(words, vectors)
    accuracy, found = theirs.evaluate_word_analogies(path)
    assert scores["accuracy"] == pytest.approx(accuracy) and 0 < accuracy < 1
    counted = {s["section"]: len(s["correct"]) + len(s["incorrect"]) for s in found}
    assert {s: x["questions"] for s, x in scores["sections"].items()} == {
        s: counted[s] for s in sections
    }
    assert scores["coverage"] == counted["Total accuracy"] / sum(map(len, sections.values()))


def test_an_analogy_is_solved_by_its_vectors_and_not_by_its_own_words():
    words = ["man", "woman", "king", "queen", "far"]
    vectors = np.array([[1, 0, 0], [1, 0, 1], [1, 2, 0], [1, 2, 1], [-1, -1, -1]], float)
    asked = {"family": [["man", "woman", "king", "queen"], ["man", "woman", "king", "unknown"]]}
    scores = analogy_questions.evaluate(words, vectors, asked)
    assert scores["accuracy"] == 1 and scores["questions"] == 1 and scores["coverage"] == 0.5
    asked = {"gram": [["man", "woman", "king", "far"], ["man", "woman", "king", "king"]]}
    assert analogy_questions.evaluate(words, vectors, asked)["syntactic"]["accuracy"] == 0


# --- Vectors in other recipes ----------------------------------------------------------------


def test_vectors_are_read_as_they_were_written(tmp_path):
    words = ["a", "déjà", "line\u2028break", "\u00a0", "🙂"]
    vectors = np.random.default_rng(0).normal(size=(5, 7)).astype("float32")
    path = tmp_path / "vectors.txt"
    word_vectors.write(path, words, vectors)
    found, values = word_vectors.read(path)
    assert found == words
    np.testing.assert_allclose(values, vectors, rtol=1e-5)
    found, values = word_vectors.read(path, {"🙂", "elsewhere"})
    assert found == ["🙂"] and values.shape == (1, 7)


@pytest.mark.parametrize(
    "content, says",
    [
        (None, "No such file"),
        ("", "text format"),
        ("the 0.1 0.2\nof 0.3 0.4\n", "COUNT DIMENSION"),  # GloVe's, without the first line
        ("2 2\nthe 0.1 0.2\nof 0.3\n", "line 3: 1 numbers, not 2"),
        ("2 2\nthe 0.1 x\nof 0.3 0.4\n", "text format"),
        ("3 2\nthe 0.1 0.2\nof 0.3 0.4\n", "2 words, and says 3"),
        ("1 2\nelsewhere 0.1 0.2\n", "none of the"),
        ("2 2\nthe 0.1 nan\nof 0.3 0.4\n", "line 2: a number is not finite"),
        ("2 2\nthe 0.1 0.2\nof 0.3 1e39\n", "line 3: a number is not finite"),
    ],
)
def test_bad_vectors_are_told_of(tmp_path, content, says):
    if content is not None:
        (tmp_path / "bad.txt").write_text(content)
    with pytest.raises(SystemExit, match=says):
        word_vectors.embedding(["", "[UNK]", "the", "of"], str(tmp_path / "bad.txt"))


def test_of_a_word_that_comes_again_the_first_vector_counts(tmp_path, capsys):
    path = tmp_path / "vectors.txt"
    path.write_text("3 1\nthe 1\nof 2\nthe 3\n")
    words, vectors = word_vectors.read(path)
    assert words == ["the", "of"] and vectors.tolist() == [[1], [2]]
    assert "1 words come again; the first" in capsys.readouterr().out


def test_a_recipe_starts_from_vectors(tmp_path, capsys):
    path = tmp_path / "vectors.txt"
    random = np.random.default_rng(0)
    vectors = random.normal(scale=0.4, size=(2, 60)).astype("float32")
    word_vectors.write(path, ["film", "saw"], vectors)
    model = sentiment.build(sentiment.load("sample", 0)[0]["train"], "gru", embeddings=str(path))
    lookup = model.get_layer("vocabulary").get_vocabulary()
    table = model.get_layer("embedding").get_weights()[0]
    assert table.shape == (len(lookup), 60)
    np.testing.assert_allclose(table[lookup.index("film")], vectors[0], rtol=1e-5)
    others = np.delete(table, lookup.index("film"), axis=0)
    assert np.std(others) == pytest.approx(0.4, rel=0.15)
    assert np.unique(others, axis=0).shape == others.shape
    assert "vectors for 2 of" in capsys.readouterr().out


def test_the_tagger_knows_words_by_their_vectors_alone(tmp_path):
    path, vectors = tmp_path / "vectors.txt", np.eye(3, dtype="float32") + 1
    word_vectors.write(path, ["saw", "never-trained", "nor-this"], vectors)
    data, tags = pos_tagging.load("sample", 0)
    model = pos_tagging.build(data["train"], tags, "gru", embeddings=str(path))
    lookup = model.get_layer("vocabulary").number.get_vocabulary()
    assert lookup[-2:] == ["never-trained", "nor-this"]
    layer = model.get_layer("vectors")
    assert not layer.trainable and not np.any(layer.get_weights()[0][:2])
    words = tf.constant([["Never-Trained", "saw", "unknown", ""]])
    numbers = model.get_layer("vocabulary")(words)
    np.testing.assert_array_equal(layer(numbers)[0, :2], vectors[[1, 0]])
    # Its own vector is that of an unknown word, as is in training a share of the others'.
    hide = WordDropout(len(lookup) - 2, rate=0.3)
    assert hide(numbers).numpy().tolist() == [[1, lookup.index("saw"), 1, 0]]
    many = np.tile(numbers, (3000, 1))
    shown = hide(many, training=True).numpy()
    np.testing.assert_array_equal(shown[:, [0, 2, 3]], hide(many).numpy()[:, [0, 2, 3]])
    assert np.mean(shown[:, 1] == 1) == pytest.approx(0.3, abs=0.04)
    word_vectors.write(path, ["elsewhere"], vectors[:1])
    with pytest.raises(SystemExit, match="none of the"):
        pos_tagging.build(data["train"], tags, "gru", embeddings=str(path))
    run = tmp_path / "run"
    given = ["--dataset", "sample", "--embeddings", str(path), "--output", str(run)]
    with pytest.raises(SystemExit, match="none of the words of the first training texts"):
        sentiment.main(sentiment.arguments(given))
    assert not run.exists()


# --- Errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content, says",
    [
        ("a b c d\n", "line 1"),
        (": family\na b c\n", "line 2: 'a b c'"),
        (": family\n", "it has no question"),
    ],
)
def test_bad_questions_are_told_of(tmp_path, capsys, content, says):
    asked = ["--dataset", "sample", "--questions", str(tmp_path / "bad.txt")]
    with pytest.raises(SystemExit):
        word_embeddings.arguments(asked)
    assert "there is no file" in capsys.readouterr().err
    (tmp_path / "bad.txt").write_text(content)
    with pytest.raises(SystemExit, match=says):
        word_embeddings.main(word_embeddings.arguments(asked))


def test_a_text_that_is_not_there_or_too_short_is_told_of(tmp_path, capsys):
    path = tmp_path / "text.txt"
    with pytest.raises(SystemExit):
        word_embeddings.arguments(["--text", str(path)])
    assert "there is no file" in capsys.readouterr().err
    for content in ("", "a b " * 40, "a b " * 2000):
        path.write_text(content)
        with pytest.raises(SystemExit, match="too little"):
            learn(path, tmp_path)
    words = [f"word{letter}" for letter in "abcdefghij"]
    for content, part in (
        ("\n".join(words * 200), "train"),
        (" ".join(words * 200) + "\n" + "\n".join(words * 5), "validation"),
    ):
        path.write_text(content)
        with pytest.raises(SystemExit, match=f"beside each other in the text's {part} part"):
            learn(path, tmp_path)
    assert os.listdir(tmp_path) == ["text.txt"]


def learn(path, folder):
    command = ["--text", str(path), "--output", str(folder / "run")]
    word_embeddings.main(word_embeddings.arguments(command))


def test_a_text_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes("one\nein schöner Tag\n".encode("latin-1"))
    with pytest.raises(SystemExit, match=r"line 2, is not in UTF-8.*--encoding latin-1"):
        learn(path, tmp_path)
    (line, *_) = word_embeddings.read_own([path], "latin-1").skip(1).as_numpy_iterator()
    assert line.decode() == "ein schöner Tag"


def test_several_texts_are_read_in_turn(tmp_path):
    (tmp_path / "a.txt").write_text("one two\nthree\n")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"four"))
    lines = word_embeddings.read_own([tmp_path / "a.txt", tmp_path / "b.txt.gz"], None)
    assert [x.decode() for x in lines.as_numpy_iterator() if x] == ["one two", "three", "four"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("我们今天去看电影，然后回家吃饭。这部电影非常好看。\n", "Chinese or Japanese"),
        ("今日は映画を見に行きました。とても面白かったです。\n", "Chinese or Japanese"),
        ("วันนี้เราไปดูหนังด้วยกันแล้วกลับบ้าน สนุกมากเลยทีเดียว\n", "Thai"),
    ],
)
def test_text_that_spaces_do_not_split_is_noticed(text, says, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(text * 100)
    with pytest.raises(SystemExit, match=f"{says}.* with no spaces between words"):
        learn(path, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "我们 今天 去 看 电影 ， 然后 回家 吃饭 。",
        "วันนี้ เรา ไป ดู หนัง ด้วยกัน แล้ว กลับ บ้าน",
        "오늘 우리는 영화를 보러 갔습니다",
        "The film 千と千尋の神隠し is by Miyazaki, and many people liked it.",
    ],
)
def test_text_that_spaces_do_split_is_taken(text, tmp_path):
    (tmp_path / "text.txt").write_text(text)
    assert len(word_embeddings.read_own([tmp_path / "text.txt"], None)) == 1
