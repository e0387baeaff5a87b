"""The file: a header and sections, each with a checksum; bytes in, bytes out.

    magic (8 bytes) | version (u16) | packed header, bytes (u32) | header, bytes (u32) |
    CRC-32 of the packed header (u32) | packed header (JSON, zlib) |
    for each section: bytes (u64) | CRC-32 (u32) | content |
    SHA-256 of everything before (32 bytes)

All numbers are little-endian. No length is believed before it is compared with what is there.
"""

import hashlib
import json
import struct
import zlib
from collections.abc import Iterable
from typing import Any

MAGIC = b"\x89APZ\r\n\x1a\n"  # as PNG's: transfers as text would show
VERSION = 1
_HEAD = struct.Struct("<8sHIII")
_SECTION = struct.Struct("<QI")
_DIGEST = 32
_LARGEST_HEADER = 1 << 24  # bytes of JSON,
_MOST_VALUES = 1 << 21  # values in it, which as Python's objects take some 60 bytes each,
_HEADER_FREE = 1 << 20  # bytes of it that a packed header of any size may stand for,
_HEADER_EXPANSION = 100  # and those for each of its bytes: 600 like layers reach 73


class CompressedFileError(ValueError):
    """A file that cannot be read: not of this kind, damaged, or too new."""


def pack(header: Any, sections: Iterable[bytes]) -> bytes:
    """The bytes of a file; `header` is what JSON can hold."""
    text = json.dumps(header, separators=(",", ":")).encode()
    if len(text) > _LARGEST_HEADER or _values(text) > _MOST_VALUES:
        raise ValueError(f"the model's configuration takes {len(text):,} bytes, too many to store")
    tries = (zlib.compress(text, level) for level in (9, 1, 0))
    packed = next(data for data in tries if len(text) <= _largest(len(data)))
    parts = [_HEAD.pack(MAGIC, VERSION, len(packed), len(text), zlib.crc32(packed)), packed]
    for section in sections:
        parts += [_SECTION.pack(len(section), zlib.crc32(section)), section]
    whole = b"".join(parts)
    return whole + hashlib.sha256(whole).digest()


def unpack(data: bytes) -> tuple[Any, list[memoryview]]:
    """(header, sections) that `pack` was given; CompressedFileError says what is damaged."""
    if data[: len(MAGIC)] != MAGIC:
        raise CompressedFileError("it is not a compressed model, or its beginning is damaged")
    if len(data) < _HEAD.size + _DIGEST:
        raise CompressedFileError("it is damaged: it ends within its header")
    _, version, packed, size, checksum = _HEAD.unpack_from(data)
    if version > VERSION:
        raise CompressedFileError(
            f"it was written by a newer version, format {version}; this version reads {VERSION}: "
            "upgrade activation-pruning"
        )
    if version != VERSION:
        raise CompressedFileError(f"it is damaged: there is no format {version}")
    view = memoryview(data)
    content, digest = view[:-_DIGEST], view[-_DIGEST:]
    header, place = _header(content, packed, size, checksum), _HEAD.size + packed
    sections: list[memoryview] = []
    while place < len(content):
        sections.append(_section(content, place, len(sections) + 1))
        place += _SECTION.size + len(sections[-1])
    if hashlib.sha256(content).digest() != digest:
        raise CompressedFileError("it is damaged: checksum of the whole file")
    return header, sections


def _header(content, packed, size, checksum):
    place = _HEAD.size + packed
    if place > len(content):
        raise CompressedFileError("it is damaged: it ends within its header")
    if size > _largest(packed):
        raise CompressedFileError(
            f"it is damaged: a header of {packed:,} bytes cannot stand for {size:,}"
        )
    if zlib.crc32(content[_HEAD.size : place]) != checksum:
        raise CompressedFileError("it is damaged: checksum of the header")
    text = inflate(content[_HEAD.size : place], size)
    if _values(text) > _MOST_VALUES:
        raise CompressedFileError("it is damaged: its header holds too many values")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CompressedFileError(f"it is damaged: its header is no JSON ({error})") from error


def _largest(packed):
    """Bytes of JSON that a packed header of so many bytes may stand for."""
    return min(_LARGEST_HEADER, max(_HEADER_FREE, _HEADER_EXPANSION * packed))


def _values(text):
    """As many values as a text of JSON can hold, or more."""
    return sum(map(text.count, (b",", b"[", b"{")))


def inflate(data: bytes | memoryview, size: int) -> bytes:
    """Unpack what shall be exactly `size` bytes, never making more; else CompressedFileError."""
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, size + 1)  # 0 would mean: without limit
    except zlib.error as error:
        raise CompressedFileError(f"it is damaged: {error}") from error
    if len(found) != size or not stream.eof or stream.unused_data:
        raise CompressedFileError("it is damaged: packed data of another size than declared")
    return found


def _section(content, place, number):
    if place + _SECTION.size > len(content):
        raise CompressedFileError(f"it is damaged: it ends before section {number}")
    size, checksum = _SECTION.unpack_from(content, place)
    place += _SECTION.size
    if size > len(content) - place:
        raise CompressedFileError(f"it is damaged: it ends within section {number}")
    section = content[place : place + size]
    if zlib.crc32(section) != checksum:
        raise CompressedFileError(f"it is damaged: checksum of section {number}")
    return section
