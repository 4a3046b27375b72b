"""Files and folders on this machine and on remote storage (TensorFlow's ram://): the same calls, the same errors, atomic writes."""

import errno
import itertools
import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf
from conftest import TINY_RUN, draw

import build_data
import convert_torch
import export_graph
import inference
import train
from pictures import images
from system import cli, finding, storage
from system.storage import AnyPath, RemotePath

numbers = itertools.count()


def remote_folder() -> RemotePath:
    """A new folder on storage that lasts as long as this process."""
    folder = RemotePath(f"ram://bucket/{next(numbers)}")
    folder.mkdir()
    return folder


@pytest.fixture(params=["local", "remote"])
def place(request, tmp_path) -> AnyPath:
    """An empty folder, here or there."""
    return tmp_path if request.param == "local" else remote_folder()


def snapshot(folder: AnyPath) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    files = [root / name for root, _, names in finding.walk(folder) for name in names]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(files)}


def fill(temporary: AnyPath, kind: str) -> None:
    if kind == "folder":
        temporary.mkdir()
        temporary = temporary / "inside"
    temporary.write_text("new")


def test_a_path_is_what_its_text_says():
    assert isinstance(storage.path("gs://bucket/a"), RemotePath)
    assert not isinstance(storage.path("bucket/a:b"), RemotePath)
    assert storage.path(RemotePath("ram://bucket/a")) == RemotePath("ram://bucket/a")


def test_a_uri_of_a_file_and_the_home_folder_are_of_this_machine(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for text, expected in {
        "file:///tmp/x": "/tmp/x",
        "file:/tmp/x": "/tmp/x",
        "file:x": "file:x",
        "FILE://localhost/tmp/my%20x": "/tmp/my x",
        "~/x": "/home/me/x",
        "a/~/x": "a/~/x",
        "~x": "~x",
    }.items():
        assert storage.path(text) == Path(expected)


def test_a_remote_path_is_taken_apart_as_a_path_and_keeps_its_scheme():
    path = RemotePath("gs://bucket/data") / "x-1.png"
    assert str(path) == os.fspath(path) == f"{path}" == "gs://bucket/data/x-1.png"
    assert (path.name, path.stem, path.suffix) == ("x-1.png", "x-1", ".png")
    assert str(path.with_suffix(".jpg")) == "gs://bucket/data/x-1.jpg" and str(path.with_name("y")) == "gs://bucket/data/y"
    assert [str(folder) for folder in path.parents] == ["gs://bucket/data", "gs://bucket"]
    assert path.relative_to(RemotePath("gs://bucket")).as_posix() == "data/x-1.png"
    assert path.is_relative_to(RemotePath("gs://bucket")) and not path.is_relative_to(RemotePath("ram://bucket"))
    assert len({path, RemotePath(str(path)), RemotePath("ram://bucket/data/x-1.png")}) == 2


def test_files_and_folders_are_what_they_are(place):
    (place / "folder").mkdir()
    (place / "folder" / "file").write_text("é")
    assert (place / "folder").is_dir() and not (place / "folder").is_file()
    file = place / "folder" / "file"
    assert file.is_file() and not file.is_dir() and file.exists() and storage.lexists(file)
    assert file.read_text() == "é" and file.read_bytes() == "é".encode() and storage.size(file) == 2
    with file.open("rb") as stream:
        assert stream.read(1) == b"\xc3" and stream.seek(0) is not False and stream.read() == "é".encode()
    assert not (place / "none").exists() and not (place / "none").is_dir() and not (place / "none").is_file()
    assert not storage.lexists(place / "none")
    assert [path.name for path in place.iterdir()] == ["folder"]
    assert list((place / "folder").glob("f*e")) == [file] and list((place / "folder").glob("e*")) == []


def test_a_remote_file_tells_its_age(monkeypatch):
    monkeypatch.setattr(tf.io.gfile, "stat", lambda name: SimpleNamespace(length=2, mtime_nsec=1_500_000_000))
    found = RemotePath("ram://b/file").stat()
    assert (found.st_size, found.st_mtime) == (2, 1.5)


def test_errors_are_the_systems(place):
    with pytest.raises(FileNotFoundError) as found:
        (place / "none").read_bytes()
    assert str(found.value.filename) == str(place / "none")
    (place / "folder").mkdir(exist_ok=True)
    (place / "folder").mkdir(exist_ok=True)
    with pytest.raises(FileExistsError):
        (place / "folder").mkdir()
    with pytest.raises(OSError):
        storage.check_reachable(place / "none")
    with pytest.raises(FileNotFoundError):
        storage.remove(place / "none")


@pytest.mark.parametrize("what", ["pipe", "link to a pipe", "device", "socket"])
def test_only_files_are_opened(tmp_path, what):
    """Who opens a pipe without a writer waits for ever, and a device need have no end."""
    path = tmp_path / what
    if "pipe" in what:
        os.mkfifo(tmp_path / "pipe")
    if what == "link to a pipe":
        path.symlink_to("pipe")
    if what == "device":
        path.symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        if what == "socket":
            listener.bind(str(path))
        for look in (storage.read, storage.check_regular):
            with pytest.raises(OSError, match="is a pipe or a device; save it as a file first") as found:
                look(path)
            assert found.value.filename == str(path)
        with pytest.raises(cli.InputError, match=f"^--json {path}: is a pipe or a device; name a file$"):
            storage.check_output("--json", path, overwrite=True)


def test_a_file_is_read_and_a_folder_or_nothing_is_an_error(place):
    (place / "file").write_bytes(b"content")
    assert storage.read(place / "file") == b"content"
    for name in (".", "none"):
        with pytest.raises(OSError):
            storage.read(place / name)


@pytest.mark.parametrize(
    ("main", "flags", "words"),
    [
        (train.main, ["--X", "pipe", "--Y", "pipe"], "pipe: is a pipe or a device"),
        (train.main, ["--X", "pipe@1", "--Y", "pipe@1"], "pipe"),
        (train.main, ["--load_model", "pipe"], "--load_model pipe: no such run"),
        (export_graph.main, ["--checkpoint_dir", "pipe"], "pipe"),
        (convert_torch.main, ["--weights", "pipe", "--output", "a2b.pb"], "pipe: is a pipe or a device"),
        (build_data.main, ["--X_input_dir", "pipe"], "pipe: is no folder; name one"),
        (inference.main, ["--model", "pipe", "--input", "a.png", "--output", "b.png"], "pipe: is a pipe or a device"),
    ],
)
def test_no_command_waits_for_a_pipe(call, tmp_path, monkeypatch, main, flags, words):
    monkeypatch.chdir(tmp_path)
    images.write("a.png", draw(0, 8, 8))
    os.mkfifo("pipe")
    call(main, *flags).assert_refused(words)
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "pipe"}


