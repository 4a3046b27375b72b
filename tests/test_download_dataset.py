"""`download_dataset.sh`, run as users run it, against a server on 127.0.0.1 that can cut, stall, refuse and lie."""

import contextlib
import gzip
import http.server
import io
import os
import random
import re
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "download_dataset.sh"
NAME = "horse2zebra"
TOOLS = ("bash", "cat", "dirname", "env", "mkdir", "mktemp", "mv", "readlink", "rm", "tail", "wc")  # beside those below
NOISE = random.Random(0).randbytes(5000)
PICTURES = {f"{NAME}/{folder}/{i}.png": b"\x89PNG%d" % i + NOISE for folder in ("trainA", "trainB", "testA", "testB") for i in (1, 2)}


def archive(members: dict, **options) -> bytes:
    """A zip file of {name or ZipInfo: content}."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as z:
        for name, content in members.items():
            z.writestr(name, content)
    return file.getvalue()


WHOLE = archive(PICTURES)
HALF = len(WHOLE) // 2


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.ranges.append(self.headers["Range"])
        body, start, status = server.files.get(self.path), 0, server.statuses.pop(0) if server.statuses else 200
        if body is None:
            status = 404
        elif status == 200 and self.headers["Range"] and server.knows_ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
            status = 206 if start < len(body) else 416
        if status >= 400:
            body, start = b"<html>an error page</html>", 0
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) - start))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[start : start + server.cuts.pop(0)] if server.cuts else body[start:])
        if server.stalls:
            server.go_on.wait()

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    """What to answer: `files` by path, first with `statuses`, first cut off after so many bytes each (`cuts`); `ranges` is what came in."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.ranges, server.statuses, server.cuts = {f"/sets/{NAME}.zip": WHOLE}, [], [], []
    server.knows_ranges, server.stalls, server.go_on = True, False, threading.Event()
    server.url = f"http://127.0.0.1:{server.server_address[1]}/sets"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.go_on.set()
    server.shutdown()
    thread.join()
    server.server_close()


class Clone:
    """A fresh clone with nothing but the script in it, and a PATH with nothing but what the script may use."""

    def __init__(self, folder: Path, url: str):
        self.data, self.bin, self.cwd = folder / "clone" / "data", folder / "bin", folder / "elsewhere"
        self.part, self.script = self.data / f"{NAME}.zip.part", self.data.parent / SCRIPT.name
        for path in (self.data.parent, self.bin, self.cwd):
            path.mkdir()
        shutil.copy(SCRIPT, self.data.parent)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.stub("sleep", "exit 0")  # the pauses between attempts
        self.stub("python3", f'exec "{sys.executable}" "$@"')
        self.use("curl" if shutil.which("curl") else "python3")
        self.env = {"PATH": str(self.bin), "HOME": str(folder), "DATASET_URL": url, "no_proxy": "*"}

    def stub(self, name: str, line: str) -> None:
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(f"#!/bin/sh\n{line}\n")
        (self.bin / name).chmod(0o755)

    def use(self, downloader: str) -> None:
        (self.bin / "curl").unlink(missing_ok=True)
        if downloader != "python3":
            if not shutil.which(downloader):
                pytest.skip(f"no {downloader} here")
            (self.bin / downloader).symlink_to(shutil.which(downloader))

    def put(self, body: bytes) -> None:
        """Puts an archive where the script looks before it downloads one."""
        self.data.mkdir()
        (self.data / f"{NAME}.zip").write_bytes(body)

    @contextlib.contextmanager
    def start(self, *arguments: str, **options) -> Iterator[subprocess.Popen]:
        command = [shutil.which("bash"), str(self.script), *arguments]
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        with subprocess.Popen(command, cwd=self.cwd, env=self.env, text=True, start_new_session=True, **options) as process:
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):  # whatever a script that fails its test has left running
                    os.killpg(process.pid, signal.SIGKILL)

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def tree(self) -> dict:
        """All that is in data/: the content of each file, `None` for a folder."""
        return {p.relative_to(self.data).as_posix(): None if p.is_dir() else p.read_bytes() for p in self.data.rglob("*")}


