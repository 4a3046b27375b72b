"""JSON files that people may have changed."""

import json
from typing import Any

from system import storage
from system.cli import InputError
from system.storage import AnyPath

MOST = 1 << 26  # bytes; the longest, data.json, has a hundred for each shard


def read(file: AnyPath) -> dict[str, Any]:
    """Reads names and their values from a JSON file. Raises `InputError` that says what is wrong with it."""
    if file.is_dir() or not file.exists():
        raise InputError(f"{file}: {'is a folder' if file.is_dir() else 'no such file'}; bring the file back")
    try:
        if storage.size(file) > MOST:
            raise InputError(f"{file}: {storage.size(file):,} bytes, so it is no file of this program; bring that back")
        text = storage.read(file).decode("utf-8-sig")  # some editors put a mark before the text
        if not text.strip():
            raise InputError(f"{file}: is empty; bring a copy back")
        found = json.loads(text)
    except json.JSONDecodeError as e:
        raise InputError(f"{file}: no valid JSON in line {e.lineno}, column {e.colno}; mend it, or bring a copy back") from None
    except (ValueError, RecursionError) as e:  # no text; numbers of thousands of digits; thousands of lists in one another
        raise e if isinstance(e, InputError) else InputError(f"{file}: no valid JSON; bring a copy back") from None
    if not isinstance(found, dict):
        raise InputError(f"{file}: {shown(found)} instead of names with values; bring a copy back")
    return found


def shown(value: Any) -> str:
    """A value of a JSON file as it stands there; one that is long is cut."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"
