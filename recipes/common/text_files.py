"""Text files as strings: gzip is unpacked, and what is in another encoding is refused."""

import gzip
import re
import zlib
from pathlib import Path


def read(path: Path, encoding: str | None = None) -> str:
    """The text of a file, whose lines end in "\\n".

    Args:
        path: What is in gzip is unpacked, whatever its name.
        encoding: As Python names it; None: UTF-8, with or without a byte order mark.

    Raises:
        SystemExit: If there is no such file, or it is in another encoding.
    """
    path = Path(path)
    try:
        found = path.read_bytes()
        if found.startswith(b"\x1f\x8b"):
            found = gzip.decompress(found)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise SystemExit(f"{path} cannot be read: {reason}.") from error
    try:
        text = found.decode(encoding or "utf-8-sig")
    except LookupError:
        raise SystemExit(
            f"--encoding: there is no {encoding!r}; utf-8, latin-1, cp1252 or gb18030 are some."
        ) from None
    except UnicodeDecodeError as error:
        line = found[: error.start].count(b"\n") + 1
        likely = "latin-1"
        if found[:2] in (b"\xff\xfe", b"\xfe\xff"):
            likely = "utf-16"
        elif re.search(rb"[\x80-\x9f]", found):  # Windows's dashes and quotes; no text in latin-1
            likely = "cp1252"
        raise SystemExit(
            f"{path}, line {line}, is not in {encoding or 'UTF-8'} (byte 0x{found[error.start]:02x}"
            f"). Say what it is in, for example --encoding {likely}; or save it as UTF-8."
        ) from None
    zeros = text.count("\0")
    if zeros > len(text) / 4:
        likely = "utf-16-be" if text.startswith("\0") else "utf-16-le"
        raise SystemExit(
            f"{path} is not in {encoding or 'UTF-8'}: it has zeros between its letters. Say what "
            f"it is in, for example --encoding {likely}; or save it as UTF-8."
        )
    if zeros:
        line = text[: text.index("\0")].count("\n") + 1
        raise SystemExit(f"{path}, line {line}, has a zero byte, which no text has: take it out.")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    stray = text.count("\r") <= text.count("\n")  # such a one ends no line
    return text.replace("\r", " " if stray else "\n")


def texts(text: str) -> list[str]:
    """The texts in one: what blank lines separate; where there are none, each line."""
    found = re.split(r"\n\s*\n", text.strip())
    found = found if len(found) > 1 else text.split("\n")
    return [part for part in found if part.strip()]


def refuse_unspaced(path: Path, text: str) -> None:
    """Ends the program if most of `text` is in a script that spaces don't split into words."""
    text = text[:100_000]
    letters = len(re.findall(r"[^\W\d_]", text)) or 1
    for languages, script, longest, splitter in (
        ("Chinese or Japanese", r"[\u3040-\u30ff\u3400-\u9fff]+", 4, "jieba or fugashi"),
        (
            "Thai, Lao, Burmese or Khmer",
            r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]+",
            9,
            "pythainlp",
        ),
    ):
        runs = re.findall(script, text)
        in_script = sum(map(len, runs))
        if in_script > letters / 3 and in_script / len(runs) > longest:
            raise SystemExit(
                f"{path} is {languages}, it seems, with no spaces between words, and words are "
                f"what is learned. Split it first, for example with {splitter}, and write the "
                "words with spaces between them."
            )
