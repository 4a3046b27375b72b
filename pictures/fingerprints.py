"""What a data set is known by, so that a run continues on the records that it was begun with.

The fingerprint of a file says how many records and bytes it has, and has a digest of the records' headers. That of several files adds
these up and keeps theirs as "shards": they tell how many records a file had that is cut off later on.
"""

import hashlib
from typing import Any

import numpy as np


def digest(*parts: bytes | np.ndarray) -> str:
    """16 hexadecimal digits of the SHA-256 of all parts one after another."""
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def of_file(headers: np.ndarray, size: int) -> dict:
    """The fingerprint of a file of `size` bytes, by its records' headers, uint8 (n, 12)."""
    return {"records": len(headers), "bytes": size, "headers": digest(headers)}


def joined(parts: list[dict]) -> dict:
    """The fingerprints of a data set's files → its own."""
    total = {key: sum(part[key] for part in parts) for key in ("records", "bytes")}
    total["headers"] = digest(*(part["headers"].encode() for part in parts))
    return total | ({"shards": parts} if len(parts) > 1 else {})


def is_one(data: Any) -> bool:
    """Tells whether this is the fingerprint of a file or of several, and not just anything that a damaged file may hold."""
    parts = data.get("shards", []) if isinstance(data, dict) else None
    kinds = {"records": int, "bytes": int, "headers": str}
    return isinstance(parts, list) and all(
        isinstance(one, dict) and all(type(one.get(key)) is kind for key, kind in kinds.items()) for one in (data, *parts)
    )


def contradiction(reader, begun: dict) -> str | None:
    """Says how a reader's data differ from those with the fingerprint `begun`; None if they are the same.

    A file that is cut off, and may be (--skip_bad_records), counts as the same if it has no more records than that one had: the reader then
    expects as many. In how many files the same records lie does not matter, unless one is cut off.
    """
    files = begun.get("shards", [begun])
    if reader.share:  # of the other workers' shards it knows nothing
        worker, workers = reader.share
        files = files[worker::workers]
        begun = joined(files)
    if reader.cut_off and len(files) == len(reader.shards) and all(map(_can_be_rest, reader.shards, files)):
        reader.expect(*(file["records"] for file in files))
        return None
    now, then = ("{records} records, {bytes} bytes, headers {headers}".format_map(data) for data in (reader.fingerprint, begun))
    return f"{now} (the run has {then})" if now != then else None


def _can_be_rest(shard, fingerprint: dict) -> bool:
    """Tells whether a reader's file is the one with that fingerprint, or may be what is left of it."""
    return shard.records <= fingerprint["records"] if shard.cut_off else shard.fingerprint == fingerprint
