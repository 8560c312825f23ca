"""The embedded database's folder in a backup: one archive, taken while nobody has the database open.

ClickHouse compresses its files itself, so the archive does not.
"""

import contextlib
import fcntl
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, cast

from truyvet.backup_files import BackupError, FileCopy, sync_directory, sync_file
from truyvet.config import Settings

NAME_END: Final = ".clickhouse.tar"
_LOCK_NAME: Final = "status"
"""ClickHouse locks this file of its folder while it runs, and removes it when it ends."""
_DRAFT_END: Final = ".restoring"


class _Summing:
    """A file that is written to, with the size and CRC-32 of what was."""

    def __init__(self, file: IO[bytes], copy: FileCopy) -> None:
        self._file = file
        self._copy = copy

    def write(self, data: bytes) -> int:
        """Writes and counts."""
        self._copy.size_bytes += len(data)
        self._copy.crc = zlib.crc32(data, self._copy.crc)
        return self._file.write(data)


@contextlib.contextmanager
def _owned(directory: Path) -> Iterator[None]:
    """Keeps ClickHouse from opening the folder.

    Raises:
        BackupError: it is open.
    """
    lock = directory / _LOCK_NAME
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"the embedded database {directory} is in use by a sink") from None
        yield
        lock.unlink()
    finally:
        os.close(handle)


def archive(settings: Settings, root: Path, name: str) -> FileCopy:
    """Copies the database's folder into the file ``name`` of ``root``, durably.

    Raises:
        BackupError: a sink has the database open.
    """
    directory = settings.embedded_dir.resolve()
    copy = FileCopy(name + NAME_END)
    with _owned(directory), (root / copy.name).open("wb") as file:
        with tarfile.open(fileobj=cast("IO[bytes]", _Summing(file, copy)), mode="w|") as tar:
            tar.add(directory, arcname=".", filter=_without_lock)
        file.flush()
        sync_file(file.fileno())
    sync_directory(root)
    return copy


def _without_lock(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if info.name == f"./{_LOCK_NAME}" else info


def occupied(settings: Settings) -> bool:
    """Whether there is an embedded database already."""
    return settings.embedded_dir.exists() and any(settings.embedded_dir.iterdir())


def unpack(settings: Settings, root: Path, copy: FileCopy) -> Path:
    """Unpacks an archive beside where the database belongs; ``os.rename`` of the result puts it there."""
    directory = settings.embedded_dir.resolve()
    draft = directory.with_name(directory.name + _DRAFT_END)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    with tarfile.open(root / copy.name, mode="r:") as tar:
        # The oldest Python that this runs on knows no filter; what the archive holds its checksum has vouched for.
        options: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        tar.extractall(draft, **options)  # noqa: S202 - same
    return draft
