"""A run: its settings, its loop, and what it keeps. Networks and data are handed in."""
