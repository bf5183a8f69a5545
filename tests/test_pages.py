"""The pages in a real browser, where there is one: no console error, no request, markup shown as text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import command_line
import pytest
import tiny
from browsers import needs_browser
from command_line import Main
from synth_lists import make_lists, recipe_of, told_of

from mmpo.data.rows import pair_row, pair_schema
from mmpo.data.shards import write_shard
from mmpo.recipe_files import validate
from mmpo.records import Group, Prompt
from pipelines.report import write_report
from pipelines.synth_pages import write_pages
from pipelines.train import train

main = command_line.main

SCRIPT = Path(__file__).parent.parent / "scripts" / "check_pages.py"
MARKUP = "<script>alert(1)</script>"

pytestmark = needs_browser


def check(*pages: Path, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, pages), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture
def marked_pairs(tmp_path: Path) -> Path:
    """Pairs whose captions are markup."""
    groups = [Group(g.id, Prompt(f"{MARKUP} {g.prompt.text}"), g.candidates, rank=[1, 2]) for g in tiny.make_groups(40)]
    write_shard(tmp_path / "pairs", 0, [pair_row(group) for group in groups], pair_schema())
    return tmp_path / "pairs"


def test_the_inspect_page(main: Main, marked_pairs: Path, tmp_path: Path) -> None:
    page = tmp_path / "inspect.html"
    assert main("data", "inspect", marked_pairs, "--rows", 40, "--resolution", 32, "--output", page).code == 0
    assert MARKUP not in page.read_text()
    result = check(page, options=("--every-look",))
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("0 faults") == 3


def test_the_report(sd_folder: Path, marked_pairs: Path, tmp_path: Path) -> None:
    tree = tiny.recipe_tree(sd_folder, marked_pairs, tmp_path / "run", train__steps=3)
    tree["evaluation"] |= {"previews": {"count": 2}, "sampling": {"steps": 2}}
    page = write_report(train(validate(tree)))
    assert MARKUP not in page.read_text()
    assert "&lt;script&gt;alert(1)" in page.read_text()
    result = check(page, options=("--every-look",))
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("0 faults") == 3


def test_the_report_of_a_synthesis(tmp_path: Path) -> None:
    make_lists(tmp_path / "lists", side=64)
    write_pages(tmp_path / "lists", told_of(recipe_of(tmp_path / "lists")))
    page = tmp_path / "lists" / "report.html"
    assert "&lt;script&gt;alert(1)" in page.read_text()
    result = check(page, options=("--every-look",))
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("0 faults") == 3


def test_the_check_itself_finds_faults(tmp_path: Path) -> None:
    """A page that asks the network for a picture, one with a script error, and one too wide for the narrow look."""
    (tmp_path / "asks.html").write_text('<img src="http://127.0.0.1:9/x.png" alt="">')
    (tmp_path / "fails.html").write_text("<script>undefined_function()</script>")
    (tmp_path / "wide.html").write_text("<div style='width: 600px'>wide</div>")
    result = check(*(tmp_path / f"{name}.html" for name in ("asks", "fails", "wide")), options=("--every-look",))
    assert result.returncode == 1
    assert result.stderr.count("request to http://127.0.0.1:9/x.png") == 3
    assert result.stderr.count("page error: ") == 3
    assert result.stderr.count("scrolls sideways") == 1
