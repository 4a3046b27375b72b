"""What shards are called, and which files are meant by what is typed."""

import re
from pathlib import Path

import pytest

from pictures import shards
from system.cli import InputError


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


FOUR = [f"x-0000{i}-of-00004.tfrecords" for i in range(4)]


@pytest.mark.parametrize(
    ("file", "count", "expected"),
    [
        ("d.1/x.tfrecords", 1, ["d.1/x.tfrecords"]),
        ("x.tfrecords", 4, FOUR),
        ("d.1/x", 2, ["d.1/x-00000-of-00002", "d.1/x-00001-of-00002"]),
        ("gs://a/x.y.z", 1000, [f"gs://a/x.y-{i:05}-of-01000.z" for i in range(1000)]),
    ],
)
def test_names_are_tensorflows_and_can_be_parsed(file, count, expected):
    names = shards.names(file, count)
    assert names == expected == sorted(names)
    assert count == 1 or {shards.parse(name) for name in names} == {(file, count)}


@pytest.mark.parametrize(
    "name", ["x.tfrecords", "x-0000-of-0004.tfrecords", "x-00004-of-00004", "x-00000-of-00004.a/b", "x-00000-of-00000"]
)
def test_other_names_are_no_shards(name):
    assert shards.parse(name) is None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("x.tfrecords@4", FOUR),
        ("./x.tfrecords@4", [f"./{name}" for name in FOUR]),
        ("x-*.tfrecords", FOUR),
        ("x-0000?-of-0000[1-4].tfrecords", FOUR),
        (Path("x-*"), FOUR),
        ("*/x", ["a/x", "b/x"]),
        (["b/x", Path("a/x")], ["b/x", "a/x"]),
        (["b/x", "x.tfrecords@4"], ["b/x", *FOUR]),
        ("[x]*@4", ["[x]*@4"]),
        ("a/x@1", ["a/x@1"]),
        ("b/x@1", ["b/x"]),
        ("missing", ["missing"]),
        ("**/x", ["a/x", "b/x"]),
        ("[d] e/x-*", ["[d] e/x-1", "[d] e/x-2"]),
        ("[d] e/x-[2]", ["[d] e/x-2"]),
        ("file://{here}/a/x", ["{here}/a/x"]),
        ("~/a/x", ["{here}/a/x"]),
        ("file://{here}/?/x", ["{here}/a/x", "{here}/b/x"]),
    ],
)
def test_files_are_found(here, data, expected):
    """A file that is there under the name that was typed comes first, then FILE@N, then the pattern."""
    put(here, *reversed(FOUR), "b/x", "a/x", "a/x@1", "[x]*@4", "[d] e/x-1", "[d] e/x-2")
    data = data.replace("{here}", str(here)) if isinstance(data, str) else data
    assert shards.find(data) == [name.replace("{here}", str(here)) for name in expected]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("z*", ["z*: no file is called like that", "build_data.py"]),
        ("x.tfrecords@4", ["x.tfrecords@4: x-00001-of-00004.tfrecords is missing", "--num_shards 4"]),
        ("x.tfrecords@3", ["x-00000-of-00003.tfrecords is missing"]),
        ("x.tfrecords@0", ["x.tfrecords@0", "1 to 99999"]),
        ("x.tfrecords@100000", ["x.tfrecords@100000", "1 to 99999"]),
        ("x-*", ["x-*: finds 3 of 4 shards, not x-00001-of-00004.tfrecords"]),
        ("x-*[!2]-of-*", ["finds 2 of 4 shards, not x-00001-of-00004.tfrecords"]),
        ("y*", ["finds y in 2 and in 3 shards", "y@N"]),
        ("z/*", ["finds z/z in 1 and in 2 shards"]),
        ("ram://none/x*", ["ram://none/x*: no file"]),
        ("scheme://x*", ["scheme://x*: TensorFlow knows"]),
        (["y-00000-of-00002", "./y-00000-of-00002"], ["y-00000-of-00002 more than once"]),
        (["y@2", "y-00001-of-00002"], ["y-00001-of-00002 more than once"]),
        ([], ["no TFRecord file is named"]),
    ],
)
def test_what_would_be_a_part_or_a_mixture_is_refused(here, data, words):
    put(here, FOUR[0], FOUR[2], FOUR[3], *shards.names("y", 2), *shards.names("y", 3), "z/z", *shards.names("z/z", 2))
    with pytest.raises(InputError) as error:
        shards.find(data)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_a_link_to_a_file_is_the_same_file(here):
    put(here, "x-a")
    (here / "x-b").symlink_to("x-a")
    with pytest.raises(InputError, match=re.escape("x-*: means ")):
        shards.find("x-*")