def test_a_file_is_the_same_by_whatever_name(tmp_path):
    file = tmp_path / "a"
    file.touch()
    (tmp_path / "hard").hardlink_to(file)
    (tmp_path / "soft").symlink_to("a")
    (tmp_path / "copy").touch()
    assert {storage.identity(tmp_path / name) for name in ("a", "hard", "soft", "../" + tmp_path.name + "/a")} == {storage.identity(file)}
    assert storage.identity(tmp_path / "copy") != storage.identity(file)
    assert storage.identity(tmp_path / "new") == storage.identity(tmp_path / "x" / ".." / "new") != storage.identity(file)
    assert storage.identity(RemotePath("ram://a/b")) == RemotePath("ram://a/b")


def test_a_name_in_pieces_is_put_together_and_no_utf8_marked():
    assert [storage.as_text(os.fsdecode(name)) for name in (b"a", "ü".encode(), b"\xfc")] == ["a", "ü", "�"]
    assert storage.as_text("\udcc3\udcbc") == "ü" and storage.as_text(RemotePath("ram://a/ü")) == "ram://a/ü"


def test_a_file_grows(place):
    for text in ("a\n", "b\n"):
        storage.append(place / "file", text)
    assert snapshot(place) == {"file": b"a\nb\n"}


def test_a_remote_file_is_opened_to_append(monkeypatch):
    """ram:// appends in any case."""
    modes, open_file = [], tf.io.gfile.GFile
    monkeypatch.setattr(tf.io.gfile, "GFile", lambda name, mode: modes.append(mode) or open_file(name, mode))
    file = remote_folder() / "file"
    storage.append(file, "a")
    file.write_text("b")
    assert modes == ["ab", "wb"]


