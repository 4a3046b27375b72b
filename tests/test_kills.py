"""The short version of kills.py: a real process killed in a save and at a random moment."""

import pytest
from conftest import TINY_RUN
from kills import compare, disturb


@pytest.mark.long
def test_a_killed_run_ends_as_if_nothing_had_happened(trained_run, records, tmp_path):
    tally = disturb(tmp_path, [*records, *TINY_RUN, "--save_every", 1], kills=2, while_saving=1, longest=5)
    assert tally.kills >= 2 and tally.while_saving >= 1
    assert compare(trained_run, tmp_path / "checkpoints" / "cut", 6, every=2) == []
