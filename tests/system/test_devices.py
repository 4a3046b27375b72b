"""A quiet start of TensorFlow, and the number types of devices."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from system import cli, devices

ROOT = Path(__file__).parents[2]


def test_quiet_tensorflow_says_nothing():
    command = [sys.executable, "-c", "from system import devices; devices.quiet_tensorflow(); import keras"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_was_held_back_comes_out_when_it_matters(capfd):
    with devices.silent_stderr():
        os.write(2, b"chatter\n")
    with pytest.raises(ImportError), devices.silent_stderr():
        os.write(2, b"the reason\n")
        raise ImportError
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "the reason\nafter\n"


def test_who_stops_the_start_is_not_told_what_was_held_back(capfd):
    for stop in (KeyboardInterrupt, cli.Terminated):
        with pytest.raises(stop), devices.silent_stderr():
            os.write(2, b"chatter\n")
            raise stop
    assert capfd.readouterr().err == ""


# --- number types


@pytest.mark.parametrize(
    ("flags", "precision"),
    [("fpu avx512_bf16 amx", "bfloat16"), ("amx_bf16", "bfloat16"), ("fpu avx512f avx2", "float32"), (None, "float32")],
)
def test_a_cpu_has_bfloat16_or_not(tmp_path, monkeypatch, flags, precision):
    cpu = tmp_path / "cpuinfo"
    if flags:  # other systems have no such file
        cpu.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: spectre_v1\n")
    monkeypatch.setattr(devices, "Path", lambda path: cpu)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert devices.native_precision() == precision


@pytest.mark.parametrize(
    ("generations", "precision"),
    [
        ([(8, 0)], "bfloat16"),
        ([(12, 0), (9, 0)], "bfloat16"),
        ([(7, 5)], "float32"),  # it has float16, but that is for who asks for it
        ([(6, 1)], "float32"),
        ([(8, 0), (7, 0)], "float32"),  # what all of them can
        ([(8, 0), None], "float32"),  # AMD's say nothing
    ],
)
def test_the_oldest_gpu_decides(monkeypatch, generations, precision):
    details = [{"compute_capability": g} if g else {} for g in generations]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: range(len(details)))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details[gpu])
    assert devices.native_precision() == precision


@pytest.mark.parametrize(("processors", "threads"), [(1, "1"), (2, "1"), (8, "4"), (None, "1")])
def test_each_translation_gets_half_of_the_processors(monkeypatch, processors, threads):
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    devices.share_threads()
    assert os.environ == {"TF_NUM_INTRAOP_THREADS": threads}


def test_a_number_of_threads_that_is_set_stays(monkeypatch):
    monkeypatch.setattr(os, "environ", {"TF_NUM_INTRAOP_THREADS": "3"})
    devices.share_threads()
    assert os.environ == {"TF_NUM_INTRAOP_THREADS": "3"}
