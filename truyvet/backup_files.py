"""The files of a backup: what they hold, how they grow, how they are read again.

``manifest.json`` says which bytes of which files count; it is replaced as a whole, after the files it speaks of are on
the disk. What an interrupted run has written beyond it is cut off by the next. Records lie in
``topics/<topic>/<partition>/<first offset>.records``: blocks of msgpack in zstd, each after its length.
"""

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cramjam
import msgspec

Header = tuple[str, bytes | None]
Record = tuple[int, int, bytes | None, bytes | None, list[Header] | None]
"""Offset, timestamp in epoch ms, key, value, headers."""

VERSION: Final = 1
MANIFEST_NAME: Final = "manifest.json"
TOPICS_NAME: Final = "topics"
BLOCK_RECORDS_MAX: Final = 10_000
BLOCK_BYTES_MAX: Final = 1024 * 1024
SEGMENT_BYTES_MAX: Final = 256 * 1024 * 1024
_LENGTH_BYTES: Final = 4
_READ_BYTES: Final = 4 * 1024 * 1024
_COMPRESSION_LEVEL: Final = 1


class BackupError(Exception):
    """A backup cannot be taken, trusted or restored; one sentence."""


class FileCopy(msgspec.Struct):
    """A file that only grows: its name in its folder, the bytes that count, and their CRC-32."""

    name: str
    size_bytes: int = 0
    crc: int = 0


class Segment(FileCopy):
    """A file of records; ``next`` is the offset after its last one."""

    records: int = 0
    next: int = 0


class PartitionCopy(msgspec.Struct):
    """What is copied of one partition: everything readable before the offset ``next``."""

    next: int = 0
    segments: list[Segment] = []


class TopicCopy(msgspec.Struct):
    """One topic: the broker's id of it, the settings it was given, its partitions."""

    id: str
    config: dict[str, str]
    partitions: list[PartitionCopy]


class Point(msgspec.Struct):
    """A state of the whole pipeline that can be restored: up to which offsets, and where readers stood."""

    at: str
    ends: dict[str, list[int]]
    groups: dict[str, dict[str, dict[int, int]]]
    """Committed offsets of each consumer group, by topic and partition."""
    clickhouse: FileCopy | None = None


class Manifest(msgspec.Struct):
    """All that a backup knows of itself; topics go by their names without prefix."""

    prefix: str
    topics: dict[str, TopicCopy]
    consistent: Point | None = None
    version: int = VERSION


def read_manifest(root: Path) -> Manifest | None:
    """The manifest of the backup in ``root``; None where there is none.

    Raises:
        BackupError: it is damaged, or of another version.
    """
    path = root / MANIFEST_NAME
    try:
        text, _, crc = path.read_bytes().rstrip(b"\n").rpartition(b"\n")
        if int(crc, 16) != zlib.crc32(text):
            raise BackupError(f"{path}: damaged: its checksum does not match")
        version = msgspec.json.decode(text, type=dict[str, msgspec.Raw])["version"]
        if bytes(version) != str(VERSION).encode():
            raise BackupError(f"{path}: written by another version of truyvet ({bytes(version).decode()})")
        return msgspec.json.decode(text, type=Manifest)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, msgspec.MsgspecError) as error:
        raise BackupError(f"{path}: cannot be read as a backup's manifest ({error})") from error


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Replaces the manifest. Whatever it names must be on the disk already."""
    text = msgspec.json.encode(manifest)
    draft = root / (MANIFEST_NAME + ".new")
    with draft.open("wb") as file:
        file.write(text + b"\n%08x\n" % zlib.crc32(text))
        sync_file(file.fileno())
    draft.replace(root / MANIFEST_NAME)
    sync_directory(root)


def sync_file(handle: int) -> None:
    """Returns once the file's bytes are on the disk."""
    os.fsync(handle)


