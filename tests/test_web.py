"""The page of serving/web in a real browser: what it says is what the SavedModels answer."""

import argparse
import functools
import http.server
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import unicodedata

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import REPOSITORY
from drawn_models import perturbed
from text import numbers as numbers_of_csv

from recipes import forecasting, pos_tagging, sentiment
from recipes.common import other_runtimes, words
from recipes.common.portable_rules import portable
from recipes.common.samples import grammar, reviews
from recipes.parts.forecasting import forecasting_export
from recipes.parts.pos_tagging import tagging_export
from recipes.parts.sentiment import sentiment_export

pytestmark = pytest.mark.usefixtures("without_graph_optimizer")
WEB = REPOSITORY / "serving/web"
HOSTILE = [
    "I saw a saw.",
    "",
    " \t ",
    "They can't (really) see the “Élan”…  DON’T!? It's 2.5, CANNOT isn't it?",
    "ΟΔΥΣΣΕΥΣ Σ. Straße İstanbul ǅ ﬁ naïve ’s e\u0301 日本語です ไทย I’ve\x0bthe 🙂👩‍👩‍👧 good",
    "a_b __proto__ constructor toString $1 $& \\1 <script>alert(1)</script> <br />x<y>z & &amp; <b",
    "n't'sIt'ſ it'ſx we'\u212a CAN\u00a0not\u2003x\u2028y n'té n't_ can'tſ''s 'S'LL'RE ½²Ⅷ٣क",
]
UNREACHED = "ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH"
PIECES = ["The fil", "m was go", "od, <br", " />not ba", "d’t isn", "'t  Élan 🙂", "! bad"]
LEVELS, LOOKBACK, LONGEST = (0.1, 0.5, 0.9), 12, 14
MEAN, STD = np.array([1.0, -2000.0], "float32"), np.array([0.5, 300.0], "float32")
ROWS = [(1 + 0.5 * np.sin(i), -2000 + 100.0 * i) for i in range(LOOKBACK + 3)]
EXAMPLE = "date,a,b\n" + "".join(
    f"2024-01-{i + 1:02},{a:.6g},{b:g}\n" for i, (a, b) in enumerate(ROWS)
)
COMMAS = "Tag;Größe;b\n" + "".join(
    f"{i}.1.2024;{a:.4f};{b:g}\n".replace(";1.", ";1,").replace(";0.", ";0,")
    for i, (a, b) in enumerate(ROWS)
)
WRONG = {
    "": "Paste rows of numbers",
    "a,b\n": "No column ends with a number",
    "1,2,3\n" * LOOKBACK: "3 columns of numbers, and the model reads 2: a, b",
    "a,b\n"
    + "1,2\n" * 5: f"There are 5 rows, and the model reads {LOOKBACK}. Paste {LOOKBACK - 5}",
    "1,2\n1\n" + "1,2\n" * LOOKBACK: "Row 2 has 1 values, the first row 2",
    "1,2\n1, \n" + "1,2\n" * LOOKBACK: 'Row 2 has no number in column 2: " "',
    "1,2\n1,nan\n" + "1,2\n" * LOOKBACK: 'column 2: "nan"',
    "1e39,1\n" * LOOKBACK: "too large",
}