@pytest.fixture
def clone(tmp_path, server):
    return Clone(tmp_path, server.url)


def unpacked(pictures: dict = PICTURES) -> dict:
    """What data/ holds when all went well."""
    return {**pictures, **{parent.as_posix(): None for path in pictures for parent in Path(path).parents if parent.name}}


def assert_done(result: subprocess.CompletedProcess) -> None:
    assert (result.returncode, result.stderr) == (0, "")


def assert_failed(result: subprocess.CompletedProcess, status: int, *words: str) -> None:
    assert result.returncode == status
    assert re.fullmatch(r"download_dataset\.sh: [^\n]+\n", result.stderr)
    assert all(word in result.stderr for word in words), result.stderr


def test_fresh_clone_then_again_without_the_server(clone, server):
    result = clone.run(NAME)
    assert_done(result)
    assert f"data/{NAME}: trainA 2, trainB 2, testA 2, testB 2" in result.stdout
    assert clone.tree() == unpacked()
    assert list(clone.cwd.iterdir()) == []
    result = clone.run(NAME)
    assert_done(result)
    assert "there already" in result.stdout
    assert server.ranges == [None]  # one request, and no part of it


def test_called_by_a_link(clone, tmp_path):
    """The folder data/ is beside the script, and not beside what leads there."""
    link, other = tmp_path / "link.sh", tmp_path / "other.sh"
    other.symlink_to(clone.script.relative_to(tmp_path))
    link.symlink_to(other.name)
    clone.script = link
    assert_done(clone.run(NAME))
    assert clone.tree() == unpacked()
    assert not (tmp_path / "data").exists()


def test_names():
    """The names are the authors', and the default address is the one that lives."""
    text = SCRIPT.read_text()
    assert "\nreadonly URL=https://efrosgans.eecs.berkeley.edu/cyclegan/datasets\n" in text
    assert "\nreadonly URL_OF_PAIRS=https://efrosgans.eecs.berkeley.edu/pix2pix/datasets\n" in text
    names = re.findall(r"^([\w/]+) +(?:\d+|-)  \w", text, re.MULTILINE)
    styles = ["monet2photo", "cezanne2photo", "ukiyoe2photo", "vangogh2photo"]
    others = ["maps", "facades", "iphone2dslr_flower", "ae_photos", "grumpifycat", "cityscapes"]
    pairs = ["pix2pix/facades", "pix2pix/maps", "pix2pix/edges2shoes", "pix2pix/edges2handbags", "pix2pix/night2day", "pix2pix/cityscapes"]
    assert names == ["apple2orange", "summer2winter_yosemite", NAME, *styles, *others, *pairs]


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(clone, flag):
    result = clone.run(flag)
    assert_done(result)
    assert all(word in result.stdout for word in ("usage: ", "apple2orange", "cityscapes", "DATASET_URL"))
    assert not clone.data.exists()


@pytest.mark.parametrize("arguments", [(), (NAME, "maps")])
def test_usage(clone, arguments):
    result = clone.run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == clone.run("--help").stdout
    assert not clone.data.exists()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("horse", "horse"),
        ("", "''"),
        ("../x", "../x"),
        (f"../data/{NAME}", f"../data/{NAME}"),
        (f"{NAME}/", f"{NAME}/"),
        ("*", r"\*"),
        ("--help-me", "--help-me"),
        ("pix2pix", "pix2pix"),
        ("pix2pix/", "pix2pix/"),
        ("pix2pix/horse2zebra", "pix2pix/horse2zebra"),
        ("pix2pix/../facades", "pix2pix/../facades"),
        ("a\nb", r"$'a\nb'"),
    ],
)
def test_unknown_name(clone, server, name, shown):
    assert_failed(clone.run(name), 2, f".sh: {shown}: no such data set", "apple2orange, ", "cityscapes")
    assert not clone.data.exists()
    assert server.ranges == []


