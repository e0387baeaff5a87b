"""Injuries of files: what disks, transfers and editors do to them, and what somebody may do."""

import itertools
import json

KINDS = ("bit", "cut", "front", "gap", "insert", "append", "splice", "bytes", "zeros", "twice",
         "swap", "line")  # fmt: skip


def injured(data, random, other):
    """(kind, the bytes with one random injury); other: bytes of a file of the same kind."""
    kind = KINDS[random.integers(len(KINDS))]
    data, size = bytearray(data), len(data)
    place, length = int(random.integers(size)), int(random.integers(1, 99))
    if kind == "bit":
        data[place] ^= 1 << int(random.integers(8))
    elif kind == "cut":
        del data[place:]
    elif kind == "front":
        del data[: place + 1]
    elif kind == "gap":
        del data[place : place + length]
    elif kind == "insert":
        data[place:place] = random.bytes(length % 9 + 1)
    elif kind == "append":
        data += random.bytes(length)
    elif kind == "splice":
        begin = int(random.integers(len(other)))
        data[place : place + length] = other[begin : begin + length]
    elif kind == "bytes":
        for at in random.integers(size, size=8):
            data[at] = random.integers(256)
    elif kind == "zeros":
        data[place : place + length] = bytes(len(data[place : place + length]))
    elif kind == "twice":
        data[place:place] = data[place : place + length]
    elif kind == "swap":
        data = data[place:] + data[:place]
    else:  # of a text, a line is gone or comes twice
        lines = bytes(data).splitlines(keepends=True)
        at = int(random.integers(len(lines)))
        lines[at : at + 1] = [] if random.random() < 0.5 else [lines[at]] * 2
        data = b"".join(lines)
    return kind, bytes(data)


VALUES = (0, 1, -1, 3, 12, 2**31, 2**63, 10**30, None, True, "", "x", "../x", 0.5, float("nan"),
          [], [9], [2**20, 2**20], {}, {"a": 1}, "dense", "\ud800")  # fmt: skip


def places(value, path=()):
    """The paths of all values within a value as JSON knows it."""
    yield path
    if isinstance(value, (dict, list)):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        yield from itertools.chain.from_iterable(places(v, (*path, k)) for k, v in inner)


def changed(value, random):
    """A copy of a value as JSON knows it, one field of which is another, missing or new."""
    value = json.loads(json.dumps(value))
    found = [path for path in places(value) if path]
    *above, last = found[random.integers(len(found))]
    holder = value
    for key in above:
        holder = holder[key]
    what = random.integers(4)
    if what == 0:
        del holder[last]
    elif what == 1 and isinstance(holder, dict):
        holder[f"{last}x"] = holder.pop(last)
    else:
        holder[last] = VALUES[random.integers(len(VALUES))]
    return value