def node(script: str, given, *arguments) -> object:
    """What a script prints as JSON, given some in its standard input."""
    how = [script] if script.endswith(".mjs") else ["--input-type=module", "-e", script]
    done = subprocess.run(
        ["node", *how, *arguments],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def packages():
    """npm's, in their ignored folder."""
    missing = [name for name in ("node", "npm") if not shutil.which(name)]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: https://nodejs.org")
    if not (WEB / "node_modules/playwright-core").exists():
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=WEB, capture_output=True, text=True)
        if done.returncode and any(f"code {code}" in done.stderr for code in UNREACHED):
            pytest.skip(f"npm's registry can't be reached: {done.stderr[-300:]}")
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """{name: (what the SavedModel answers by, its folder onnx)} of three small models."""
    if not importlib.util.find_spec("tf2onnx"):
        reason = "tf2onnx not installed: pip install -r serving/requirements.txt"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    folder = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentiment, "LONGEST", LONGEST)
        tagger = perturbed(
            pos_tagging.build(grammar.sentences(300, "train"), grammar.TAGS, "lstm", 8)
        )
        review = perturbed(
            sentiment.build(reviews.reviews(200, "train"), "gru", 8, unidirectional=True)
        )
        of_series = forecasting.build(MEAN, STD, LOOKBACK, 6, "gru", 4, units=8, levels=LEVELS)
        of_series = perturbed(of_series)
        served = {
            "tagging": {**pos_tagging.signatures(tagger, grammar.TAGS), "model": tagger},
            "review": sentiment.signatures(review),
            "forecasting": forecasting.signatures(of_series, MEAN, STD, LEVELS),
        }
    numeric = {
        "tagging": tagging_export.numeric(tagger, pos_tagging.SPLIT, grammar.TAGS),
        "review": sentiment_export.numeric(review, words.RULES, sentiment.LABELS, LONGEST),
        "forecasting": forecasting_export.numeric(
            of_series, MEAN, STD, LEVELS, ["a", "b"], EXAMPLE
        ),
    }
    for name, made in numeric.items():
        args = argparse.Namespace(onnx=True, output=folder / name)
        args.output.mkdir()
        other_runtimes.write(args, lambda made=made: made, lambda model: {})
    return {name: (served[name], folder / name / "onnx") for name in served}


@pytest.fixture(scope="module")
def read(packages, models, tmp_path_factory):
    """What tests/browse.mjs read off the page."""
    page = tmp_path_factory.mktemp("page") / "dist"
    places = [x for name, (_, folder) in models.items() for x in (f"--{name}", folder)]
    command = [sys.executable, WEB / "build.py", "--output", page, *places]
    subprocess.run(command, check=True, capture_output=True)
    files = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(page))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/"
            given = {"sentences": HOSTILE, "pieces": PIECES, "texts": HOSTILE}
            given["series"] = [COMMAS, *WRONG]
            yield node("tests/browse.mjs", given, url)
        finally:
            server.shutdown()


def check_tags(found, sentence, served):
    answer = served["serving_default"][0](tf.constant([sentence]))
    expected = {name: x.numpy()[0] for name, x in answer.items()}
    real = [x.decode() for x in expected["words"] if x]
    assert [one["word"] for one in found] == real
    assert [one["tag"] for one in found] == [x.decode() for x in expected["tags"] if x]
    each = served["model"](tf.constant([real or [""]])).numpy()[0]
    for one, row in zip(found, each):
        best = sorted(zip(row, grammar.TAGS), reverse=True)[:5]
        np.testing.assert_allclose([p for _, p in one["odds"]], [p for p, _ in best], atol=1e-5)
        assert one["odds"][0][0] == one["tag"] and {t for t, _ in one["odds"]} <= {*grammar.TAGS}


def test_it_starts_with_answers_and_asks_nobody_else(read, models):
    served = models["tagging"][0]
    check_tags(read["first"]["tagger"], "I saw a saw.", served)
    assert [one["word"] for one in read["first"]["tagger"]] == ["I", "saw", "a", "saw", "."]
    assert read["said"] == []


def test_the_tagger(read, models):
    for sentence, found in zip(HOSTILE, read["sentences"], strict=True):
        check_tags(found, sentence, models["tagging"][0])
    assert len({one["tag"] for found in read["sentences"] for one in found}) > 2


def test_a_review_as_it_is_typed(read, models):
    """Beside the SavedModel's signature `stream`, given the same pieces."""
    served = models["review"][0]
    (stream, specs, _), initial_state = served["stream"], served["initial_state"][0]
    states, found = initial_state(tf.constant(1)), []
    for piece in PIECES:
        given = {"chunk": tf.constant([piece]), **states}
        answer = stream(*(given[name] for name in specs))
        states = {name: answer[name] for name in states}
        found.append(answer["probabilities"].numpy()[0, 1])
    np.testing.assert_allclose([one["positive"] for one in read["pieces"]], found, atol=1e-5)
    assert np.ptp(found) > 0.01