def sync_directory(directory: Path) -> None:
    """Returns once the folder's names are on the disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def partition_directory(root: Path, topic: str, partition: int) -> Path:
    """Where the files of one partition are; ``topic`` without prefix."""
    return root / TOPICS_NAME / topic / str(partition)


def cut_off(root: Path, manifest: Manifest) -> None:
    """Removes what an interrupted run left beyond the manifest.

    Raises:
        BackupError: a file is shorter than the manifest says, or gone.
    """
    for topic, copy in manifest.topics.items():
        for partition, part in enumerate(copy.partitions):
            directory = partition_directory(root, topic, partition)
            directory.mkdir(parents=True, exist_ok=True)
            known = {segment.name for segment in part.segments}
            for path in directory.iterdir():
                if path.name not in known:
                    path.unlink()
            for segment in part.segments:
                path = directory / segment.name
                if _size_bytes(path) < segment.size_bytes:
                    raise BackupError(
                        f"{path}: damaged: shorter than the manifest says; start again in an empty folder"
                    )
                os.truncate(path, segment.size_bytes)


def check_file(directory: Path, copy: FileCopy) -> None:
    """Reads a file and compares it with what the manifest says.

    Raises:
        BackupError: they differ.
    """
    path, crc, left = directory / copy.name, 0, copy.size_bytes
    if _size_bytes(path) < copy.size_bytes:
        raise BackupError(f"{path}: damaged: shorter than the manifest says, or gone")
    with path.open("rb") as file:
        while left and (part := file.read(min(left, _READ_BYTES))):
            crc, left = zlib.crc32(part, crc), left - len(part)
    if left or crc != copy.crc:
        raise BackupError(f"{path}: damaged: its checksum does not match")


def _size_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


class PartitionWriter:
    """Appends the records of one partition, in offset order. What it writes counts once the manifest is written."""

    def __init__(self, directory: Path, copy: PartitionCopy) -> None:
        self._directory = directory
        self._copy = copy
        self._buffer: list[Record] = []
        self._buffer_bytes = 0
        self._written = False

    def add(self, record: Record) -> None:
        """Takes the next record."""
        self._buffer.append(record)
        self._buffer_bytes += len(record[2] or b"") + len(record[3] or b"")
        if len(self._buffer) >= BLOCK_RECORDS_MAX or self._buffer_bytes >= BLOCK_BYTES_MAX:
            self._flush()

    def _flush(self) -> None:
        if not self._buffer:
            return
        segments = self._copy.segments
        if not segments or segments[-1].size_bytes >= SEGMENT_BYTES_MAX:
            self.sync()  # of the full one; the buffer is written to the next
            segments.append(Segment(f"{self._buffer[0][0]:020d}.records"))
        segment = segments[-1]
        packed = bytes(cramjam.zstd.compress(msgspec.msgpack.encode(self._buffer), level=_COMPRESSION_LEVEL))
        block = len(packed).to_bytes(_LENGTH_BYTES, "little") + packed
        # Opened for each block: hundreds of partitions would take as many handles.
        with (self._directory / segment.name).open("ab") as file:
            file.write(block)
        segment.size_bytes += len(block)
        segment.crc = zlib.crc32(block, segment.crc)
        segment.records += len(self._buffer)
        segment.next = self._copy.next = self._buffer[-1][0] + 1
        self._written = True
        self._buffer, self._buffer_bytes = [], 0

    def sync(self) -> None:
        """Returns once everything added is on the disk."""
        if self._written:
            self._written = False
            with (self._directory / self._copy.segments[-1].name).open("rb") as file:
                sync_file(file.fileno())
            sync_directory(self._directory)

    def finish(self, following: int | None = None) -> None:
        """Writes what is left, durably; ``following`` is up to where the partition has been read, if to its end."""
        self._flush()
        self.sync()
        if following is not None:
            self._copy.next = max(self._copy.next, following)


_decoder = msgspec.msgpack.Decoder(list[Record])


def read_blocks(directory: Path, copy: PartitionCopy, end: int) -> Iterator[list[Record]]:
    """The records of one partition before the offset ``end``, block by block; ``check_file`` has vouched for them."""
    for segment in copy.segments:
        with (directory / segment.name).open("rb") as file:
            while file.tell() < segment.size_bytes:
                length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
                records = _decoder.decode(bytes(cramjam.zstd.decompress(file.read(length))))
                if records[-1][0] < end:
                    yield records
                    continue
                if records[0][0] < end:
                    yield [record for record in records if record[0] < end]
                return
