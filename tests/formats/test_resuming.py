"""A picture is made anew if what it says of how it was made, or the state of its file, is not what a new one would be."""

import os
import time
from pathlib import Path

import pytest
from conftest import draw
from PIL import Image

from formats import resuming
from formats.resuming import DAY
from formats.translation import PIPE, Job
from pictures import images
from system.storage import RemotePath

NOTE = "cyclegan model=0123456789abcdef quality=80"
BACK = f"{NOTE} back=fedcba9876543210"


@pytest.fixture
def job(tmp_path) -> Job:
    """A picture that was translated, and back, by what `NOTE` and `BACK` say."""
    return translated(tmp_path)


def translated(folder: Path | RemotePath) -> Job:
    source, outputs = folder / "a.png", [folder / "out" / "a.jpg", folder / "out" / "a_back.jpg"]
    images.write(source, draw(0))
    for file, note in zip(outputs, (NOTE, BACK), strict=True):
        images.write(file, draw(1), note=f"{note} source={source.stat().st_size}")
    return Job(source, "a.png", outputs)


def shift(file: Path, seconds: float) -> None:
    os.utime(file, (time.time() + seconds,) * 2)


def remaining(job: Job, *notes: str) -> tuple[str | None, list]:
    """Why it is made anew, None if it is not; and what stays without a note."""
    jobs, silent = resuming.remaining([job], list(notes or (NOTE, BACK)))
    return (job.anew if jobs else None), silent


def test_what_would_be_made_as_it_is_stays(job):
    assert remaining(job) == (None, [])


def test_remote_pictures_stay_and_are_made_anew_too():
    job = translated(RemotePath("ram://resuming"))
    assert remaining(job) == (None, [])
    assert remaining(job, NOTE, f"{BACK} keep_size") == ("with other settings", [])
    job.outputs[1].unlink()
    job.outputs[1].write_bytes(b"")
    assert remaining(job) == ("empty", [])
    job.outputs[1].unlink()
    assert remaining(job) == ("half of a pair", [])


@pytest.mark.parametrize(
    ("notes", "reason"),
    [
        ([NOTE.replace("0", "1"), BACK.replace("model=0", "model=1")], "by another model"),
        ([NOTE, BACK.replace("back=f", "back=0")], "by another model"),
        ([NOTE, NOTE], "by another model"),
        ([NOTE.replace("80", "90"), BACK.replace("80", "90")], "with other settings"),
        ([f"{NOTE} keep_size", f"{BACK} keep_size"], "with other settings"),
        ([NOTE.replace(" quality=80", ""), BACK.replace(" quality=80", "")], "with other settings"),
    ],
)
def test_another_model_and_other_settings_make_it_anew(job, notes, reason):
    assert remaining(job, *notes) == (reason, [])


def test_an_empty_output_is_made_anew_with_its_pair(job):
    job.outputs[1].write_bytes(b"")
    assert remaining(job) == ("empty", [])


def test_half_of_a_pair_is_made_anew_and_what_is_missing_is_made(job):
    job.outputs[0].unlink()
    assert remaining(job) == ("half of a pair", [])
    job.outputs[1].unlink()
    assert remaining(job) == ("", [])
    job.outputs[0].symlink_to("nowhere")
    assert remaining(job) == ("", [])


@pytest.mark.parametrize(
    ("source", "output", "reason"),
    [
        (-10, -9, None),
        (-9, -10, "older than the input"),
        (DAY / 2, 0, "older than the input"),  # clocks of machines differ
        (DAY * 2, 0, None),  # it would be, each time
        (DAY * 2, -DAY, None),
    ],
)
def test_what_is_older_than_its_input_is_made_anew(job, source, output, reason):
    shift(job.source, source)
    shift(job.outputs[0], output)
    assert remaining(job) == (reason, [])


@pytest.mark.filterwarnings("ignore::UserWarning")  # pytest undoes the filter of ours
@pytest.mark.parametrize("suffix", images.FORMATS)
@pytest.mark.parametrize("kept", [None, images.metadata.Metadata({0x010F: "a camera"}, b"", None)])
def test_what_lost_its_end_is_made_anew_and_what_got_one_more_is_not(job, suffix, kept):
    file = job.source.parent / f"b{suffix}"
    images.write(file, draw(1, 64, 64), kept=kept, note=f"{NOTE} source={job.source.stat().st_size}")
    whole, job.outputs = file.read_bytes(), [file]
    for data in (whole, whole + b"of another program"):
        file.write_bytes(data)
        assert remaining(job, NOTE) == (None, [])
    for length in (len(whole) * 3 // 4, len(whole) - 12):
        file.write_bytes(whole[:length])
        # Where the end says what made it, too, nothing does.
        assert remaining(job, NOTE) in [("cut off", [])] + [(None, [file])] * (suffix in (".webp", ".tif", ".tiff"))


def test_an_input_of_another_length_is_another(job):
    job.source.write_bytes(job.source.read_bytes() + b"more")
    shift(job.source, -10)
    assert remaining(job) == ("of another input", [])


def test_of_a_pipe_neither_age_nor_length_is_known(job):
    job.source = PIPE
    assert remaining(job) == (None, [])
    assert remaining(job, NOTE, f"{BACK} keep_size") == ("with other settings", [])
    assert remaining(Job(PIPE, "-", [PIPE])) == ("", [])


@pytest.mark.parametrize("note", ["", "GIMP 3.0", "cyclegans"])
def test_pictures_of_other_programs_stay_and_are_told(job, note):
    for file in job.outputs:
        images.write(file, draw(2), note=note)
    assert remaining(job) == (None, job.outputs[:1])
    shift(job.outputs[1], -10)
    assert remaining(job) == ("older than the input", [])


@pytest.mark.filterwarnings("ignore::UserWarning")  # pytest undoes the filter of ours
@pytest.mark.parametrize("data", [b"no picture", b"\xff\xd8\xff\xfe\x00", b"\x89PNG\r\n\x1a\n", b"II*\0\xff\xff\xff\xff", b"RIFF"])
def test_what_cannot_be_read_tells_nothing(job, data):
    job.outputs[0].write_bytes(data)
    assert remaining(job) == (None, job.outputs[:1])


def test_another_programs_tag_need_not_be_text(job):
    tags = Image.Exif()
    tags[11] = 5  # where a note would be
    for suffix in (".tif", ".webp"):
        job.outputs = [job.source.with_suffix(suffix)]
        Image.fromarray(draw(0)).save(job.outputs[0], exif=tags)
        assert remaining(job, NOTE) == (None, job.outputs)


def test_an_input_that_is_gone_is_left_to_whoever_reads_it(job):
    job.source.unlink()
    assert remaining(job)[0] is not None