def test_reviews(read, models):
    answer = models["review"][0]["serving_default"][0](tf.constant(HOSTILE))
    found = read["texts"]
    np.testing.assert_allclose(
        [one["positive"] for one in found], answer["probabilities"][:, 1], atol=1e-5
    )
    assert [one["label"] for one in found] == [x.decode() for x in answer["label"].numpy()]
    assert max(len(one["words"]) for one in found) == LONGEST  # more are not read


def test_forecasts(read, models, tmp_path):
    served = models["forecasting"][0]["serving_default"][0]
    for csv, found in ((EXAMPLE, read["first"]["forecast"]), (COMMAS, read["series"][0])):
        (tmp_path / "window.csv").write_text(csv)
        window = np.array(numbers_of_csv(tmp_path / "window.csv"), "float32")[-LOOKBACK:]
        expected = served(tf.constant(window[None]))["quantiles"].numpy()[0]
        header, *rows = [line.split(",") for line in found["numbers"].splitlines()]
        second = csv[: csv.index("\n")].replace(";", ",").split(",")[1]
        assert header == ["step", *(f"{x} q{q}" for q in (10, 50, 90) for x in (second, "b"))]
        rows = np.array(rows, float)
        np.testing.assert_array_equal(rows[:, 0], np.arange(1, 7))
        by_level = rows[:, 1:].reshape(6, 3, 2).swapaxes(0, 1)
        np.testing.assert_allclose(by_level, expected, rtol=2e-5)
        assert found["problem"] is None
        assert f"b: {LOOKBACK} steps of the past and 6 forecast" in found["picture"]


def test_a_wrong_csv_is_told_with_its_remedy(read):
    for found, said in zip(read["series"][1:], WRONG.values(), strict=True):
        assert said in (found["problem"] or "")
    assert "数值过大" in read["chinese"]["problem"]


def test_chinese_keys_and_without_a_network(read):
    assert read["chinese"]["title"] == "浏览器里的循环网络"
    assert read["chinese"]["language"] == "zh"
    assert read["keys"] == {"word": "saw", "odds": True, "described": "odds"}
    assert read["offline"]["title"] == read["chinese"]["title"]
    tags = [
        [one["tag"] for one in found]
        for found in (read["offline"]["tagger"], read["first"]["tagger"])
    ]
    assert tags[0] == tags[1]


def test_a_missing_model_leaves_the_others(read):
    missing = read["missing"]
    assert "请运行 make web" in missing["problem"] and missing["answer"] is None
    assert missing["tagger"] == read["first"]["tagger"]


STRINGS = """
import { readFileSync } from "node:fs";
import { STRINGS } from "./serving/web/strings.js";
readFileSync(0);
const names = (all) =>
  Object.entries(all).map(([name, x]) => [name, typeof x, typeof x === "object" ? names(x) : 0]);
console.log(JSON.stringify(Object.values(STRINGS).map(names)));
"""


def test_both_languages_say_the_same_things(packages):
    english, chinese = node(STRINGS, None)
    assert english == chinese and len(english) > 30


SPLIT = """
import { readFileSync } from "node:fs";
import { Reader } from "./serving/web/words.js";
const { about, lower, texts } = JSON.parse(readFileSync(0));
const reader = new Reader(about);
console.log(JSON.stringify(texts.map((text) => {
  const words = reader.split(lower ? text.toLowerCase() : text);
  return [words, [...reader.numbers(words)], [...reader.spelling(words)]];
})));
"""


def every_character():
    """Without capitals that are newer than TensorFlow's Unicode, of 2020."""
    each = [chr(n) for n in (*range(1, 0xD800), *range(0xE000, 0x20000))]
    each = [one for one in each if unicodedata.category(one) != "Cn"]
    lower = tf.strings.lower(each, "utf-8").numpy()
    return "".join(one for one, x in zip(each, lower) if x.decode() == one.lower())


