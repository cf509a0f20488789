"""Seals: checksums of whole files, kept in the files themselves, where other readers ignore them."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, BinaryIO

from funcbio.files._error import FileError

END, END_BYTES = b"PK\x05\x06", 22
"""Beginning and size of the last record of a zip archive; a comment may follow it."""

WORDS = b"funcbio sha256 "
SEAL_BYTES = len(WORDS) + 64
SEALED_JSON = re.compile(rb',\n "sha256": "([0-9a-f]{64})"\n}\n\Z')
BLOCK_BYTES = 1 << 20
FORMAT = 2
"""Number of the format of files; files of the first format have neither a number nor a checksum."""


def digest(file: BinaryIO, size: int) -> bytes:
    """Computes the checksum of the first bytes of a file, in hexadecimal digits."""
    file.seek(0)
    checksum = hashlib.sha256()
    while size > 0 and (block := file.read(min(size, BLOCK_BYTES))):
        checksum.update(block)
        size -= len(block)
    return checksum.hexdigest().encode()


def seal_archive(file: BinaryIO) -> None:
    """Adds the checksum of everything before it to a zip archive, as the comment with which archives may end."""
    size = file.seek(0, 2)
    file.seek(size - END_BYTES)
    end = file.read()
    assert end[:4] == END, "an archive without a comment"
    file.seek(size - 2)
    file.write(SEAL_BYTES.to_bytes(2, "little") + WORDS)
    file.write(digest(file, file.seek(0, 2)))


def is_sealed_archive(file: BinaryIO) -> bool:
    """Returns True if a zip archive has a seal, and False if it ends without a comment, as torch writes it.

    Raises:
        ValueError: If it does not end like an archive, or the seal is broken; the message says what was found.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - END_BYTES - SEAL_BYTES))
    end = file.read()
    if end[-END_BYTES:].startswith(END) and end.endswith(b"\0\0"):
        return False
    head = END_BYTES - 2
    if not (end.startswith(END) and end[head:-64] == SEAL_BYTES.to_bytes(2, "little") + WORDS):
        raise ValueError(_kind_of_file(file, size))
    if digest(file, size - 64) != end[-64:]:
        raise ValueError("bytes that do not match its checksum")
    return True


def _kind_of_file(file: BinaryIO, size: int) -> str:
    """Describes a file that is no whole archive."""
    file.seek(0)
    start = file.read(BLOCK_BYTES)
    if not start.strip(b"\0"):
        return f"{size} bytes, all of them zero" if start else "nothing in it"
    return f"an archive without its end, {size} bytes" if start.startswith(b"PK") else "another kind of file"


def sealed_json(content: dict[str, Any]) -> bytes:
    """Spells content as JSON whose first entry, "format", says that the last one is a checksum of all before it."""
    body = json.dumps({"format": FORMAT, **content}, indent=1, allow_nan=False).encode()
    return body[:-2] + b',\n "sha256": "' + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


def read_json(path: Path) -> dict[str, Any]:
    """Reads a dictionary from a file of JSON, and compares its checksum; files of earlier versions have none.

    Raises:
        FileError: If it is damaged or no dictionary; the message names it.
        OSError: If it cannot be read.
    """
    should = f"{path} should be a whole file of JSON"
    if path.exists() and not path.is_file():  # Opening a pipe or a device may block forever.
        raise FileError(f"{should}; found {'a folder' if path.is_dir() else 'a device'}")
    text = path.read_bytes()
    seal = SEALED_JSON.search(text)
    body = text[: seal.start()] + b"\n}" if seal else text
    try:
        content = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise FileError(f"{should}; found {error if isinstance(error, ValueError) else 'too many brackets'}") from None
    if not isinstance(content, dict):
        raise FileError(f"{should} that holds a dictionary; found {type(content).__name__}")
    expected = seal[1].decode() if seal else None
    if ("format" in content or seal) and hashlib.sha256(body).hexdigest() != expected:
        raise FileError(f"{should}, as it was written; found bytes that do not match its checksum")
    return content
