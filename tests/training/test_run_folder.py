"""A run's folder: making and finding it, its lock, its history, and the data it was begun with."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import divide, draw, snapshot, write_records

from pictures import fingerprints, shards
from reader import Reader
from system import storage
from system.cli import InputError
from training import run_folder
from training.config import Config
from training.run_folder import data_contradictions, find_run, locked, new_run, record

DATA = {"X": {"records": 5, "bytes": 70, "headers": "ab"}, "Y": {"records": 3, "bytes": 40, "headers": "cd"}}


def make(checkpoints: Path, name: str | None = "run") -> Path:
    return new_run(checkpoints, name, Config(ngf=3), DATA)


# --- making and finding


@pytest.fixture
def noon(monkeypatch):
    real = run_folder.time.strftime
    monkeypatch.setattr(run_folder.time, "strftime", lambda format: real(format, (2024, 2, 29, 12, 0, 0, 3, 60, 0)))


def test_a_new_run_holds_its_settings_and_what_its_data_were(tmp_path):
    run = make(tmp_path)
    assert Config.load(run) == Config(ngf=3)
    assert json.loads((run / "data.json").read_text()) == DATA
    assert sorted(f.name for f in tmp_path.rglob("*")) == ["config.json", "data.json", "run"]


def test_runs_without_a_name_are_called_by_the_minute(tmp_path, noon):
    runs = [make(tmp_path / "new" / "checkpoints", None) for _ in range(3)]
    assert [run.name for run in runs] == ["20240229-1200", "20240229-1200-2", "20240229-1200-3"]
    assert all(run.is_dir() and run.parent == tmp_path / "new" / "checkpoints" for run in runs)


def test_a_run_can_have_a_name_once(tmp_path):
    assert make(tmp_path / "new", "run 1.b") == tmp_path / "new" / "run 1.b"
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match="--run_name run 1.b: .*exists; continue it with --load_model run 1.b"):
        make(tmp_path / "new", "run 1.b")
    assert snapshot(tmp_path) == before


def test_a_name_that_another_process_takes_meanwhile_is_left_to_it(tmp_path, monkeypatch):
    make(tmp_path)
    before = snapshot(tmp_path)
    monkeypatch.setattr(run_folder, "check_run_name", lambda *args: None)  # it was free a moment ago
    with pytest.raises(InputError, match="another process"):
        make(tmp_path)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", [None, "run"])
def test_where_nothing_can_be_written_no_other_name_is_tried(tmp_path, monkeypatch, name):
    def save(self, folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Config, "save", save)
    with pytest.raises(OSError, match="No space left on device"):
        make(tmp_path / "new", name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a/", "/a"])
def test_a_run_name_is_no_path(tmp_path, name):
    with pytest.raises(InputError, match="--run_name .*a name, not a path"):
        make(tmp_path / "new", name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["red\x1b[31m", "a\nb", "a\r", "a\u2028b", "\x9b31m", "\x7f"])
def test_a_run_name_has_no_control_characters(tmp_path, name):
    with pytest.raises(InputError, match="--run_name '.*\\\\.*': has a control character or a line break in it") as error:
        make(tmp_path / "new", name)
    assert str(error.value).isprintable() and list(tmp_path.iterdir()) == []


def test_a_run_name_can_be_of_any_language(tmp_path):
    assert make(tmp_path, "é 猫\u3000犬 👩\u200d🎨").is_dir()


@pytest.mark.parametrize("name", [None, "run"])
def test_runs_cannot_be_made_where_a_link_leads_nowhere(tmp_path, name):
    (tmp_path / "checkpoints").symlink_to("an unmounted disk")
    with pytest.raises(InputError, match="checkpoints is no folder"):
        make(tmp_path / "checkpoints", name)


@pytest.mark.parametrize("name", ["run", "run/", "elsewhere/checkpoints/run", "{tmp_path}/elsewhere/checkpoints/run"])
def test_a_run_is_found_by_name_and_by_path(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    checkpoints = Path("elsewhere") / "checkpoints"
    make(checkpoints)
    found = find_run(name.format(tmp_path=tmp_path), checkpoints)
    assert found.resolve() == (tmp_path / checkpoints / "run").resolve()


def test_a_name_means_the_run_in_the_checkpoints_folder_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / "checkpoints"):
        make(folder)
    assert find_run("run", Path("checkpoints")) == Path("checkpoints") / "run"


@pytest.mark.parametrize("name", ["", "run", "no run", "nowhere/run"])
def test_what_holds_no_config_is_no_run(tmp_path, name):
    (tmp_path / "no run").mkdir()
    with pytest.raises(InputError, match=f"--load_model {name}: no such run in {tmp_path}"):
        find_run(name, tmp_path)


# --- its models


@pytest.mark.parametrize(
    ("X", "Y", "run", "flags"),
    [
        ("apple.tfrecords", "orange.tfrecords", "run", " --XtoY_model my_apple2orange.pb --YtoX_model my_orange2apple.pb"),
        ("orange@4", "x/apple-*", "run", " --XtoY_model my_orange2apple.pb --YtoX_model my_apple2orange.pb"),
        ("monet.tfrecords", "photo.tfrecords", "a run", ""),
        ("monet.tfrecords", "photo.tfrecords", "-run", ""),
    ],
)
def test_the_command_that_exports_a_run_names_models_where_others_came_with_the_project(monkeypatch, tmp_path, X, Y, run, flags):
    monkeypatch.setattr(run_folder, "PROJECT", tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in run_folder.SHIPPED:
        (tmp_path / "pretrained" / name).mkdir(parents=True)
    folder = {"run": " run", "a run": " 'a run'", "-run": "=-run"}[run]
    config = Config(X=X, Y=Y)
    assert run_folder.export_command(Path(run), config) == f"python export_graph.py --checkpoint_dir{folder}{flags}"
    monkeypatch.setattr(run_folder, "PROJECT", tmp_path / "elsewhere")
    assert run_folder.export_command(Path(run), config) == f"python export_graph.py --checkpoint_dir{folder}"


def test_the_models_that_ship_are_those_that_git_keeps():
    kept = [line.removeprefix("!/pretrained/") for line in (run_folder.PROJECT / ".gitignore").read_text().splitlines()]
    assert sorted(name for name in kept if name.endswith(".pb")) == sorted(run_folder.SHIPPED)
    assert all(run_folder.ships(run_folder.PROJECT / run_folder.EXPORTS / name) for name in run_folder.SHIPPED)


# --- the lock

HOLDER = """
import sys
from pathlib import Path
from training import run_folder
with run_folder.locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of the run `tmp_path`."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    project = Path(run_folder.__file__).parents[1]
    with subprocess.Popen(command, cwd=project, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_of_the_first(tmp_path, holder):
    with pytest.raises(InputError) as error, locked(tmp_path):
        pass
    assert str(tmp_path) in str(error.value)
    assert f"process {holder.pid} on {os.uname().nodename}, since " in str(error.value)


def test_the_lock_dies_with_its_process(tmp_path, holder):
    holder.kill()
    holder.wait()
    with locked(tmp_path):
        assert f"process {os.getpid()} " in (tmp_path / ".lock").read_text()


def test_the_lock_ends_with_its_block(tmp_path):
    for _ in range(2):
        with locked(tmp_path):
            pass


def test_the_lock_holds_on_a_full_disk_too(tmp_path):
    program = """
import resource, signal, sys
from system.storage import path
from training.run_folder import locked
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
with locked(path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(InputError, match="another process is training there"), locked(tmp_path):
            pass
        holder.communicate()
    assert holder.returncode == 0


def test_a_lock_that_is_no_file_is_named(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(InputError, match=f"^{tmp_path}/.lock: is a pipe or a device; remove it"), locked(tmp_path):
        pass


def test_where_there_are_no_locks_training_goes_on(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(run_folder.fcntl, "flock", flock)
    with locked(tmp_path):
        pass


# --- history


def test_the_history_grows_by_a_line(tmp_path):
    record(tmp_path, "started", 0)
    record(tmp_path, "continued", 7, changed={"learning_rate": [0.1, 0.2], "X": ["ä", "ö"]})
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [(line["event"], line["step"], line.get("changed")) for line in lines] == [
        ("started", 0, None),
        ("continued", 7, {"learning_rate": [0.1, 0.2], "X": ["ä", "ö"]}),
    ]
    assert all(line["process"] == os.getpid() and line["host"] and line["time"] for line in lines)


@pytest.mark.parametrize("remote", [False, True])
def test_an_event_begins_a_new_line_after_half_a_one(tmp_path, remote):
    run = storage.path("ram://history") if remote else tmp_path
    run.mkdir(exist_ok=True)
    record(run, "started", 0)
    storage.append(run / "history.jsonl", '{"time": "2024-02-29 12:0')
    record(run, "continued", 7)
    record(run, "finished", 9)
    assert [entry["event"] for entry in run_folder.history(run)] == ["started", "continued", "finished"]
    assert (run / "history.jsonl").read_bytes().count(b"\n") == 4


def test_a_damaged_evaluation_is_as_none(tmp_path):
    best = ['{"step": "x"}', '{"step": 3, "G_kid": 0.5, "F_kid": NaN}', '{"step": 3.0, "G_kid": 0.5, "F_kid": 0.5}', "[3]"]
    texts = ["", "[]", "null", "\0", "[" * 10_000, '{"best": 3, "last": 3}', '{"last": {"step": true}}', '{"last": {"step": null}}']
    for text in (*texts, *(f'{{"best": {wrong}, "last": {{"step": 4}}}}' for wrong in best)):
        (tmp_path / "evaluation.json").write_text(text)
        assert run_folder.evaluation(tmp_path) == ({"last": {"step": 4}} if "4" in text else {})
    (tmp_path / "evaluation.json").unlink()
    (tmp_path / "evaluation.json").mkdir()
    assert run_folder.evaluation(tmp_path) == {}


def test_what_was_measured_is_remembered(tmp_path):
    assert run_folder.evaluation(tmp_path) == {}
    run_folder.note_evaluation(tmp_path, {"step": 4, "G_kid": 0.5}, None)
    assert run_folder.evaluation(tmp_path) == {"last": {"step": 4, "G_kid": 0.5}}
    best = {"step": 4, "G_kid": 0.5, "F_kid": 0.0}
    run_folder.note_evaluation(tmp_path, {"step": 6}, best)
    assert run_folder.evaluation(tmp_path) == {"last": {"step": 6}, "best": best}


@pytest.mark.parametrize(("run", "words"), [("runs/a", " runs/a"), ("a b", " 'a b'"), ("-x", "=-x"), ("\x1b[1m  é\n", " '\\x1b[1m  é\\n'")])
def test_the_command_that_continues_a_run_can_be_typed(run, words):
    assert run_folder.continue_command(Path(run)) == f"python train.py --load_model{words}"


# --- the data that a run was begun with


@pytest.fixture
def readers(tmp_path) -> dict[str, Reader]:
    files = {
        name: write_records(tmp_path / f"{name}.tfrecords", [draw(seed + i) for i in range(n)])
        for name, seed, n in (("X", 0, 3), ("Y", 9, 4))
    }
    return {name: Reader(file, 32, name=name) for name, file in files.items()}


def begun(tmp_path: Path, readers: dict[str, Reader]) -> Path:
    return new_run(tmp_path, "run", Config(), {name: reader.fingerprint for name, reader in readers.items()})


def test_the_same_data_are_accepted_wherever_they_lie(tmp_path, readers):
    run = begun(tmp_path, readers)
    assert data_contradictions(run, *readers.values()) == []
    moved = Path(readers["X"].file).rename(tmp_path / "moved")
    assert data_contradictions(run, Reader(moved, 32, name="X")) == []


def test_other_data_are_each_named_with_what_tells_them_apart(tmp_path, readers):
    run = begun(tmp_path, readers)
    swapped = [Reader(readers[other].file, 32, name=name) for name, other in ("XY", "YX")]
    wrong = data_contradictions(run, *swapped)
    assert [w.split(":")[0] for w in wrong] == [f"--{r.name} {r.file}" for r in swapped]
    assert "4 records" in wrong[0] and "(the run has 3 records" in wrong[0]


def test_pictures_of_other_lengths_are_other_data(tmp_path, readers):
    run = begun(tmp_path, readers)
    changed = write_records(tmp_path / "changed", [draw(i) for i in (0, 1, 5)])
    assert len(data_contradictions(run, Reader(changed, 32, name="X"))) == 1


def cut(file: str, by: int) -> str:
    os.truncate(file, os.path.getsize(file) - by)
    return file


def test_a_file_that_was_cut_off_since_counts_as_the_same_when_bad_records_are_skipped(tmp_path, readers):
    run = begun(tmp_path, readers)
    reader = Reader(cut(readers["Y"].file, 30), 32, name="Y", skip_bad_records=True)
    assert len(reader) == 3
    assert data_contradictions(run, reader) == []
    assert len(reader) == 4 and list(reader.bad) == [3]


def test_a_cut_file_of_more_records_is_another_one(tmp_path, readers):
    run = begun(tmp_path, readers)
    longer = write_records(tmp_path / "longer", [draw(i) for i in range(9)])
    assert len(data_contradictions(run, Reader(cut(str(longer), 30), 32, name="X", skip_bad_records=True))) == 1


@pytest.mark.parametrize("counts", [(2, 2), (1, 3), (1, 1, 1, 1)])
def test_the_same_records_are_the_same_data_in_however_many_files_they_lie(tmp_path, readers, counts):
    run = begun(tmp_path, readers)
    Y = Reader(divide(Path(readers["Y"].file), tmp_path / "y", *counts), 32, name="Y")
    assert data_contradictions(run, Y) == []
    other = begun(tmp_path / "other", {"Y": Y})
    assert data_contradictions(other, readers["Y"]) == []
    assert len(data_contradictions(other, Reader(shards.find(Y.file)[::-1], 32, name="Y"))) == 1


def test_what_is_left_of_a_shard_counts_as_the_same_if_the_others_are(tmp_path):
    file = write_records(tmp_path / "y", [draw(i) for i in range(6)])
    spec = divide(file, tmp_path / "y.tfrecords", 2, 2, 2)
    run = begun(tmp_path, {"Y": Reader(spec, 32, name="Y")})
    cut(shards.find(spec)[1], 30)
    Y = Reader(spec, 32, name="Y", skip_bad_records=True)
    assert data_contradictions(run, Y) == []
    assert len(Y) == 6 and list(Y.bad) == [3]

    write_records(Path(shards.find(spec)[2]), [draw(i) for i in (5, 4)])
    assert len(data_contradictions(run, Reader(spec, 32, name="Y", skip_bad_records=True))) == 1
    two = shards.find(spec)[:2]
    assert len(data_contradictions(run, Reader(two, 32, name="Y", skip_bad_records=True))) == 1


def test_a_worker_answers_for_its_own_shards(tmp_path):
    def share(worker: int) -> Reader:
        return Reader(spec, 32, name="Y", skip_bad_records=True, share=(worker, 2))

    spec = divide(write_records(tmp_path / "y", [draw(i) for i in range(6)]), tmp_path / "y.tfrecords", 2, 1, 2, 1)
    parts = [[shard.fingerprint for shard in share(worker).shards] for worker in (0, 1)]
    whole = fingerprints.joined([part for pair in zip(*parts, strict=True) for part in pair])
    assert whole["records"] == 6 and [part["records"] for part in whole["shards"]] == [2, 1, 2, 1]
    run = new_run(tmp_path, "run", Config(), {"Y": whole})
    assert data_contradictions(run, share(0)) == data_contradictions(run, share(1)) == []
    cut(shards.find(spec)[2], 30)
    assert data_contradictions(run, share(0)) == data_contradictions(run, share(1)) == []
    write_records(Path(shards.find(spec)[2]), [draw(i) for i in (5, 4)])
    assert len(data_contradictions(run, share(0))) == 1 and data_contradictions(run, share(1)) == []


FINGERPRINT = '{"records": 1, "bytes": 2, "headers": "ab"'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        ("", "is empty"),
        ("{", "no valid JSON in line 1, column 2"),
        ("[]", r"\[\] instead of names with values"),
        ("{}", "X null tells no data"),
        ('{"X": 5}', "X 5 tells no data"),
        ('{"X": {}}', "X {} tells no data"),
        ('{"X": {"shards": 5}}', 'X {"shards": 5} tells no data'),
        (f'{{"X": {FINGERPRINT.replace("1", "true")}}}}}', "X .* tells no data"),
        (f'{{"X": {FINGERPRINT.replace("1", "NaN")}}}}}', "X .* tells no data"),
        (f'{{"X": {FINGERPRINT}, "shards": {{}}}}}}', "X .* tells no data"),
        (f'{{"X": {FINGERPRINT}, "shards": [null]}}}}', "X .* tells no data"),
        (f'{{"X": {FINGERPRINT}, "shards": [{FINGERPRINT.replace("ab", "")}, "bytes": []}}]}}}}', "X .* tells no data"),
    ],
)
def test_a_run_that_does_not_know_its_data_is_refused(tmp_path, readers, content, words):
    run = begun(tmp_path, readers)
    (run / "data.json").unlink()
    if content is not None:
        (run / "data.json").write_text(content)
    remedy = f", or begin a new run with this one's networks: --init_from {run}"
    with pytest.raises(InputError, match=f"^{run}/data.json: {words}; .*{remedy}$"):
        data_contradictions(run, *readers.values())
