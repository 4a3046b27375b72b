"""What patterns find, and what is told of the folders that they pass over."""

from pathlib import Path

import pytest

from system import finding

NAMES = ["a/1.png", "b/2.png", "b/.hidden/3.png", "a/@eaDir/1.png", "@eaDir/4.png", "c/d/5.png"]


@pytest.fixture
def found(tmp_path, monkeypatch):
    """Returns what a pattern finds, the names of unreadable folders, and those of folders that no person means."""
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()

    def find(pattern: str):
        errors, machines = [], []
        files = finding.glob(pattern, errors.append, machines.append)
        return files, [error.filename for error in errors], [str(folder) for folder in machines]

    return find


@pytest.mark.parametrize(
    ("pattern", "files", "machines"),
    [
        ("*/*.png", ["a/1.png", "b/2.png"], ["@eaDir"]),
        ("*/*/*.png", ["c/d/5.png"], ["@eaDir", "a/@eaDir"]),
        ("@eaDir/*.png", ["@eaDir/4.png"], []),
        ("*/@eaDir/*.png", ["a/@eaDir/1.png"], ["@eaDir"]),
        ("**/1.png", ["a/1.png"], ["@eaDir", "a/@eaDir"]),
        ("b/.*/*.png", ["b/.hidden/3.png"], []),
        ("?/1.png/*", [], []),
        ("none/*.png", [], []),
        ("a/[1-3].png", ["a/1.png"], []),
    ],
)
def test_wildcards_stand_for_what_people_mean(found, pattern, files, machines):
    assert found(pattern) == (files, [], machines)


@pytest.mark.parametrize("pattern", ["*/*.png", "**/*.png", "b/*.png"])
def test_a_folder_that_cannot_be_read_is_told(found, tmp_path, forbid, pattern):
    forbid(tmp_path / "b")
    files, unreadable, _ = found(pattern)
    assert (set(files) & {"b/2.png"}, unreadable) == (set(), ["b"])


@pytest.mark.parametrize(
    "name", ["@SynoResource", "@SynoEAStream", "@__thumb", "@sharebin", "FOUND.000", "recycler", "My.photoslibrary", "A Previews.lrdata"]
)
def test_folders_of_machines_are_known_in_any_case(tmp_path, name):
    for folder in (name, name.upper(), f"{name.strip('@')} of mine"):
        (tmp_path / folder).mkdir(exist_ok=True)
    kept = []
    _, folders, _ = next(finding.walk(tmp_path, machines=kept.append))
    assert {file.name for file in kept} == {name, name.upper()} and folders == [f"{name.strip('@')} of mine"]
