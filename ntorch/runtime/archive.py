"""The ZIP container of checkpoints: stored records, each starting on a 64-byte boundary.

Only what checkpoints need of APPNOTE.TXT (the ZIP specification): no encryption, no split
archives. Every record carries a CRC-32, which is checked when it is read, and the structure is
checked when an archive is opened, so a damaged file is refused and never half believed.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ALIGNMENT = 64
LIMIT32 = 0xFFFFFFFF
# Sizes in the local header are left to the descriptor behind the data; names are UTF-8.
DESCRIPTOR_FLAG, UTF8_FLAG, ENCRYPTED_FLAG = 0x0008, 0x0800, 0x0001
STORED, DEFLATED = 0, 8
# A compressed record may expand this much beyond the file's own size before it is refused.
EXPANSION, EXPANSION_FLOOR = 64, 64 << 20

LOCAL = struct.Struct("<4sHHHHHIIIHH")
CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
END = struct.Struct("<4sHHHHIIH")
END64 = struct.Struct("<4sQHHIIQQQQ")
LOCATOR64 = struct.Struct("<4sIQI")


@dataclass(frozen=True)
class Record:
    """One record as the central directory describes it."""

    name: str
    method: int
    flags: int
    crc: int
    stored_size: int
    size: int
    header: int


class ArchiveWriter:
    """Writes records one behind the other; ``write`` need not be seekable."""

    def __init__(self, write: Callable[[Any], Any], prefix: str):
        self._write = write
        self._prefix = prefix
        self._position = 0
        self._records: list[Record] = []

    def _put(self, data: Any) -> None:
        view = memoryview(data).cast("B")
        written = self._write(view)
        # Raw (unbuffered) files may take only a part.
        while isinstance(written, int) and 0 < written < len(view):
            view = view[written:]
            self._position += written
            written = self._write(view)
        self._position += len(view)

    def add(self, name: str, data: Any) -> None:
        """Append the record ``prefix/name`` holding the bytes of ``data``."""
        content = memoryview(data).cast("B")
        full_name = f"{self._prefix}/{name}"
        encoded = full_name.encode()
        size, start = len(content), self._position
        flags = UTF8_FLAG | (DESCRIPTOR_FLAG if size else 0)
        # An extra field called "FB" fills up to the boundary, so a file can be mapped.
        filler = -(start + LOCAL.size + len(encoded) + 4) % ALIGNMENT
        extra = struct.pack("<2sH", b"FB", filler) + b"Z" * filler
        head = LOCAL.pack(
            b"PK\x03\x04", 0, flags, STORED, 0, 0, 0, 0, 0, len(encoded), len(extra)
        )
        self._put(head + encoded + extra)
        crc = zlib.crc32(content)
        if size:
            self._put(content)
            wide = max(size, start) >= LIMIT32
            layout = "<4sIQQ" if wide else "<4sIII"
            self._put(struct.pack(layout, b"PK\x07\x08", crc, size, size))
        self._records.append(Record(full_name, STORED, flags, crc, size, size, start))

    def serialization_id(self) -> str:
        """40 digits that depend on the names and contents of all records so far."""
        names = zlib.crc32("".join(r.name for r in self._records).encode())
        contents = 0
        for record in self._records:
            contents = zlib.crc32(struct.pack("<IQ", record.crc, record.size), contents)
        return f"{names:020d}{contents:020d}"

    def close(self) -> None:
        """Append the central directory; the archive is complete after it."""
        start = self._position
        for record in self._records:
            self._put(_central_entry(record))
        size, count, end = self._position - start, len(self._records), self._position
        self._put(END64.pack(b"PK\x06\x06", 44, 0x031E, 45, 0, 0, count, count, size, start))
        self._put(LOCATOR64.pack(b"PK\x06\x07", 0, end, 1))
        short_count = min(count, 0xFFFF)
        short = min(size, LIMIT32), min(start, LIMIT32)
        self._put(END.pack(b"PK\x05\x06", 0, 0, short_count, short_count, *short, 0))


def _central_entry(record: Record) -> bytes:
    numbers = [record.size, record.stored_size, record.header]
    long = b"".join(struct.pack("<Q", n) for n in numbers if n >= LIMIT32)
    extra = struct.pack("<HH", 1, len(long)) + long if long else b""
    size, stored, header = (min(n, LIMIT32) for n in numbers)
    encoded = record.name.encode()
    head = CENTRAL.pack(
        b"PK\x01\x02", 0, 0, record.flags, record.method, 0, 0, record.crc, stored, size,
        len(encoded), len(extra), 0, 0, 0, 0, header,
    )  # fmt: skip
    return head + encoded + extra


def _damaged(what: str) -> RuntimeError:
    return RuntimeError(f"failed reading zip archive: {what}; the file is corrupt or truncated")


class ArchiveReader:
    """The records of an archive, by name without the folder they are all in."""

    def __init__(self, file: Any):
        self._file = file
        self._size = file.seek(0, io.SEEK_END)
        directory, count, base = self._find_directory()
        self.base = base
        self.records: dict[str, Record] = {}
        self._read_directory(directory, count)
        self._check_overlap()

    def __contains__(self, name: str) -> bool:
        return name in self.records

    def _at(self, position: int, size: int, what: str) -> bytes:
        if position < 0 or position + size > self._size:
            raise _damaged(f"{what} lies outside the file")
        self._file.seek(position)
        data = self._file.read(size)
        if len(data) != size:
            raise _damaged(f"{what} ends early")
        return data

    def _find_directory(self) -> tuple[bytes, int, int]:
        tail_start = max(0, self._size - END.size - 0xFFFF)
        tail = self._at(tail_start, self._size - tail_start, "the end record")
        found = tail.rfind(b"PK\x05\x06")
        if found < 0 or found + END.size > len(tail):
            raise _damaged("failed finding central directory")
        _, disk, first_disk, _, count, size, start, comment = END.unpack_from(tail, found)
        if disk or first_disk or found + END.size + comment != len(tail):
            raise _damaged("the end record does not fit the file")
        directory_end = end = tail_start + found
        if end >= LOCATOR64.size:
            locator = self._at(end - LOCATOR64.size, LOCATOR64.size, "the zip64 locator")
            if locator[:4] == b"PK\x06\x07":
                directory_end = end - LOCATOR64.size - END64.size
                record = END64.unpack(self._at(directory_end, END64.size, "the zip64 end record"))
                short = (min(record[6], 0xFFFF), min(record[8], LIMIT32), min(record[9], LIMIT32))
                if record[0] != b"PK\x06\x06" or short != (count, size, start):
                    raise _damaged("the zip64 end record is not as expected")
                count, size, start = record[6], record[8], record[9]
        # An archive may sit behind other bytes of a stream; offsets count from its own start.
        base = directory_end - size - start
        if base < 0:
            raise _damaged("the central directory does not fit the file")
        return self._at(directory_end - size, size, "the central directory"), count, base

    def _read_directory(self, directory: bytes, count: int) -> None:
        position, prefix = 0, None
        for _ in range(count):
            if position + CENTRAL.size > len(directory):
                raise _damaged("the central directory ends early")
            entry = CENTRAL.unpack_from(directory, position)
            name_size, extra_size, comment_size = entry[10:13]
            after = position + CENTRAL.size + name_size
            record = _central_record(
                entry, directory[after - name_size : after], directory[after : after + extra_size]
            )
            position = after + extra_size + comment_size
            folder, _, name = record.name.partition("/")
            prefix = folder if prefix is None else prefix
            if folder != prefix or not name or name in self.records:
                raise _damaged(f"unexpected record name {record.name!r}")
            self.records[name] = record
        if position != len(directory):
            raise _damaged("the central directory does not have the size it states")

    def _check_overlap(self) -> None:
        """No two records may share bytes: that is how small files claim to be huge ones."""
        end, expanded = 0, 0
        for record in sorted(self.records.values(), key=lambda r: r.header):
            if record.header < end:
                raise _damaged(f"record {record.name!r} overlaps another")
            end = record.header + LOCAL.size + record.stored_size
            if record.method == DEFLATED:
                expanded += record.size
            elif record.size != record.stored_size:
                raise _damaged(f"record {record.name!r} has two sizes")
        if end > self._size:
            raise _damaged("a record lies outside the file")
        if expanded > max(EXPANSION_FLOOR, EXPANSION * self._size):
            raise RuntimeError(
                f"failed reading zip archive: its records claim to expand to {expanded} bytes, "
                f"more than {EXPANSION} times the file's size; refused as a zip bomb"
            )

    def offset(self, name: str) -> int:
        """Where in the file the bytes of a record start."""
        record = self._record(name)
        start = self.base + record.header
        head = LOCAL.unpack(self._at(start, LOCAL.size, f"the header of {name!r}"))
        name_size, extra_size = head[9:11]
        local_name = self._at(start + LOCAL.size, name_size, f"the name of {name!r}")
        same = local_name == record.name.encode() and head[3] == record.method
        if head[0] != b"PK\x03\x04" or not same:
            raise _damaged(f"the header of record {name!r} is not as the directory says")
        return start + LOCAL.size + name_size + extra_size

    def _record(self, name: str) -> Record:
        if name not in self.records:
            raise RuntimeError(f"failed reading zip archive: it has no record {name!r}")
        return self.records[name]

    def size(self, name: str) -> int:
        return self._record(name).size

    def is_stored(self, name: str) -> bool:
        """Whether the record's bytes are in the file as they are, so that they can be mapped."""
        return self._record(name).method == STORED

    def read(self, name: str) -> bytes:
        """The contents of a record, its checksum checked."""
        record = self._record(name)
        data = self._at(self.offset(name), record.stored_size, f"record {name!r}")
        if record.method == DEFLATED:
            data = _inflate(data, record)
        self._check(record, zlib.crc32(data))
        return data

    def read_into(self, name: str, target: memoryview) -> None:
        """Fill ``target``, of exactly the record's size, with the contents of a record."""
        record = self._record(name)
        if record.method != STORED:
            target[:] = self.read(name)
            return
        start = self.offset(name)
        if start + record.size > self._size:
            raise _damaged(f"record {name!r} lies outside the file")
        self._file.seek(start)
        fill(self._file, target)
        self._check(record, zlib.crc32(target))

    @staticmethod
    def _check(record: Record, crc: int) -> None:
        if crc != record.crc:
            raise _damaged(
                f"record {record.name!r} has CRC-32 {crc:08x}, expected {record.crc:08x}"
            )


