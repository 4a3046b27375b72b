"""When data count as those that a run was begun with; the readers are stand-ins."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest

from pictures import fingerprints
from pictures.records import Shard


def fingerprint(records: int, seed: int = 0, size: int = 0) -> dict:
    headers = np.random.default_rng(seed).integers(0, 256, (records, 12), np.uint8)
    return fingerprints.of_file(headers, size or 100 * records)


def reader(*shards: dict, cut_off: tuple[int, ...] = (), share: tuple[int, int] | None = None) -> SimpleNamespace:
    """Stands in for a reader of files with these fingerprints, of which those of some numbers are cut off."""
    files = [Shard(f"file {i}", shard["records"], i in cut_off, shard) for i, shard in enumerate(shards)]
    expected: list[int] = []
    return SimpleNamespace(
        shards=files,
        cut_off=bool(cut_off),
        share=share,
        fingerprint=fingerprints.joined([*shards]),
        expected=expected,
        expect=lambda *records: expected.extend(records),
    )


A, B, C = fingerprint(5, 1), fingerprint(4, 2), fingerprint(3, 3)


def test_a_fingerprint_is_made_of_the_number_of_records_the_size_and_the_headers():
    headers = np.arange(36, dtype=np.uint8).reshape(3, 12)
    assert fingerprints.of_file(headers, 99) == {"records": 3, "bytes": 99, "headers": hashlib.sha256(headers).hexdigest()[:16]}
    assert fingerprints.digest(b"ab", b"c") == fingerprints.digest(b"abc") == hashlib.sha256(b"abc").hexdigest()[:16]


def test_several_files_have_one_that_keeps_theirs():
    headers = hashlib.sha256((A["headers"] + B["headers"]).encode()).hexdigest()[:16]
    assert fingerprints.joined([A, B]) == {"records": 9, "bytes": 900, "headers": headers, "shards": [A, B]}
    assert "shards" not in fingerprints.joined([A])
    assert fingerprints.joined([B, A])["headers"] != headers


@pytest.mark.parametrize("change", [{"records": 6}, {"bytes": 501}, {"headers": "0"}])
def test_other_data_are_described_beside_those_of_the_run(change):
    own, then = reader(A), A | change
    assert fingerprints.contradiction(own, own.fingerprint) is None
    words = [f"{f['records']} records, {f['bytes']} bytes, headers {f['headers']}" for f in (own.fingerprint, own.fingerprint | change)]
    assert fingerprints.contradiction(own, own.fingerprint | change) == f"{words[0]} (the run has {words[1]})"
    assert then != A


def test_in_how_many_files_the_records_lie_does_not_matter():
    then = fingerprints.joined([A, B])
    one = reader(C)
    one.fingerprint = {key: then[key] for key in ("records", "bytes", "headers")}
    assert fingerprints.contradiction(one, then) is None


@pytest.mark.parametrize(("records", "same"), [(2, True), (5, True), (6, False)])
def test_a_file_that_is_cut_off_may_be_the_rest_of_one_with_more_records(records, same):
    own = reader(fingerprint(records, 9), B, cut_off=(0,))
    assert (fingerprints.contradiction(own, fingerprints.joined([A, B])) is None) == same
    assert own.expected == ([5, 4] if same else [])


def test_beside_a_file_that_is_cut_off_the_others_have_to_be_the_same():
    own = reader(fingerprint(2, 9), C, cut_off=(0,))
    assert fingerprints.contradiction(own, fingerprints.joined([A, B]))
    assert fingerprints.contradiction(own, fingerprints.joined([A, C, B])) and not own.expected
    assert fingerprints.contradiction(own, A) and not own.expected


def test_a_worker_compares_its_own_shards():
    begun = fingerprints.joined([A, B, C])
    assert fingerprints.contradiction(reader(A, C, share=(0, 2)), begun) is None
    assert fingerprints.contradiction(reader(B, share=(1, 2)), begun) is None
    assert fingerprints.contradiction(reader(B, share=(0, 2)), begun)
    own = reader(fingerprint(1, 9), share=(1, 2), cut_off=(0,))
    assert fingerprints.contradiction(own, begun) is None and own.expected == [4]