@pytest.mark.parametrize(
    ("name", "folders"), [("cityscapes", "trainA trainB in data/cityscapes\n"), ("pix2pix/cityscapes", "train in data/cityscapes_pairs\n")]
)
def test_cityscapes_is_not_downloaded(clone, server, name, folders):
    assert_failed(clone.run(name), 2, "licence", "https://www.cityscapes-dataset.com", f"and fill {folders}")
    assert not clone.data.exists()
    assert server.ranges == []


def test_wrong_address(clone):
    clone.env["DATASET_URL"] = "file:///etc"
    assert_failed(clone.run(NAME), 2, "DATASET_URL=file:///etc", "http://")
    assert not clone.data.exists()


def test_slash_after_the_address(clone):
    clone.env["DATASET_URL"] += "/"
    assert_done(clone.run(NAME))
    assert clone.tree() == unpacked()


@pytest.mark.parametrize("downloader", ["curl", "wget", "python3"])
def test_404(clone, server, downloader):
    clone.use(downloader)
    server.files.clear()
    assert_failed(clone.run(NAME), 1, f"{server.url}/{NAME}.zip: ", "404", "DATASET_URL")
    assert clone.tree() == {}
    assert len(server.ranges) == 1  # no second attempt


@pytest.mark.parametrize("downloader", ["curl", "wget", "python3"])
def test_no_server(clone, server, downloader):
    clone.use(downloader)
    clone.env["DATASET_URL"] = "http://127.0.0.1:1"  # a port that ordinary programs cannot take
    result = clone.run(NAME)
    assert_failed(result, 1, f"http://127.0.0.1:1/{NAME}.zip: ", "run again")
    assert re.search("refused|connect to", result.stderr)
    assert clone.tree() == {}


@pytest.mark.parametrize("downloader", ["curl", "wget", "python3"])
def test_cut_connection_is_resumed(clone, server, downloader):
    clone.use(downloader)
    server.cuts = [1000] * 4  # one for each attempt of the first call
    assert_failed(clone.run(NAME), 1, "the same command resumes")
    assert clone.tree() == {clone.part.name: WHOLE[:4000]}
    assert server.ranges == [None, "bytes=1000-", "bytes=2000-", "bytes=3000-"]
    assert_done(clone.run(NAME))
    assert server.ranges[4:] == ["bytes=4000-"]
    assert clone.tree() == unpacked()


def test_cut_connection_mends_by_itself(clone, server):
    server.cuts, server.statuses = [1000], [200, 503, 429]
    assert_done(clone.run(NAME))
    assert server.ranges == [None, *["bytes=1000-"] * 3]
    assert clone.tree() == unpacked()


@pytest.mark.parametrize("downloader", ["curl", "wget", "python3"])
def test_server_without_ranges(clone, server, downloader):
    clone.use(downloader)
    clone.data.mkdir()
    clone.part.write_bytes(WHOLE[:HALF])
    server.knows_ranges, server.cuts = False, [1000] * 4
    assert_failed(clone.run(NAME), 1, f"{NAME}.zip: ")
    assert server.ranges[0] == f"bytes={HALF}-"
    assert WHOLE.startswith(clone.part.read_bytes())  # and not what came twice
    assert_done(clone.run(NAME))
    assert clone.tree() == unpacked()


@pytest.mark.parametrize("downloader", ["curl", "wget", "python3"])
def test_refused_range(clone, server, downloader):
    """HTTP 416: the part is whole, or else not a part of this file and out of the way for the next call."""
    clone.use(downloader)
    clone.data.mkdir()
    clone.part.write_bytes(WHOLE)
    assert_done(clone.run(NAME))
    assert server.ranges == [f"bytes={len(WHOLE)}-"]
    assert clone.tree() == unpacked()
    shutil.rmtree(clone.data / NAME)
    clone.part.write_bytes(bytes(len(WHOLE) + 1))
    assert_failed(clone.run(NAME), 1, "damaged", "run again")
    assert clone.tree() == {}
    assert_done(clone.run(NAME))
    assert clone.tree() == unpacked()


