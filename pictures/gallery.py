"""A web page of pictures in one file, which contains the pictures."""

import base64
from collections.abc import Sequence
from html import escape

import numpy as np

from pictures import cutouts, images

SIDE = 256  # pixels, of the longer side

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
  :root {{ color-scheme: light dark; }}
  body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: {width}px; padding: 0 1rem; }}
  h1 {{ font-size: 1.3rem; margin: 0 0 .2rem; }}
  p {{ margin: 0 0 1.5rem; opacity: .7; }}
  table {{ border-collapse: collapse; width: min-content; }}
  th {{ font-weight: 600; text-align: left; vertical-align: bottom; padding: 0 .5rem .5rem 0; }}
  td {{ padding: 0 .5rem .9rem 0; vertical-align: top; }}
  img {{ display: block; max-width: calc((100vw - 2rem) / {n} - .5rem); height: auto; }}
  .name {{ font-size: .85rem; opacity: .7; padding: .1rem 0 .2rem; overflow-wrap: anywhere; }}
</style>
<h1>{title}</h1>
<p>{note}</p>
<table>
<tr>{head}</tr>
{rows}
</table>
</html>
"""


def thumbnail(picture: np.ndarray, alpha: np.ndarray | None = None) -> bytes:
    """uint8 (H, W, 3) → a JPEG file of at most `SIDE` pixels, on white where `alpha`, uint8 (H, W), says so."""
    scale = min(1, SIDE / max(picture.shape[:2]))
    smaller, alpha = cutouts.resize(picture, alpha, *(max(1, round(side * scale)) for side in picture.shape[:2]))
    return images.encode(smaller, ".jpg", alpha)


def page(title: str, note: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[bytes]]]) -> str:
    """Returns the page as HTML: a row for each (name, JPEG files), one file a column."""

    def cell(words: str, file: bytes) -> str:
        return f'<td><img loading="lazy" alt="{escape(words)}" src="data:image/jpeg;base64,{base64.b64encode(file).decode()}"></td>'

    def row(name: str, files: Sequence[bytes]) -> str:
        cells = "".join(cell(f"{column}: {name}", file) for column, file in zip(columns, files, strict=False))
        return f'<tr><td class="name" colspan="{len(columns)}">{escape(name)}</td></tr>\n<tr>{cells}</tr>'

    n, title, note = len(columns), escape(title), escape(note)
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "\n".join(row(name, files) for name, files in rows)
    return PAGE.format(title=title, note=note, width=(SIDE + 12) * n + 32, n=n, head=head, rows=body)
