"""`mmpo rewards`: every reward of the table with what a user must know of it, and those of other packages."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import command_line
import pytest
from command_line import Main, assert_refused

import rewards
from pipelines.reward_listing import reward_lines, rewards_lines
from pipelines.text_columns import WIDTH
from rewards.table import REWARD_TABLE

main = command_line.main


def words(name: str) -> str:
    """One reward in full, its lines joined as if they had never been wrapped."""
    return " ".join(" ".join(reward_lines(name)).split())


def test_the_table_has_every_reward_in_lines_of_a_terminal() -> None:
    lines = list(rewards_lines())
    assert max(map(len, lines)) <= WIDTH
    starts = [line.split()[0] for line in lines[1 : lines.index("")] if not line.startswith(" ")]
    assert starts == list(REWARD_TABLE)
    text = " ".join(lines)
    assert "HPS_v2.1_compressed.pt" in text
    assert lines[-1].startswith("next: mmpo rewards NAME")


@pytest.mark.parametrize("name", REWARD_TABLE)
def test_one_reward_in_full(name: str) -> None:
    entry, text = REWARD_TABLE[name], words(name)
    assert max(map(len, reward_lines(name))) <= WIDTH
    assert text.startswith(f"{name}: {entry.title} ")
    for head, said in (
        ("range", entry.range),
        ("preprocessing", entry.preprocessing),
        ("weights", entry.weights or "none"),
        ("licence", entry.licence),
        ("paper", entry.paper),
        ("not verified", entry.unverified),
    ):
        assert (f"{head}: {' '.join(said.split())}" in text) == bool(said)
    for option, meaning in entry.options.items():
        assert f" {option} {' '.join(meaning.split())}" in text
    assert ("options: none" in text) == (not entry.options)
    assert ("a text answer to a question" in text) == ("response" in entry.takes)
    assert text.endswith(f"next: mmpo label DATASET --reward {name} --output DIR")


def test_other_packages_rewards_are_shown_by_what_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("sharpness", "my_package.sharpness:Sharpness", rewards.GROUP)]
    monkeypatch.setattr(rewards, "entry_points", lambda group: points)
    row = next(line for line in rewards_lines() if line.startswith("sharpness "))
    assert "of another package: " in row
    assert "my_package.sharpness:Sharpness" in "".join("".join(rewards_lines()).split())
    assert words("sharpness").startswith("sharpness: of another package, my_package.sharpness:Sharpness; ")


def test_the_command(main: Main) -> None:
    assert main("rewards").out.startswith("reward ")
    assert main("rewards", "clip").out.startswith("clip: how well image and text fit, by any CLIP")
    assert_refused(main("rewards", "pickscor"), "reward: unknown name 'pickscor'; did you mean 'pickscore'?")