def flipped(data: bytes) -> bytes:
    return data[:HALF] + bytes([data[HALF] ^ 1]) + data[HALF + 1 :]


@pytest.mark.parametrize(
    "body", [flipped(WHOLE), WHOLE[:HALF], b"<html>please log in</html>", b""], ids=["flipped", "short", "page", "empty"]
)
def test_damaged_archive(clone, server, body):
    server.files[f"/sets/{NAME}.zip"] = body
    assert_failed(clone.run(NAME), 1, "damaged", "run again")
    assert clone.tree() == {}


def test_damaged_deflate_stream(clone):
    body = archive(PICTURES, compression=zipfile.ZIP_DEFLATED)
    start = body.index(b".png") + 4  # the first member's content follows its name
    clone.put(body[:start] + b"\xff" + body[start + 1 :])  # a kind of block that there is not
    assert_failed(clone.run(NAME), 1, "damaged", "run again")
    assert clone.tree() == {}


def test_file_where_a_folder_belongs(clone):
    clone.put(archive({**PICTURES, f"{NAME}/testB/1.png/x": b"x"}))
    assert_failed(clone.run(NAME), 1, "damaged")
    assert clone.tree() == {}


def special(kind: int, name: str = f"{NAME}/trainA/x.png") -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system, member.external_attr = 3, (kind | 0o777) << 16
    return member


@pytest.mark.parametrize(
    "member",
    [
        "/{tmp}/x",
        "../x",
        f"{NAME}/../../x",
        f"{NAME}/trainA\\x",
        "C:/x",
        f"{NAME}/C:/x",
        "apple2orange/trainA/x",
        f"{NAME}x/trainA/x",
        special(stat.S_IFLNK),
        special(stat.S_IFLNK, f"{NAME}/link/"),
        special(stat.S_IFIFO),
    ],
    ids=lambda m: m if isinstance(m, str) else f"{m.filename}-{m.external_attr >> 28:o}",
)
def test_hostile_archive(clone, tmp_path, member):
    if isinstance(member, str):
        member = member.format(tmp=tmp_path)
    clone.put(archive({**PICTURES, member: b"/etc"}))
    before = {*tmp_path.rglob("*")}
    assert_failed(clone.run(NAME), 1, "the archive is unsafe")
    assert clone.tree() == {}
    assert {*tmp_path.rglob("*")} == before - {clone.data / f"{NAME}.zip"}


@pytest.mark.parametrize("missing", ["trainA", "trainB"])
def test_archive_without_training_pictures(clone, missing):
    rest = {path: content for path, content in PICTURES.items() if missing not in path}
    clone.put(archive({**rest, f"{NAME}/{missing}/": b""}))
    assert_failed(clone.run(NAME), 1, f"{NAME}/{missing}")
    assert clone.tree() == {}


@pytest.mark.parametrize(("name", "folders"), [("ae_photos", ["testA"]), ("grumpifycat", ["trainA", "trainB"])])
def test_set_that_lacks_folders(clone, server, name, folders):
    pictures = {f"{name}/{folder}/1.jpg": NOISE for folder in folders}
    server.files[f"/sets/{name}.zip"] = archive(pictures)
    assert_done(clone.run(name))
    assert clone.tree() == unpacked(pictures)
    assert "there already" in clone.run(name).stdout


def test_what_macos_adds_is_left_out(clone):
    clone.put(archive({**PICTURES, f"__MACOSX/{NAME}/._trainA": b"x"}))
    assert_done(clone.run(NAME))
    assert clone.tree() == unpacked()