def test_all_of_a_folder_can_be_walked_moved_and_removed(place):
    for name in ("a", "in/b", "in/deep/c"):
        (place / "old" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "old" / name).write_text(name)
    storage.replace(place / "old", place / "new")
    assert snapshot(place) == {"new/a": b"a", "new/in/b": b"in/b", "new/in/deep/c": b"in/deep/c"}
    assert not (place / "old").exists()
    storage.replace(place / "new" / "a", place / "new" / "in" / "b")  # a file over a file
    assert snapshot(place / "new") == {"in/b": b"a", "in/deep/c": b"in/deep/c"}
    (place / "other").mkdir()
    (place / "other" / "file").write_text("kept")
    with pytest.raises(OSError):  # a folder over a folder
        storage.replace(place / "new", place / "other")
    storage.remove(place / "new")
    assert snapshot(place) == {"other/file": b"kept"}


def test_names_are_found_by_a_pattern(place):
    for name in ("x-1", "x-2", "y-1"):
        (place / name).write_text("")
    assert finding.glob(f"{place}/x-*") == [f"{place}/x-1", f"{place}/x-2"]
    assert finding.glob(f"{place}/z*") == []


def test_patterns_reach_into_folders_below(place):
    for name in ("1.png", "a/2.png", "a/.hidden/3.png", "a/b/4.png", "c/5.txt"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("")

    def found(pattern):
        return sorted(name.removeprefix(f"{place}/") for name in finding.glob(f"{place}/{pattern}"))

    assert found("**/*.png") == ["1.png", "a/2.png", "a/b/4.png"]
    assert found("a/**/4.png") == ["a/b/4.png"] and found("?/**/b/*") == ["a/b/4.png"] and found("**/*.gif") == []
    assert {"1.png", "a", "a/2.png", "a/b", "a/b/4.png", "c", "c/5.txt"} <= set(found("**")) and "a/.hidden/3.png" not in found("**")


def test_a_pattern_begins_where_no_name_is_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("[a]", "b*/c"):
        Path(name).mkdir(parents=True)
    for text, (folder, pattern) in {
        "x/*.png": ("x", "*.png"),
        "*": (".", "*"),
        "[a]/*": ("[a]", "*"),
        "[a]/[b]/c": ("[a]", "[b]/c"),
        "b*/c/?": ("b*/c", "?"),
        "x": ("x", ""),
        "b*/c": ("b*/c", ""),
    }.items():
        assert finding.pattern_parts(text) == (Path(folder), pattern)
    assert finding.pattern_parts("ram://b/x/*/y") == (RemotePath("ram://b/x"), "*/y")


def test_a_remote_folder_moves_so_that_what_its_readers_look_for_comes_last(monkeypatch):
    folder = remote_folder()
    names = ["variables/data", "assets/a", "saved_model.pb", "fingerprint.pb"]
    for name in reversed(names):
        (folder / "old" / name).parent.mkdir(exist_ok=True)
        (folder / "old" / name).write_text(name)
    moved, rename = [], tf.io.gfile.rename
    monkeypatch.setattr(tf.io.gfile, "rename", lambda a, b, overwrite: moved.append(b) or rename(a, b, overwrite))
    storage.replace(folder / "old", folder / "new")
    assert moved == [f"{folder}/new/{name}" for name in names]


def test_storage_that_cannot_be_reached_is_named(monkeypatch):
    with pytest.raises(cli.InputError, match="s3://bucket/file: TensorFlow knows .*gs://.*install tensorflow-io"):
        RemotePath("s3://bucket/file").read_bytes()
    for error, number in ((tf.errors.PermissionDeniedError, errno.EACCES), (tf.errors.UnavailableError, errno.EIO)):
        monkeypatch.setattr(tf.io.gfile, "stat", raiser(error(None, None, "no answer\nfrom there")))
        with pytest.raises(OSError) as found:
            RemotePath("gs://bucket/file").exists()
        assert found.value.errno == number and found.value.filename == "gs://bucket/file"
        assert (found.value.strerror == "no answer") == (number == errno.EIO)


def raiser(error: Exception):
    def function(*arguments):
        raise error

    return function


# --- checks of outputs


def test_a_broken_link_is_there_too(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    assert storage.lexists(tmp_path / "link")
    with pytest.raises(cli.InputError, match=f"^--output {tmp_path / 'link'}: exists; --overwrite replaces it"):
        storage.check_output("--output", tmp_path / "link", overwrite=False)
    storage.remove(tmp_path / "link")
    assert not storage.lexists(tmp_path / "link")


def test_a_link_to_a_folder_is_removed_without_the_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    storage.remove(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_an_output_is_a_file_that_is_not_there_or_may_be_replaced(place):
    (place / "folder").mkdir()
    (place / "file").write_text("old")
    storage.check_output("--output", place / "new" / "file", overwrite=False)
    storage.check_output("--output", place / "file", overwrite=True)
    for path, overwrite, words in (
        ("file", False, "exists; --overwrite replaces it"),
        ("folder", True, "is a folder; name a file"),
        ("file/deeper/x", True, f"{place / 'file'} is no folder; name another place"),
    ):
        with pytest.raises(cli.InputError) as error:
            storage.check_output("--output", place / path, overwrite)
        assert str(error.value).endswith(words) and str(place / path) in str(error.value)


def test_a_folder_that_cannot_be_written_is_noticed_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(storage.os, "access", lambda folder, mode: folder != tmp_path / "folder")
    words = f"nothing can be written in {tmp_path}/folder; name another place, or get the right to write there$"
    (tmp_path / "link").symlink_to("folder/file")
    for name in ("folder/file", "folder/new/file", "link"):
        with pytest.raises(cli.InputError, match=f"^{tmp_path}/{name}: {words}"):
            storage.check_output("--output", tmp_path / name, overwrite=True)
    storage.check_output("--output", tmp_path / "file", overwrite=True)


@pytest.mark.parametrize("name", ["x" * 256, f"new/{'x' * 256}", f"new/{'é' * 128}/y"])
def test_a_name_that_is_too_long_is_noticed_before_the_work(tmp_path, name):
    with pytest.raises(OSError, match="File name too long"):
        storage.check_place(tmp_path / name)
    storage.check_place(tmp_path / "new" / ("x" * 255))


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("a", "./a", "a: the same file as --b"),
        ("a/b", "a", "a/b: inside --b"),
        ("a", "a/b/c", "a: a folder above --b"),
        ("link/x", "a/x", "link/x: the same file as --b"),
        ("a/b", "a/c", None),
        ("a", "ab", None),
    ],
)
def test_two_outputs_are_apart(tmp_path, one, other, words):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    if words is None:
        storage.check_apart("--a", tmp_path / one, "--b", tmp_path / other)
    else:
        with pytest.raises(cli.InputError, match=f"^--a {tmp_path}/{words} {tmp_path / other}; name another$"):
            storage.check_apart("--a", tmp_path / one, "--b", tmp_path / other)


def test_links_are_walked_but_not_in_circles(tmp_path):
    for folder in ("top/a", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").touch()
    (tmp_path / "top/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "top/a/up").symlink_to("..")
    assert sorted(snapshot(tmp_path / "top")) == ["a/file", "link/file"]


# --- atomic writes


@pytest.mark.parametrize("kind, files", [("file", {"a/b/target": b"new"}), ("folder", {"a/b/target/inside": b"new"})])
def test_an_output_appears_at_the_end(place, kind, files):
    target = place / "a" / "b" / "target"
    with storage.atomic_write(target) as temporary:
        fill(temporary, kind)
        assert not target.exists()
    assert snapshot(place) == files


@pytest.mark.parametrize("kind", ["nothing", "file", "folder"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_output_that_fails_leaves_nothing(place, kind, error):
    with pytest.raises(error), storage.atomic_write(place / "a" / "b" / "target") as temporary:
        if kind != "nothing":
            fill(temporary, kind)
        raise error
    assert snapshot(place) == {}
    assert isinstance(place, RemotePath) or list(place.iterdir()) == []


def test_an_output_replaces_a_file_only_if_it_succeeds(place):
    target = place / "target"
    target.write_text("old")
    with pytest.raises(ValueError), storage.atomic_write(target) as temporary:
        temporary.write_text("half")
        raise ValueError
    assert snapshot(place) == {"target": b"old"}
    with storage.atomic_write(target) as temporary:
        temporary.write_text("new")
    assert snapshot(place) == {"target": b"new"}


@pytest.mark.parametrize("old", ["old", None])
def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path, old):
    (tmp_path / "disk").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "far").symlink_to("../disk/target")
    (tmp_path / "here" / "link").symlink_to(tmp_path / "here" / "far")
    if old:
        (tmp_path / "disk" / "target").write_text(old)
    with pytest.raises(ValueError), storage.atomic_write(tmp_path / "here" / "link") as temporary:
        temporary.write_text("half")
        raise ValueError
    assert snapshot(tmp_path / "disk") == ({"target": b"old"} if old else {})
    with storage.atomic_write(tmp_path / "here" / "link") as temporary:
        assert temporary.parent == tmp_path / "disk"  # a rename does not reach from one disk to another
        temporary.write_text("new")
    assert snapshot(tmp_path / "disk") == {"target": b"new"}
    assert {path.name for path in (tmp_path / "here").iterdir() if path.is_symlink()} == {"far", "link"}


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with storage.atomic_write(tmp_path / "link") as temporary:
        fill(temporary, "folder")
    assert (tmp_path / "link").is_symlink() and snapshot(tmp_path / "folder") == {"inside": b"new"}


def test_a_link_to_where_no_folder_is_is_refused(tmp_path):
    """The disk that it leads to may not be there at the moment."""
    (tmp_path / "link").symlink_to("disk/target")
    words = f"^{tmp_path}/link: is a link to {tmp_path}/disk/target, and there is no folder {tmp_path}/disk; make that, or remove the link$"
    with pytest.raises(cli.InputError, match=words):
        storage.check_place(tmp_path / "link")
    with pytest.raises(cli.InputError, match=words), storage.atomic_write(tmp_path / "link"):
        pass
    assert not (tmp_path / "disk").exists()


def test_a_link_to_itself_is_replaced(tmp_path):
    (tmp_path / "link").symlink_to("link")
    with storage.atomic_write(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert snapshot(tmp_path) == {"link": b"new"}


@pytest.mark.parametrize("mode", [0o600, 0o444, 0o664])
def test_a_file_keeps_its_mode_and_a_new_one_gets_the_usual(tmp_path, mode):
    mask = os.umask(0)
    os.umask(mask)
    usual = 0o666 & ~mask
    for expected in (usual, mode):
        with storage.atomic_write(tmp_path / "file") as temporary:
            temporary.write_text("new")
        assert (tmp_path / "file").stat().st_mode & 0o7777 == expected
        (tmp_path / "file").chmod(mode)


def test_an_output_that_fails_keeps_what_others_put_into_its_new_folder(place):
    with pytest.raises(ValueError), storage.atomic_write(place / "a" / "b" / "target"):
        (place / "a" / "other").write_text("kept")
        raise ValueError
    assert snapshot(place) == {"a/other": b"kept"}


def test_outputs_take_the_longest_names_two_at_a_time(place):
    names = ["果" * 84 + digit for digit in "12"]  # 253 bytes of the 255 that a name can have
    with storage.atomic_write(place / names[0]) as first, storage.atomic_write(place / names[1]) as second:
        first.write_text("1")
        second.write_text("2")
    assert snapshot(place) == {names[0]: b"1", names[1]: b"2"}


def test_an_output_names_the_target_in_errors(tmp_path, call):
    def main(argv):
        with storage.atomic_write(tmp_path) as temporary:  # a folder is there
            temporary.write_text("new")

    call(main).assert_refused(f" {tmp_path}: Is a directory")


@pytest.mark.parametrize(
    ("named", "found"), [(None, "target"), ("temporary", "target"), ("temporary/inside", "target"), ("other", "other")]
)
def test_an_error_about_the_temporary_path_names_the_target(tmp_path, named, found):
    with pytest.raises(OSError) as error, storage.atomic_write(tmp_path / "target") as temporary:
        name = None if named is None else named.replace("temporary", str(temporary))
        raise OSError(errno.ENOSPC, "No space left on device", name)
    assert str(error.value.filename) == (str(tmp_path / "target") if found == "target" else found)


def test_an_error_of_tensorflows_names_the_target_too(tmp_path, call):
    def main(argv):
        with storage.atomic_write(tmp_path / "one") as one, storage.atomic_write(tmp_path / "other"):
            raise tf.errors.ResourceExhaustedError(None, None, f"{one}; No space left on device")

    outcome = call(main)
    assert outcome.status == cli.PARTIAL and outcome.err.endswith(f": {tmp_path}/one: No space left on device\n")


def test_a_temporary_path_has_a_name_of_its_own(tmp_path):
    with storage.atomic_write(tmp_path / "target") as one, storage.atomic_write(tmp_path / "target") as other:
        assert one != other and one.parent == other.parent == tmp_path
        assert one.name.startswith(".target.tmp-") and not one.exists()
        one.write_text("1")
        other.write_text("2")
    assert (tmp_path / "target").read_text() == "1"  # the last to be renamed


# --- the commands


@pytest.mark.long
def test_build_train_export_and_translate_on_remote_storage(call, eager, tmp_path):
    """All that the commands read and write lies there, and nothing here."""
    folder = remote_folder()
    for domain, seeds in (("trainA", range(3)), ("trainB", range(5, 8))):
        for i in seeds:
            images.write(folder / "in" / domain / "deep" / f"{i}.png", draw(i))
    X, Y, runs = folder / "x.tfrecords", folder / "y.tfrecords", folder / "runs"
    flags = ["--X_input_dir", folder / "in/trainA", "--Y_input_dir", folder / "in/trainB", "--X_output_file", X, "--Y_output_file", Y]
    assert call(build_data.main, *flags, "--num_shards", 2).status == 0
    call(build_data.main, *flags, "--num_shards", 2).assert_refused(f"{folder}/x-00000-of-00002.tfrecords", "--overwrite")

    flags = [*TINY_RUN, "--max_steps", 2, "--X", f"{X}@2", "--Y", f"{folder}/y-*.tfrecords", "--checkpoints_dir", runs]
    begun = call(train.main, *flags, "--run_name", "r")
    assert begun.status == 0, begun.err
    call(train.main, *flags, "--run_name", "r").assert_refused("--run_name r", f"{runs}/r exists")
    gone_on = call(train.main, "--load_model", runs / "r", "--max_steps", 3)
    assert gone_on.status == 0 and "steps 2 to 3" in gone_on.out, gone_on.err
    names = {path.name for path in (runs / "r").iterdir()}
    assert {"config.json", "data.json", "history.jsonl", "checkpoint", "model.ckpt-2.index", "model.ckpt-3.index"} <= names
    assert [".saving" in name or ".tmp" in name for name in names].count(True) == 0
    assert (runs / "r" / "history.jsonl").read_text().count("\n") == 4

    models = ["--checkpoint_dir", runs / "r", "--export_dir", folder / "models", "--XtoY_model", "G.pb", "--YtoX_model", "F.pb"]
    assert call(export_graph.main, *models).status == 0
    again = call(export_graph.main, *models)
    assert again.status == 0 and f"now {folder}/models/G-" in again.out

    command = ["--model", folder / "models/G.pb", "--input", folder / "in/trainA", "--output", folder / "out"]
    assert call(inference.main, *command).status == 0
    assert sorted(snapshot(folder / "out")) == ["deep/0.png", "deep/1.png", "deep/2.png"]
    call(inference.main, *command).assert_refused("exists", "--resume")
    (folder / "out/deep/1.png").unlink()
    resumed = call(inference.main, *command, "--resume")
    assert resumed.status == 0 and "1 of 3 translated" in resumed.out and "2 were there" in resumed.out
    assert images.read(folder / "out/deep/1.png").shape == (32, 32, 3)
    assert not list(tmp_path.iterdir())


def test_remote_data_that_is_not_there_is_refused_in_one_line(call):
    folder = remote_folder()
    call(train.main, "--X", folder / "x", "--Y", folder / "y", "--checkpoints_dir", folder).assert_refused(f"{folder}/x: no such file")
    call(train.main, "--load_model", folder / "r").assert_refused("--load_model", f"{folder}/r")
    call(export_graph.main, "--checkpoint_dir", folder).assert_refused(f"{folder}: no config.json")
    call(inference.main, "--model", folder / "m", "--input", "s3://bucket/x.png", "--output", "x.png").assert_refused(
        "s3://", "tensorflow-io"
    )
