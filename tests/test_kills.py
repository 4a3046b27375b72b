"""The short version of kills.py: a real process killed in a save and at a random moment."""

import pytest
from conftest import TINY_RUN
from kills import compare, disturb, train


@pytest.mark.long
def test_a_killed_run_ends_as_if_nothing_had_happened(records, tmp_path):
    flags = [*records, *TINY_RUN, "--save_every", 1]
    assert train(tmp_path, *flags, "--run_name", "whole").wait() == 0
    tally = disturb(tmp_path, flags, kills=2, while_saving=1, longest=5)
    assert tally.kills >= 2 and tally.while_saving >= 1
    assert compare(tmp_path / "checkpoints" / "whole", tmp_path / "checkpoints" / "cut", 6, every=2) == []
