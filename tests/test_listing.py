"""`mmpo losses`: every loss of the table with what a user must know of it."""

from __future__ import annotations

from types import MappingProxyType

from mmpo.beta import CONVENTIONS
from mmpo.loss_table import LOSS_TABLE, LossEntry, Option
from pipelines.listing import losses_lines


def test_every_loss_has_a_line_with_title_options_reference_and_paper() -> None:
    lines = {line.split()[0]: line for line in losses_lines() if line}
    for name, entry in LOSS_TABLE.items():
        assert entry.title in lines[name]
        assert entry.paper in lines[name]
        assert f" {'yes' if entry.needs_reference else 'no'} " in lines[name]
        assert all(f"{option} {bounds.surrogate:g}" in lines[name] for option, bounds in entry.options.items())


def test_columns_stand_below_their_heads_whatever_the_table() -> None:
    table = {
        "a": LossEntry("Short", "arXiv 1"),
        "much_longer": LossEntry("A much longer title", "", options=MappingProxyType({"beta": Option(1.0, 2.0)})),
    }
    head, first, second, *_ = losses_lines(table)
    assert head.index("what") == first.index("Short") == second.index("A much")
    assert head.index("options") == first.index("-") == second.index("beta 2")
    assert (first.split()[-1], second.split()[-1]) == ("1", "-")


def test_conventions_of_beta_and_the_next_command_follow() -> None:
    lines = list(losses_lines())
    assert all(any(line.strip().startswith(f"{name}: ") for line in lines) for name in CONVENTIONS)
    assert lines[-1].startswith("next: mmpo train ")