def _central_record(entry: tuple[Any, ...], name: bytes, extra: bytes) -> Record:
    signature, _, _, flags, method, _, _, crc, stored, size = entry[:10]
    header = entry[16]
    if signature != b"PK\x01\x02":
        raise _damaged("the central directory is not as expected")
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise _damaged("a record name is not UTF-8") from None
    parts = text.split("/")
    if "\\" in text or "\0" in text or ".." in parts or "" in parts:
        raise RuntimeError(f"failed reading zip archive: refused the record name {text!r}")
    if flags & ENCRYPTED_FLAG or method not in (STORED, DEFLATED):
        raise RuntimeError(
            f"failed reading zip archive: record {text!r} is encrypted or compressed in a way "
            "checkpoints are not"
        )
    size, stored, header = _widen([size, stored, header], extra)
    return Record(text, method, flags, crc, stored, size, header)


def _widen(numbers: list[int], extra: bytes) -> list[int]:
    """Put the 64-bit values of the zip64 extra field where the 32-bit ones say so."""
    if LIMIT32 not in numbers:
        return numbers
    position = 0
    while position + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, position)
        if kind == 1:
            field = extra[position + 4 : position + 4 + size]
            wide = [n for (n,) in struct.iter_unpack("<Q", field[: len(field) // 8 * 8])]
            if len(wide) < numbers.count(LIMIT32):
                break
            return [wide.pop(0) if n == LIMIT32 else n for n in numbers]
        position += 4 + size
    raise _damaged("a 64-bit size is missing")


def _inflate(data: bytes, record: Record) -> bytes:
    engine = zlib.decompressobj(-15)
    try:
        # One byte more than stated shows a record that expands beyond what it claims.
        result = engine.decompress(data, record.size + 1)
    except zlib.error as error:
        raise _damaged(f"record {record.name!r}: {error}") from None
    if len(result) != record.size:
        raise _damaged(f"record {record.name!r} does not expand to the size it states")
    return result


def fill(file: Any, target: memoryview) -> None:
    """Read exactly ``len(target)`` bytes from ``file`` into ``target``."""
    done = 0
    while done < len(target):
        if hasattr(file, "readinto"):
            count = file.readinto(target[done:])
        else:
            data = file.read(len(target) - done)
            count = len(data)
            target[done : done + count] = data
        if not count:
            raise _damaged(f"expected {len(target)} bytes of data, got {done}")
        done += count
