"""Files that are there whole or not at all."""

import fcntl
import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write(path: Path, writer: Callable[[Path], object]) -> None:
    """Has `writer` write the file beside its place, then puts it there at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".writing-{path.name}")
    try:
        writer(beside)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def make_sure_of_room(folder: Path, size: int) -> None:
    """Raises the system's OSError if `size` bytes can't be written, before who takes it badly does.

    HDF5 crashes on a full disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(size))


LOCK = ".lock"  # a file of its own: where models are published, the folder itself is locked
_held = {}  # {a lock's inode: its handle}


def keep_others_out(folder: Path) -> None:
    """No other process gets past this for `folder`, until this one ends or calls it for another.

    Raises:
        SystemExit: If another has.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    found = os.fstat(handle)
    known = found.st_dev, found.st_ino
    if known in _held:
        os.close(handle)
        return
    while _held:
        os.close(_held.popitem()[1])
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise SystemExit(
            f"Another process works in {folder}: wait until it is done, or give another --output."
        ) from None
    except OSError:
        pass  # some network file systems have no locks
    _held[known] = handle


def write_json(path: Path, value: dict) -> None:
    """Writes valid JSON: what is no number there (nan, inf) becomes null."""
    text = json.dumps(_plain(value), indent=1, allow_nan=False)
    write(path, lambda beside: beside.write_text(text, "utf-8"))


def _plain(value):
    if isinstance(value, dict):
        return {str(name): _plain(x) for name, x in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(x) for x in value]
    if isinstance(value, Path):
        return str(value)
    value = value.item() if hasattr(value, "item") else value  # numpy's numbers
    return None if isinstance(value, float) and not math.isfinite(value) else value


def why_not_writable(folder: Path) -> str | None:
    """Why files can't be written into `folder`, which need not be there yet; None if they can."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        return f"{there} is not a folder"
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        return f"{there} can't be written to ({error.strerror})"
    return None
