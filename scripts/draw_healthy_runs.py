"""The plots, sample strips and table of docs/healthy-runs.md, from the runs of bench_healthy_runs.py.

python scripts/draw_healthy_runs.py [--folder runs/healthy-runs] [--to docs/healthy-runs]
"""

from __future__ import annotations

import argparse
import json
import re
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from bench_healthy_runs import VARIANTS
from PIL import Image

from mmpo.data.images import encode
from mmpo.training.metrics import read_metrics
from pipelines.charts import Axis, Line, chart
from pipelines.page import STYLE

STYLE_LIGHT = ".title { font: 600 13px system-ui, sans-serif; fill: #1c1e21 !important; }"
PANEL, GAP, HEAD = (330, 180), 14, 40
SCALE = 2


def panels(lines: list[dict[str, Any]]) -> list[tuple[str, list[tuple[str, int]], str]]:
    """(title, legend, figure) of the three charts of a run."""
    train = [line for line in lines if "loss" in line]
    held = [line for line in lines if "eval/accuracy" in line]
    band = [(x["step"], x["eval/accuracy_low"], x["eval/accuracy_high"]) for x in held]
    accuracy = Line("accuracy", [(x["step"], x["eval/accuracy"]) for x in held], 1, band=band)
    rises = [
        Line(name, [(x["step"], x[f"eval/{name}_error_vs_reference"] / base_error(train)) for x in held], color)
        for name, color in (("chosen", 1), ("rejected", 2))
    ]
    steps = [(x["step"], x["loss"]) for x in train]
    loss = Line("loss", smoothed(steps), 1, raw=steps)
    coin = Axis(low=0, high=1, level=0.5, level_name="a coin")
    return [
        ("Held-out preference accuracy", [], chart("accuracy", [accuracy], axis=coin)),
        ("Error above the reference (1 = twice its own)", [("chosen", 1), ("rejected", 2)], chart("error", rises)),
        ("Training loss", [], chart("loss", [loss], axis=Axis(level=float(np.log(2)), level_name="ln 2"))),
    ]


def base_error(train: list[dict[str, Any]]) -> float:
    """The reference's squared error of the chosen images, from the training steps: the policy's less its difference."""
    return float(np.mean([line["errors/chosen"] - line["errors/chosen_vs_reference"] for line in train]))


def smoothed(points: list[tuple[float, float]], width: int = 15) -> list[tuple[float, float]]:
    """A running mean over `width` steps."""
    values = np.array([value for _, value in points])
    kernel = np.ones(width) / width
    means = np.convolve(values, kernel, mode="valid")
    return [(points[index + width // 2][0], float(mean)) for index, mean in enumerate(means)]


def figure(run: Path) -> str:
    """One standalone SVG: three charts side by side on white."""
    width = 3 * PANEL[0] + 4 * GAP
    css = re.sub(r"@media \(prefers-color-scheme: dark\) \{.*?\} \}", "", STYLE.read_text(), flags=re.DOTALL)
    white = '<rect width="100%" height="100%" fill="#fff"/>'
    parts = [f"<style>{escape(css, quote=False)}{STYLE_LIGHT}</style>", white]
    for number, (title, legend, html) in enumerate(panels(read_metrics(run))):
        left = GAP + number * (PANEL[0] + GAP)
        found = re.search(r'<svg viewBox="([^"]+)"[^>]*>(.*)</svg>', html, re.DOTALL)
        assert found, title
        parts.append(f'<text class="title" x="{left}" y="18">{escape(title)}</text>')
        for index, (name, color) in enumerate(legend):
            parts.append(
                f'<circle class="dot c{color}" cx="{left + 6 + 80 * index}" cy="32" r="4"/>'
                f'<text x="{left + 14 + 80 * index}" y="36">{name}</text>'
            )
        parts.append(
            f'<svg x="{left}" y="{HEAD}" width="{PANEL[0]}" height="{PANEL[1]}" viewBox="{found[1]}">{found[2]}</svg>'
        )
    height = HEAD + PANEL[1] + GAP
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(parts)}</svg>\n'


def strips(run: Path) -> bytes:
    """The samples of the first, a middle and the last step, one row each."""
    files = sorted((run / "samples").glob("step-*.png"))
    rows = [Image.open(file).convert("RGB") for file in (files[0], files[len(files) // 2], files[-1])]
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows) + 2 * (len(rows) - 1)), "white")
    for number, row in enumerate(rows):
        sheet.paste(row, (0, number * (row.height + 2)))
    return encode(sheet.resize((sheet.width * SCALE, sheet.height * SCALE), Image.Resampling.NEAREST))


def table_row(name: str, run: Path) -> str:
    """One line of the Markdown table."""
    held = [line for line in read_metrics(run) if "eval/accuracy" in line][-1]
    train = [line for line in read_metrics(run) if "loss" in line]
    score = json.loads((run / "evaluation.json").read_text())["measures"]["shapes"]
    rise = held["eval/chosen_error_vs_reference"] / base_error(train)
    loss = np.mean([line["loss"] for line in train[-20:]])
    return (
        f"| {VARIANTS[name][0]} | {loss:.3g} | {held['eval/accuracy']:.2f} [{held['eval/accuracy_low']:.2f}, "
        f"{held['eval/accuracy_high']:.2f}] | {rise:+.0%} | {held['eval/saturated']:.0%} | "
        f"{score['base']:.3f} → {score['tuned']:.3f} | {score['difference']:+.3f} "
        f"[{score['low']:+.3f}, {score['high']:+.3f}] |"
    )


def main() -> None:
    """Writes NAME.svg and NAME.png for each run, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/healthy-runs"))
    parser.add_argument("--to", type=Path, default=Path("docs/healthy-runs"))
    options = parser.parse_args()
    options.to.mkdir(parents=True, exist_ok=True)
    print("| run | loss | held-out accuracy | chosen error | saturated | verified accuracy | difference [95 %] |")
    print("|---|---|---|---|---|---|---|")
    for name in VARIANTS:
        run = options.folder / name
        (options.to / f"{name}.svg").write_text(figure(run), encoding="utf-8")
        (options.to / f"{name}.png").write_bytes(strips(run))
        print(table_row(name, run))


if __name__ == "__main__":
    main()