def test_full_disk_is_not_blamed_on_the_archive(clone):
    body = archive({path: bytes(100_000) for path in PICTURES}, compression=zipfile.ZIP_DEFLATED)
    clone.put(body)
    clone.stub("python3", f'ulimit -f 20\nexec "{sys.executable}" "$@"')  # no file may be larger than 20 blocks
    assert_failed(clone.run(NAME), 1, "File too large", "kept")
    assert clone.tree() == {f"{NAME}.zip": body}


DIRECTORY, END = b"PK\1\2", b"PK\5\6"  # what an entry of an archive's directory begins with, and the record after the last one


def saying(body: bytes, size: int) -> bytes:
    """An archive whose first member says in both places that it has `size` bytes."""
    entry = body.index(DIRECTORY)
    body = body[: entry + 24] + struct.pack("<I", size) + body[entry + 28 :]
    return body[:22] + struct.pack("<I", size) + body[26:]


def crowded(members: int) -> bytes:
    """An archive of so many members, nearly all of them the last one again."""
    whole = archive({**PICTURES, f"{NAME}/": b""})
    end, last = whole.index(END), whole.rindex(DIRECTORY)
    more = whole[last:end] * (members - len(PICTURES) - 1)
    size, start = struct.unpack_from("<II", whole, end + 12)
    return whole[:end] + more + struct.pack("<4s4H2IH", END, 0, 0, members, members, size + len(more), start, 0)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (saying(WHOLE, 468_000_001), ["468 MB once unpacked", "the limit is 50,000 files and 468 MB"]),
        (saying(WHOLE, 2**32 - 2), ["4,295 MB once unpacked"]),
        (crowded(50_001), ["50,001 files, 0 MB"]),
        (archive(PICTURES, compression=zipfile.ZIP_LZMA), ["another method"]),
    ],
    ids=["large", "huge", "crowded", "lzma"],
)
def test_archive_that_would_fill_the_disk(clone, body, words):
    clone.put(body)
    assert_failed(clone.run(NAME), 1, "unsafe and was removed", *words)
    assert clone.tree() == {}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_member_larger_than_it_says(clone, compression):
    """Nothing of it is unpacked beyond what was counted: no file may be larger than 20 blocks here."""
    clone.put(saying(archive({f"{NAME}/trainA/0.png": bytes(100_000), **PICTURES}, compression=compression), 10))
    clone.stub("python3", f'ulimit -f 20\nexec "{sys.executable}" "$@"')
    assert_failed(clone.run(NAME), 1, "damaged")
    assert clone.tree() == {}


def test_room_is_asked_for_before_the_download(clone, server):
    clone.data.mkdir()
    clone.part.write_bytes(WHOLE[:HALF])
    stub = f'[ "$2" != -c ] || {{ echo FREE; exit; }}\nexec "{sys.executable}" "$@"'
    clone.stub("python3", stub.replace("FREE", "233"))
    assert_failed(clone.run(NAME), 1, "data: 233 MB free", f"{NAME} takes about 234 MB", "make room and run again")
    assert clone.tree() == {clone.part.name: WHOLE[:HALF]}
    assert server.ranges == []
    clone.stub("python3", stub.replace("FREE", "234"))
    assert_done(clone.run(NAME))
    assert clone.tree() == unpacked()


def test_room_is_asked_for_before_unpacking(clone):
    clone.put(WHOLE)
    full = "import shutil, sys; shutil.disk_usage = lambda _: shutil._ntuple_diskusage(0, 0, 39_000); exec(sys.stdin.read())"
    clone.stub("python3", f'shift 2\nexec "{sys.executable}" -IS -c "{full}" "$@"')
    assert_failed(clone.run(NAME), 1, "data: 0.0 MB free", f"{NAME} takes 0.0 MB", "kept")
    assert clone.tree() == {f"{NAME}.zip": WHOLE}