def test_several_whole_sets_are_found_together(here):
    put(here, *shards.names("x", 2), *shards.names("y", 3), "z")
    assert shards.find("*") == [*shards.names("x", 2), *shards.names("y", 3), "z"]


def test_leftovers_are_what_a_pattern_would_mix_up(here):
    put(here, "d/x.t", *shards.names("d/x.t", 2), *shards.names("d/x.t", 3), "d/x.u", "d/xx-00000-of-00002.t", "d/x-1.t")
    one, two, three = (set(map(Path, shards.names("d/x.t", n))) for n in (1, 2, 3))
    assert set(shards.leftovers(Path("d/x.t"), 1)) == two | three
    assert set(shards.leftovers(Path("d/x.t"), 2)) == one | three
    assert set(shards.leftovers(Path("d/x.t"), 4)) == one | two | three
    assert shards.leftovers(Path("nowhere/x.t"), 2) == []


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("data/apple.tfrecords", "apple"),
        ("data/apple", "apple"),
        ("data/v1.2.tfrecords", "v1.2"),
        ("data/v1.2.tfrecords@4", "v1.2"),
        ("data/v1.2-*.tfrecords", "v1.2"),
        ("data/*/apple-0000?-of-00004.tfrecords", "apple"),
        ("data/apple-00000-of-00001.tfrecords", "apple"),
        ("data/*.tfrecords", "*"),
    ],
)
def test_a_domain_is_called_after_its_files(data, expected):
    assert shards.domain(data) == expected


@pytest.mark.parametrize(
    ("X", "Y", "expected"),
    [
        ("data/apple.tfrecords", "gs://bucket/orange-*-of-*.tfrecords", ("apple2orange", "orange2apple")),
        ("a/x.tfrecords@4", "b/x.tfrecords@4", ("x_A2x_B", "x_B2x_A")),
        ("a/*", "b/*", ("__A2__B", "__B2__A")),
        ("my dog's.tfrecords", "é:\n$x.tfrecords", ("my_dog_s2é___x", "é___x2my_dog_s")),
        ("果" * 80, "果" * 80 + "b", (f"{'果' * 33}_A2{'果' * 33}_B", f"{'果' * 33}_B2{'果' * 33}_A")),
    ],
)
def test_models_are_called_after_their_domains(X, Y, expected):
    assert shards.model_names(X, Y) == expected
    assert len(f"my_{expected[0]}-20260101-120000-99.tflite".encode()) <= 255


def test_a_worker_has_every_so_many_shards(here):
    put(here, *FOUR)
    assert shards.share("x.tfrecords@4") == FOUR
    assert [shards.share("x.tfrecords@4", worker, 3) for worker in range(3)] == [FOUR[0::3], FOUR[1:2], FOUR[2:3]]
    (here / FOUR[1]).unlink()
    assert shards.share("x.tfrecords@4", 0, 2) == FOUR[::2]
    with pytest.raises(InputError, match=f"{FOUR[1]} is missing"):
        shards.share("x.tfrecords@4", 1, 2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("horse2zebra", ("horse", "zebra")),
        ("winter2summer_yosemite", ("winter", "summer_yosemite")),
        ("a2b2c", ("a", "b2c")),
        ("maps", None),
        ("2x", None),
        ("x2", None),
    ],
)
def test_a_name_says_what_is_translated_into_what(name, expected):
    assert shards.domains(name) == expected
