"""Self-contained HTML pages: escaped text, images as data URIs, and a policy that forbids every request."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
STYLE = Path(__file__).with_name("page.css")


@dataclass(frozen=True)
class Html:
    """A cell whose source was escaped already, or is our own."""

    source: str


def page(title: str, body: str, *, script: str = "") -> str:
    """A whole HTML document.

    Args:
        title: plain text.
        body: HTML whose data went through `text`, `picture` or `table`.
        script: our own JavaScript, without data in it.
    """
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<link rel="icon" href="data:,"><title>{text(title)}</title><style>{STYLE.read_text()}</style>'
    )
    end = f"<script>{script}</script>" if script else ""
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n{end}</body></html>\n'


def text(value: object) -> str:
    """Any value as escaped text, for element content and for quoted attributes."""
    return html.escape(str(value), quote=True)


def picture(image: Image.Image, alt: str, *, side: int = 256) -> str:
    """An `<img>` with the image inside it, at most `side` pixels a side.

    Small images stay lossless and are shown with hard pixels; flat drawings stay lossless where that costs little.
    """
    small = image.convert("RGB")
    small.thumbnail((side, side))
    png, jpeg = _bytes(small, "PNG"), _bytes(small, "JPEG")
    tiny = max(image.size) <= 96
    lossless = tiny or len(png) < 1.5 * len(jpeg)
    data = base64.b64encode(png if lossless else jpeg).decode()
    kind = "png" if lossless else "jpeg"
    style = ' class="pixels"' if tiny else ""
    return (
        f'<img{style} src="data:image/{kind};base64,{data}" alt="{text(alt)}" title="{text(alt)}" '
        f'width="{small.width}" height="{small.height}" loading="lazy">'
    )


def _bytes(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 88} if kind == "JPEG" else {"optimize": True}))
    return buffer.getvalue()


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table of escaped cells; cells that are `Html` stay as they are. An empty head is left out."""
    top = "".join(f"<th>{text(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    header = f"<thead><tr>{top}</tr></thead>\n" if any(head) else ""
    return f'<div class="wide"><table>{header}<tbody>{body}</tbody></table></div>'


def _cell(value: object) -> str:
    return value.source if isinstance(value, Html) else text(value)