def test_words_as_tensorflow_splits_them(packages):
    texts = [*HOSTILE, every_character()]
    assert len(texts[-1]) > 80_000
    known, letters = ["saw", "constructor", "日", "n't"], ["a", "🙂"]
    for rules, lower, split in (
        (pos_tagging.SPLIT, False, pos_tagging.split_words),
        (words.RULES, True, lambda x: tf.strings.split(words.standardize(x))),
    ):
        about = {"rules": portable(rules), "words": known, "longest": 3}
        about["letters"] = letters
        found = node(SPLIT, {"about": about, "texts": texts, "lower": lower})
        expected = split(tf.constant(texts)).to_list()
        for (one, _, spelling), row in zip(found, expected, strict=True):
            assert one == [word.decode() for word in row]
            places = [letters.index(x) + 2 if x in letters else 1 for w in one for x in w[:3]]
            assert [x for x in spelling if x] == places and len(spelling) == 3 * len(one)
    number = words.vectorization(vocabulary=known, ragged=True)
    assert [row for _, row, _ in found] == number(tf.constant(texts)).to_list()


CSV = """
import { readFileSync } from "node:fs";
globalThis.navigator ??= { language: "en" };
const { parseCsv } = await import("./serving/web/csv.js");
const read = (text) => {
  try {
    return parseCsv(text);
  } catch (problem) {
    return { problem: String(problem.message || problem) };
  }
};
console.log(JSON.stringify(JSON.parse(readFileSync(0)).map(read)));
"""


def test_tables_as_the_clients_read_them(packages, tmp_path):
    texts = [
        EXAMPLE,
        COMMAS,
        '\ufeff"a, b",x\r\n"1",2.5e3\r\n\r\n.5,-2.',
        "1\n2\n",
        "a|t|b\n1|x|2\n",
    ]
    texts += ["0,5;1\n2;3\n4;5\n", "0,5;1,5\n2;3\n"]
    texts += ["date,due,a\n2024-01-01,2024-02-10,5\n2024-01-02,2024-01-20,6\n"]
    texts += ["d;a;b\nx;1.234;5,5\nx;2.345;6\n", "date,101,102\n2024-01-01,3,4\n2024-01-02,5,6"]
    texts += ["\n1,5;2,5\n1,6;2,6\n", "a,note\n1,x\n2,3\n4,y\n5,z\n"]
    texts += ["Tag;Größe;b\n1.7.2016;1.000,5;2\n2.7.2016;3;4,5\n", "7\t8\n+1\t2"]
    for text, found in zip(texts, node(CSV, texts), strict=True):
        (tmp_path / "window.csv").write_bytes(text.encode())
        assert found["rows"] == numbers_of_csv(tmp_path / "window.csv")
    refused = [
        "d;a\nx;2.5\ny;1,5\nz;3.75\n",
        "d\ta\nx\t1,234\ny\t12,345\n",
        "d,a\n2024-01-01 23:00,1\n2024-01-01 00:00,3\n",
        "d,a,b\n2024-01-01,1,2\n2024-01-02,3,4\n2024-01-03,,5\n",
        'd,a,b\n2024-01-01,1,2\n2024-01-02,3,4\n2024-01-03,"1,234",5\n',
    ]
    for text, found in zip(refused, node(CSV, refused), strict=True):
        assert found.get("problem"), found
        (tmp_path / "window.csv").write_bytes(text.encode())
        with pytest.raises(SystemExit):
            numbers_of_csv(tmp_path / "window.csv")


def test_what_is_missing_is_named(tmp_path):
    command = [sys.executable, WEB / "build.py", "--output", tmp_path / "dist"]
    command += [f"--{name}={tmp_path}" for name in ("tagging", "review", "forecasting")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "pos_tagging.py --onnx writes one" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_real_run_is_taken_before_a_samples(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(WEB))
    build = importlib.import_module("build")
    monkeypatch.setattr(build, "REPOSITORY", tmp_path)
    for age, run in ((9, "imdb-lstm"), (2, "data-gru"), (1, "sample-lstm")):
        folder = tmp_path / "runs/sentiment" / run / "onnx"
        folder.mkdir(parents=True)
        (folder / "stream.onnx").touch()
        os.utime(folder, (time.time() - age, time.time() - age))
    assert build.newest(build.MODELS["review"]).parent.name == "data-gru"
