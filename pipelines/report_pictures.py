"""Samples in a report: base and tuned side by side, and the same prompts along training."""

from __future__ import annotations

from mmpo.data.images import decode
from pipelines.grid import cells, tiles
from pipelines.page import picture, text
from pipelines.report_numbers import spread
from pipelines.report_run import RunFiles

MAX_STEPS, MAX_PROMPTS = 8, 8


def base_and_tuned(run: RunFiles) -> str:
    """A figure a prompt with its base and its tuned sample, as HTML; "" without an evaluation's sheet.

    Raises:
        ValueError: the sheet cannot be read.
    """
    if run.grid is None:
        return ""
    grid = (run.evaluation or {}).get("grid")
    if not grid:  # an evaluation of an earlier version: the sheet is there, its prompts are not
        sheet = decode(run.grid.read_bytes())
        whole = picture(sheet, "base in the upper row, tuned below it", side=1600)
        return (
            f'<div class="wide">{whole}</div><p class="soft">The base in the upper row, the tuned model below it.</p>'
        )
    figures = []
    for prompt, base, tuned in tiles(run.grid.read_bytes(), grid):
        halves = [
            f"<div>{picture(image, f'{name}: {prompt}')}<span>{name}</span></div>"
            for name, image in (("base", base), ("tuned", tuned))
        ]
        caption = f'<figcaption title="{text(prompt)}">{text(prompt)}</figcaption>'
        figures.append(f'<figure><div class="two">{"".join(halves)}</div>{caption}</figure>')
    return f'<div class="pairs">{"".join(figures)}</div>'


def along_training(run: RunFiles, faults: list[str]) -> str:
    """Rows of steps, columns of prompts, as HTML; "" without previews.

    Args:
        faults: is told of strips that cannot be read.
    """
    prompts = [str(prompt) for prompt in (run.previews or {}).get("prompts", [])]
    if not prompts or not run.strips:
        return ""
    columns = min(len(prompts), MAX_PROMPTS)
    side = 192 if columns <= 4 else 128
    rows = []
    for place in spread(len(run.strips), MAX_STEPS):
        step, file = run.strips[place]
        try:
            images = cells(file.read_bytes(), len(prompts))[:columns]
        except ValueError as error:
            faults.append(f"{file.parent.name}/{file.name}: {error}")
            continue
        name = "untuned" if step == 0 else f"step {step:,}"
        pictures = "".join(
            picture(image, f"{name}: {prompt}", side=side) for image, prompt in zip(images, prompts, strict=False)
        )
        rows.append(f'<div class="step">{name}</div>{pictures}')
    if not rows:
        return ""
    heads = "".join(f'<div class="head" title="{text(prompt)}">{text(prompt)}</div>' for prompt in prompts[:columns])
    widths = f"grid-template-columns: auto repeat({columns}, {side * 0.75:.0f}px)"
    left = len(prompts) - columns
    more = f'<p class="soft">{left} more prompts are in the folder samples.</p>' if left else ""
    return f'<div class="wide"><div class="strips" style="{widths}"><div></div>{heads}{"".join(rows)}</div></div>{more}'
