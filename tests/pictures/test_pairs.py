"""Which pictures belong together, by their names and sizes."""

import numpy as np
import pytest
from conftest import draw

from pictures import images, pairs
from system.cli import InputError

PNG = images.encode(draw(0, 8, 8))


def fill(folder, *names: str):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PNG)
    return folder


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("1_A", "1"),
        ("1.B", "1"),
        ("sub/1_real_A", "sub/1"),
        ("1_fake_B", "1"),
        ("1_real.b", "1"),
        ("A", "A"),
        ("1A", "1A"),
        ("1_C", "1_C"),
        ("1_A_2", "1_A_2"),
        ("_A", ""),
    ],
)
def test_endings_that_tell_only_the_domain(name, short):
    assert pairs.without_ending(name) == short


@pytest.mark.parametrize(
    ("X", "Y", "found"),
    [
        (["2.jpg", "1.png"], ["1.jpg", "2.png"], {"1": ("1.png", "1.jpg"), "2": ("2.jpg", "2.png")}),
        (["1_A.png", "a/1_A.png"], ["1_B.png", "a/1_B.png"], {"1_A": ("1_A.png", "1_B.png"), "a/1_A": ("a/1_A.png", "a/1_B.png")}),
        (["1.A.png"], ["1.png"], {"1.A": ("1.A.png", "1.png")}),
        (["caf\u00e9.png"], ["cafe\u0301_B.png"], {"caf\u00e9": ("caf\u00e9.png", "cafe\u0301_B.png")}),
        (["1_real_A.png"], ["1_real_B.png"], {"1_real_A": ("1_real_A.png", "1_real_B.png")}),
        (["1_A.png", "1.png"], ["1_A.png", "1.png"], {"1": ("1.png", "1.png"), "1_A": ("1_A.png", "1_A.png")}),
    ],
)
def test_pairs_of_two_folders(tmp_path, X, Y, found):
    folders = fill(tmp_path / "X", *X), fill(tmp_path / "Y", *Y)
    expected = {name: tuple(folder / file for folder, file in zip(folders, files, strict=True)) for name, files in found.items()}
    result = pairs.of_folders(*folders)
    assert result == expected and list(result) == sorted(expected)


@pytest.mark.parametrize(
    ("X", "Y", "words"),
    [
        (["1.png", "2.png"], ["1.png"], r"X: 2 has no partner of its name in .*Y; take out what is in no pair"),
        (["1.png"], ["1.png", "2.png", "3.png"], r"Y: 2 has no partner of its name in .*X, nor have 1 more; take out what is in no pair"),
        (["1_A.png", "1.png"], ["1_B.png", "1_C.png"], r"X: 1 has no partner"),  # either of the two could be 1_B's
        (["a.png"], ["sub/a.png"], r"X: a has no partner"),
        (["a.png"], ["A.png"], r"X: a has no partner"),
        (["a.png", "a.jpg"], ["a.png"], r"X/a.png: a.jpg has the same name; remove one of them"),
    ],
)
def test_what_is_in_no_pair_is_refused(tmp_path, X, Y, words):
    with pytest.raises(InputError, match=words):
        pairs.of_folders(fill(tmp_path / "X", *X), fill(tmp_path / "Y", *Y))


def test_a_folder_that_cannot_be_read_is_told_of(tmp_path, forbid):
    folders = fill(tmp_path / "X", "1.png", "no/2.png"), fill(tmp_path / "Y", "1.png")
    forbid(folders[0] / "no")
    unreadable: list[str] = []
    assert list(pairs.of_folders(*folders, unreadable)) == ["1"] and "X/no: a folder that cannot be read" in unreadable[0]


def test_what_cannot_be_read_has_no_size_that_differs(tmp_path):
    X, Y = fill(tmp_path / "X", "1.png", "2.png"), fill(tmp_path / "Y", "1.png", "2.png")
    for data in (b"", b"text"):
        (Y / "1.png").write_bytes(data)
        files = list(pairs.of_folders(X, Y).values())
        assert len(pairs.check(files, (X, Y), "", halves=False)) == 32


def test_the_digest_is_the_same_wherever_the_folders_are(tmp_path):
    digests = set()
    for place in ("here", "there/too"):
        X, Y = (fill(tmp_path / place / name, "1.png", "sub/2.png") for name in "XY")
        digests.add(pairs.check(list(pairs.of_folders(X, Y).values()), (X, Y), "", halves=False))
    assert len(digests) == 1
    images.write(Y / "1.png", np.zeros((8, 8, 3), np.uint8))
    assert pairs.check(list(pairs.of_folders(X, Y).values()), (X, Y), "", halves=False) not in digests