@pytest.mark.parametrize("downloader", ["curl", "wget", "python3"])
def test_download_without_end(clone, server, downloader):
    clone.use(downloader)
    script = clone.data.parent / SCRIPT.name
    script.write_text(SCRIPT.read_text().replace(" 117  wild", "   1  wild"))
    server.files[f"/sets/{NAME}.zip"] = bytes(4_200_000)
    assert_failed(clone.run(NAME), 1, f"{NAME}.zip: is larger than 4 MB", "DATASET_URL")
    assert clone.tree() == {}
    assert len(server.ranges) == 1


def test_archive_that_is_there_is_not_downloaded(clone, server):
    clone.put(WHOLE)
    assert_done(clone.run(NAME))
    assert clone.tree() == unpacked()
    assert server.ranges == []


def test_folder_of_the_user_is_left_alone(clone, server):
    (clone.data / NAME / "trainA").mkdir(parents=True)
    (clone.data / NAME / "trainA" / "mine.png").write_bytes(b"mine")
    before = clone.tree()
    assert_failed(clone.run(NAME), 2, f"data/{NAME} ", "trainB", "move it away")
    assert clone.tree() == before
    assert server.ranges == []


def test_data_is_no_folder(clone):
    clone.data.write_bytes(b"mine")
    assert_failed(clone.run(NAME), 1, "data: ")
    assert clone.data.read_bytes() == b"mine"


def test_no_python(clone, server):
    (clone.bin / "python3").unlink()
    assert_failed(clone.run(NAME), 1, "python3: ")
    assert not clone.data.exists()
    assert server.ranges == []


def wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_stopped_while_downloading(clone, server, ctrl_c_counts, sent, status):
    server.cuts, server.stalls = [HALF], True
    with clone.start(NAME) as process:
        wait_until(lambda: clone.part.exists() and clone.part.stat().st_size)
        process.send_signal(sent)
        out, err = process.communicate(timeout=10)
    assert_failed(subprocess.CompletedProcess([], process.returncode, out, err), status, "resumes")
    assert list(clone.tree()) == [clone.part.name]
    here = clone.part.read_bytes()
    assert WHOLE.startswith(here)
    server.stalls = False
    assert_done(clone.run(NAME))
    assert server.ranges == [None, f"bytes={len(here)}-"]
    assert clone.tree() == unpacked()


def test_what_a_kill_has_left_is_removed_by_the_next_run(clone, server):
    running = f"{socket.gethostname()}-{os.getpid()}-aB3456"
    another_commands, another_machines = f"{socket.gethostname()}-4026531836-99999999-abcdefgh", "other-99999999-aB3456"
    theirs = [f".{NAME}.tmp-{who}" for who in (running, another_commands, another_machines)]
    for name in theirs:
        (clone.data / name).mkdir(parents=True)
    server.cuts, server.stalls = [HALF], True
    with clone.start(NAME) as process:
        wait_until(lambda: clone.part.exists() and clone.part.stat().st_size)
        process.kill()
    assert len([*clone.data.iterdir()]) == len(theirs) + 2
    server.stalls = False
    assert_done(clone.run(NAME))
    assert clone.tree() == unpacked() | dict.fromkeys(theirs)


def test_stopped_before_the_first_byte(clone, server):
    server.cuts, server.stalls = [0], True
    with clone.start(NAME) as process:
        wait_until(lambda: server.ranges)
        process.terminate()
        out, err = process.communicate(timeout=10)
    assert_failed(subprocess.CompletedProcess([], process.returncode, out, err), 143, "terminated")
    assert clone.tree() == {}


def test_stopped_while_unpacking(clone):
    clone.put(WHOLE)
    clone.stub("python3", f'mkdir "$5/{NAME}"\n: > "$5/{NAME}/half"\nexec {shutil.which("sleep")} 60')
    with clone.start(NAME) as process:
        wait_until(lambda: [*clone.data.rglob("half")])
        process.terminate()
        out, err = process.communicate(timeout=10)
    assert_failed(subprocess.CompletedProcess([], process.returncode, out, err), 143, "terminated")
    assert clone.tree() == {f"{NAME}.zip": WHOLE}


