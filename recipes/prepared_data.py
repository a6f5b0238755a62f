"""Datasets from TensorFlow Datasets, with a clear word when they cannot be had."""

import urllib.error
import urllib.request

import tensorflow_datasets as tfds


def load(name: str):
    """`tfds.load(name)`: from $TFDS_DATA_DIR or ~/tensorflow_datasets, else downloaded.

    Returns:
        (the splits by name, the dataset's info)

    Raises:
        SystemExit: If the dataset is neither prepared nor to be downloaded.
    """
    builder = tfds.builder(name)
    if not builder.is_prepared() and not network():
        raise unavailable(name, f"not prepared under {builder.data_dir}", "--dataset sample")
    try:
        return tfds.load(name, with_info=True)
    except (OSError, tfds.download.DownloadError) as error:
        raise unavailable(name, f"its download failed ({error})", "--dataset sample") from error


def network(address: str = "https://storage.googleapis.com") -> bool:
    """Whether anything answers: downloads would try for minutes before they give up."""
    try:
        urllib.request.urlopen(address, timeout=10)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def unavailable(name: str, reason: str, instead: str) -> SystemExit:
    return SystemExit(
        f"The dataset {name} is not here ({reason}) and there is no network to download it "
        f"over. To run on data that needs neither, use: {instead}"
    )
