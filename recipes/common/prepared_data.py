"""Datasets from TensorFlow Datasets, with a clear word when they cannot be had."""

import os
import urllib.error
import urllib.request
from pathlib import Path

import keras
import tensorflow as tf
import tensorflow_datasets as tfds

ETTH1_URL = "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv"
ETTH1_SHA256 = "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066"


def load(name: str) -> tuple[dict[str, tf.data.Dataset], tfds.core.DatasetInfo]:
    """`tfds.load(name)`: from $TFDS_DATA_DIR or ~/tensorflow_datasets, else downloaded.

    Returns:
        (the splits by name, the dataset's info)

    Raises:
        SystemExit: If there is no such dataset, or it is neither prepared nor to be downloaded.
    """
    try:
        builder = tfds.builder(name)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise SystemExit(
            f"--dataset: TFDS has no {name} (https://www.tensorflow.org/datasets/catalog lists "
            "what it has; a configuration stands behind the name, as in glue/sst2)."
        ) from error
    prepared = builder.is_prepared()
    if not prepared:
        need_network(name, f"not prepared under {builder.data_dir}")
    try:
        try:
            return tfds.load(name, with_info=True)
        except OSError:
            if prepared or not builder.is_prepared():
                raise
            return tfds.load(name, with_info=True)  # another worker was faster to prepare it
    except (OSError, tfds.download.DownloadError) as error:
        raise SystemExit(
            f"The dataset {name} could not be loaded: {error}\n"
            "To run on data that needs no download, use --dataset sample"
        ) from error


def reviews() -> tf.data.Dataset:
    """IMDB's, each a string; without the test part, which recipes are scored on."""
    splits, _ = load("imdb_reviews")
    return splits["train"].concatenate(splits["unsupervised"]).map(lambda review: review["text"])


def need_network(name: str, reason: str, url: str = "https://storage.googleapis.com") -> None:
    """Ends the program, early and clearly, where a download would try for minutes in vain."""
    try:
        urllib.request.urlopen(url, timeout=10)
    except urllib.error.HTTPError:
        pass  # an answer, at any rate
    except OSError as error:
        raise SystemExit(
            f"The dataset {name} is not here ({reason}), and there is no network to download it "
            f"over ({error}). To run on data that needs neither, use --dataset sample"
        ) from error


def etth1() -> str:
    """The path of ETTh1.csv, fetched the first time, and checked every time."""
    folder = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    if not (folder / "datasets" / "ETTh1.csv").exists():
        need_network("ETTh1", f"not in {folder}, and no --data given", ETTH1_URL)
    return keras.utils.get_file("ETTh1.csv", ETTH1_URL, file_hash=ETTH1_SHA256, cache_dir=folder)