def test_progress_on_a_terminal_only(clone, server):
    clone.stub("sleep", f"exec {shutil.which('sleep')} 0.02")
    server.cuts, server.stalls = [HALF], True
    terminal, theirs = os.openpty()
    with clone.start(NAME, stderr=theirs) as process:
        shown = b""
        while b"horse2zebra.zip: 0 of about 117 MB" not in shown:
            assert select.select([terminal], [], [], 10)[0]
            shown += os.read(terminal, 1000)
        process.terminate()
        process.communicate(timeout=10)
    os.close(terminal)
    os.close(theirs)
    assert process.returncode == 143


# --- pairs, which come in tar archives

PAIRS = {f"facades/{folder}/{i}.jpg": b"\xff\xd8%d" % i + NOISE for folder in ("train", "val", "test") for i in (1, 2)}
HUGE = 10**12


def header(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, **more: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname, info.pax_headers = kind, size, "/etc/passwd", more
    return info


def tar(members: dict, format: int = tarfile.PAX_FORMAT) -> bytes:
    """A packed tar archive of {name or header: content}; a header says itself what size it has."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format):
        for info, data in members.items():
            info = info if isinstance(info, tarfile.TarInfo) else header(info, tarfile.REGTYPE if data else tarfile.DIRTYPE, len(data))
            file.write(info.tobuf(format) + data + bytes(-len(data) % 512))
    return gzip.compress(file.getvalue(), 1)


@pytest.fixture
def pairs(clone, server):
    """`pairs(body)` runs the script for pairs that come in that archive."""

    def run(body: bytes) -> subprocess.CompletedProcess:
        server.files["/sets/facades.tar.gz"] = body
        return clone.run("pix2pix/facades")

    return run


def placed(pictures: dict) -> dict:
    return unpacked({path.replace("facades", "facades_pairs", 1): content for path, content in pictures.items()})


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_pairs_then_again_without_the_server(clone, server, pairs, format):
    long = f"facades/train/{'long' * 50}.jpg"
    added = {"facades/": b"", "./": b"", "facades/train/._1.jpg": b"macOS", "._facades": b"macOS"}
    result = pairs(tar({**added, f"./{long}": NOISE, **PAIRS}, format))
    assert_done(result)
    assert "data/facades_pairs: train 3, val 2, test 2" in result.stdout
    assert clone.tree() == placed({**PAIRS, long: NOISE})
    result = clone.run("pix2pix/facades")
    assert_done(result)
    assert "data/facades_pairs is there already" in result.stdout
    assert server.ranges == [None]


def test_pairs_lie_beside_the_set_of_their_name(clone, server, pairs):
    own = {f"facades/{folder}/1.jpg": NOISE for folder in ("trainA", "trainB")}
    server.files["/sets/facades.zip"] = archive(own)
    assert_done(clone.run("facades"))
    assert_done(pairs(tar(PAIRS)))
    assert clone.tree() == placed(PAIRS) | unpacked(own)


def test_pairs_whose_download_was_cut_are_resumed(clone, server, pairs):
    server.cuts = [1000] * 4
    assert_failed(pairs(tar(PAIRS)), 1, "facades.tar.gz: ", "the same command resumes")
    assert list(clone.tree()) == ["facades.tar.gz.part"]
    assert_done(pairs(tar(PAIRS)))
    assert clone.tree() == placed(PAIRS)


BODY = tar(PAIRS)
PLAIN = gzip.decompress(BODY)
MIDDLE = len(BODY) // 2
BROKEN = {
    "flipped": BODY[:MIDDLE] + bytes([BODY[MIDDLE] ^ 1]) + BODY[MIDDLE + 1 :],
    "short": BODY[:MIDDLE],
    "checksum": BODY[:-6] + bytes(6),
    "more": BODY + b"more",
    "no tar": gzip.compress(b"no archive" * 99),
    "header": gzip.compress(PLAIN[:5632] + bytes(range(256)) * 2 + PLAIN[6144:] + NOISE * 9),
    "file for a folder": tar({**PAIRS, "facades/val/1.jpg/x": b"x"}),
    "twice": tar({**PAIRS, "./facades/val/1.jpg": b"x"}),
}


@pytest.mark.parametrize("how", BROKEN)
def test_damaged_archive_of_pairs(clone, pairs, how):
    assert_failed(pairs(BROKEN[how]), 1, "facades.tar.gz: the archive was damaged and was removed: run again")
    assert clone.tree() == {}


SPARSE = {"GNU.sparse.map": "0,1", "GNU.sparse.size": "9"}
HOSTILE = {
    "root": header("/etc/x"),
    "through": header("facades/../../x"),
    "link": header("facades/train/x.jpg", tarfile.SYMTYPE),
    "hard link": header("facades/train/x.jpg", tarfile.LNKTYPE),
    "device": header("facades/train/x.jpg", tarfile.CHRTYPE),
    "path in a header": header("facades/x", path="../../x"),
    "sparse": header("facades/train/x.jpg", **SPARSE),
    "old sparse": header("facades/train/x.jpg", tarfile.GNUTYPE_SPARSE),
    "long name": header("././@LongLink", tarfile.GNUTYPE_LONGNAME, HUGE),
    "long header": header("facades/PaxHeaders/x", tarfile.XHDTYPE, HUGE),
    "large": header("facades/train/x.jpg", size=120_000_001),
    "huge in a header": header("facades/train/x.jpg", size=HUGE),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_hostile_archive_of_pairs(clone, tmp_path, pairs, how):
    before = {*tmp_path.rglob("*")}
    format = tarfile.PAX_FORMAT if "in a header" in how or how == "sparse" else tarfile.GNU_FORMAT
    assert_failed(pairs(tar({**PAIRS, HOSTILE[how]: b""}, format)), 1, "facades.tar.gz: the archive is unsafe and was removed: ")
    assert clone.tree() == {}
    assert {*tmp_path.rglob("*")} == before | {clone.data}


def test_archive_of_too_many_pairs(clone, pairs):
    clone.script.write_text(SCRIPT.read_text().replace("200_000", "5"))
    assert_failed(pairs(tar(PAIRS)), 1, "unsafe and was removed: 6 files, 0 MB once unpacked", "the limit is 5 files and 120 MB")
    assert clone.tree() == {}


def test_archive_without_pairs(clone, pairs):
    rest = {path: content for path, content in PAIRS.items() if "train" not in path}
    assert_failed(pairs(tar({**rest, "facades/train/": b""})), 1, "the archive has no pictures in facades/train and was removed")
    assert clone.tree() == {}


def test_room_is_asked_for_before_pairs_are_unpacked(clone, pairs):
    full = "import shutil, sys; shutil.disk_usage = lambda _: shutil._ntuple_diskusage(0, 0, 29_000 + 10**9 * (len(sys.argv) < 3))"
    stub = f'[ "$2" != -c ] || exec "{sys.executable}" "$@"\nshift 2\nexec "{sys.executable}" -IS -c "{full}; exec(sys.stdin.read())" "$@"'
    clone.stub("python3", stub)
    assert_failed(pairs(BODY), 1, "data: 0.0 MB free", "facades takes 0.0 MB", "kept")
    assert clone.tree() == {"facades.tar.gz": BODY}


def test_a_full_disk_is_not_blamed_on_an_archive_of_pairs(clone, pairs):
    body = tar({path: bytes(100_000) for path in PAIRS})
    clone.stub("python3", f'ulimit -f 20\nexec "{sys.executable}" "$@"')
    assert_failed(pairs(body), 1, "File too large", "kept")
    assert clone.tree() == {"facades.tar.gz": body}
