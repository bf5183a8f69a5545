"""Opens HTML files in a headless Chromium and fails on any error, request or sideways scrolling.

    python scripts/check_pages.py FILE... [--width 400] [--dark] [--every-look] [--screenshot OUT.png]

Needs playwright and a Chromium on the path; without either it says so and exits with 3.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def open_page(browser: Any, file: Path, width: int, scheme: str, screenshot: str | None) -> list[str]:
    """Faults of one page; prints how long it took to load and how high it is."""
    address = file.resolve().as_uri()
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    faults: list[str] = []

    def request(sent: Any) -> None:
        if sent.url != address and not sent.url.startswith("data:"):
            faults.append(f"request to {sent.url}")

    def console(message: Any) -> None:
        if message.type in ("error", "warning"):
            faults.append(f"console {message.type}: {message.text}")

    page.on("request", request)
    page.on("console", console)
    page.on("pageerror", lambda error: faults.append(f"page error: {error}"))
    began = time.monotonic()
    page.goto(address, wait_until="load")
    took = time.monotonic() - began
    height, across = page.evaluate("[document.documentElement.scrollHeight, document.documentElement.scrollWidth]")
    if across > width:
        faults.append(f"scrolls sideways: {across} pixels in a window of {width}")
    broken = page.evaluate("[...document.images].filter(i => i.complete && !i.naturalWidth && i.src).length")
    if broken:
        faults.append(f"{broken} images do not show")
    size = file.stat().st_size / 2**20
    print(f"{file}: {took:.2f} s, {size:.2f} MiB, {width}x{height} pixels, {scheme}, {len(faults)} faults")
    if screenshot:
        page.evaluate("Promise.all([...document.images].map(i => (i.loading = 'eager', i.decode().catch(() => {}))))")
        page.screenshot(path=screenshot, full_page=True)
    page.close()
    return faults


def main() -> int:
    """0 when no page has a fault, 1 when one has, 3 without a browser."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--width", type=int, default=1280, help="of the window, in pixels")
    parser.add_argument("--dark", action="store_true", help="ask for the dark style")
    parser.add_argument("--every-look", action="store_true", help="light, in a window of 400 pixels, and dark, in turn")
    parser.add_argument("--screenshot", metavar="OUT.png", help="of the whole (last) page")
    options = parser.parse_args()
    absent = [file for file in options.files if not file.is_file()]
    if absent:
        parser.error(f"no such file: {absent[0]}")
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("playwright is not installed", file=sys.stderr)
        return 3
    if chromium is None:
        print(f"no browser on the path; looked for {', '.join(BROWSERS)}", file=sys.stderr)
        return 3
    looks = [(options.width, "dark" if options.dark else "light")]
    if options.every_look:
        looks = [(options.width, "light"), (400, "light"), (options.width, "dark")]
    bad = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for file, (width, scheme) in product(options.files, looks):
            for fault in open_page(browser, file, width, scheme, options.screenshot):
                print(f"  {fault}", file=sys.stderr)
                bad += 1
        browser.close()
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
