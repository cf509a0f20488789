"""Archives of torch: checks that entries are whole, not compressed, and no larger than the file."""

import zipfile
from typing import BinaryIO

from funcbio.files._seal import BLOCK_BYTES, is_sealed_archive

PICKLE = "data.pkl"
FOLDER = 0x10
"""The attribute by which archives mark entries that are folders."""


def check_archive(file: BinaryIO) -> tuple[bytes, dict[str, int]]:
    """Checks an archive of ``torch.save`` block by block, in the memory of one block.

    Args:
        file: The open file.

    Returns:
        The pickle in it, and the size of every other entry by name, without the folder that all of them are in.

    Raises:
        ValueError: If something is not as ``torch.save`` writes it, or damaged; the message says what was found.
    """
    sealed = is_sealed_archive(file)
    try:
        with zipfile.ZipFile(file) as archive:
            sizes = _sizes(archive.infolist(), file.seek(0, 2))
            if not sealed:
                _compare_checksums(archive)
            pickle = next(entry for entry in archive.infolist() if entry.filename.endswith(f"/{PICKLE}"))
            return archive.read(pickle), sizes
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"damage ({str(error) or type(error).__name__})") from None


def _sizes(entries: list[zipfile.ZipInfo], size: int) -> dict[str, int]:
    folders = {entry.filename.partition("/")[0] for entry in entries}
    names = [entry.filename.partition("/")[2] for entry in entries]
    if names.count(PICKLE) != 1 or len(folders) != 1 or any(name.startswith("code/") for name in names):
        raise ValueError("another kind of archive")
    if len(set(names)) != len(names):
        raise ValueError(f"two entries of the name {max(names, key=names.count)}")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or entry.flag_bits & 1:
            raise ValueError(f"an entry that is compressed or encrypted, {entry.filename}")
        if entry.is_dir() or entry.external_attr & FOLDER:  # Torch would leave its memory uninitialized.
            raise ValueError(f"an entry that is a folder, {entry.filename}")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("entries of more bytes than the file has")
    return dict(zip(names, (entry.file_size for entry in entries), strict=True))


def _compare_checksums(archive: zipfile.ZipFile) -> None:
    for entry in archive.infolist():
        with archive.open(entry) as content:
            while content.read(BLOCK_BYTES):
                pass  # zipfile compares at the end of an entry.
