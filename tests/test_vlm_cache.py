"""The reference's log-probabilities kept on disk: the same run as live, no reference forward, and misses where due."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from vlm_rows import png, vlm_of
from vlm_runs import recipe_of, rows_at

from mmpo.adapters import AdaptersOff
from mmpo.training import answer_cache
from mmpo.vlm_recipe import VlmMethod
from pipelines.build_vlm import encoder_of
from pipelines.train_vlm import train_vlm
from pipelines.vlm_feed import vlm_feed

CACHED = "method.cache_reference=1"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return rows_at(tmp_path / "rows")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever the reference is asked."""
    calls: list[int] = []
    active = AdaptersOff.active

    @contextmanager
    def counted(self: AdaptersOff) -> Iterator[Any]:
        calls.append(1)
        with active(self) as module:
            yield module

    monkeypatch.setattr(AdaptersOff, "active", counted)
    return calls


def lines_of(run: Path) -> list[dict[str, Any]]:
    """What was measured, without the clock."""
    clock = ("pairs_per_second", "tokens_per_second", "time")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in clock} for line in lines]


def assert_same(one: Path, other: Path, tolerance: float) -> None:
    """Every figure of two runs."""
    for mine, theirs in zip(lines_of(one), lines_of(other), strict=True):
        assert mine == pytest.approx(theirs, rel=0, abs=tolerance)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp64", 1e-6), ("fp32", 1e-4)])
def test_a_cached_run_is_the_live_one_and_asks_the_reference_once(
    data: Path, tmp_path: Path, asked: list[int], precision: str, tolerance: float
) -> None:
    """Two epochs of rDPO under noise, held-out pairs too; a second run asks nothing at all."""
    changes = ["method.loss=rdpo", "method.negative_image=noise", f"train.precision={precision}"]
    changes += ["train.micro_batch_size=2", "evaluation.held_out_pairs=1"]
    live = train_vlm(recipe_of("llava", data, tmp_path / "live", *changes))
    during = len(asked)
    assert during == 4 * 2 + 1
    cached = train_vlm(recipe_of("llava", data, tmp_path / "cached", *changes, CACHED))
    assert len(asked) - during == 4 + 1  # 7 rows in forwards of two, and the held-out one
    before = len(asked)
    again = train_vlm(recipe_of("llava", data, tmp_path / "again", *changes, CACHED))
    assert len(asked) == before
    assert_same(live, cached, tolerance)
    assert lines_of(cached) == lines_of(again)
    first = next(line for line in lines_of(cached) if "loss" in line)
    assert first["rewards/margins"] == first["rewards/margins@2-dpo"] == first["rewards/visual"] == 0


def test_a_full_fine_tune_needs_no_second_model(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = ["method.loss=mdpo", "train.micro_batch_size=2", "evaluation.held_out_pairs=1"]
    live = train_vlm(recipe_of("llava", data, tmp_path / "live", *changes, lora=False))
    monkeypatch.setattr("pipelines.build_vlm.FrozenCopy", None)
    changes += [CACHED, "train.checkpoint_every=2"]
    cached = train_vlm(recipe_of("llava", data, tmp_path / "cached", *changes, lora=False))
    assert_same(live, cached, 1e-6)
    resumed = tmp_path / "resumed"
    train_vlm(recipe_of("llava", data, resumed, *changes, "train.steps=2", lora=False))
    train_vlm(recipe_of("llava", data, resumed, *changes, lora=False), resume=True)
    steps = [[line for line in lines_of(run) if "loss" in line] for run in (cached, resumed)]
    assert steps[0] == steps[1]


def test_a_pass_that_was_killed_goes_on_where_it_was(
    data: Path, tmp_path: Path, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_cache, "BLOCK", 1)
    keep = answer_cache.KnownReference.keep

    def killed(self: Any, *given: Any, **more: Any) -> None:
        keep(self, *given, **more)
        if len(asked) == 2:
            raise KeyboardInterrupt

    changes = ["method.loss=dpo", "train.micro_batch_size=2", CACHED]
    with monkeypatch.context() as patch:
        patch.setattr(answer_cache.KnownReference, "keep", killed)
        with pytest.raises(KeyboardInterrupt):
            train_vlm(recipe_of("llava", data, tmp_path / "run", *changes))
    assert len(asked) == 2
    train_vlm(recipe_of("llava", data, tmp_path / "run", *changes))
    assert len(asked) == 4  # four forwards of two rows each


def changed(data: Path, **values: Any) -> None:
    """The first row with other values."""
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    rows[0] |= values
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))


def keys_of(data: Path, *changes: str) -> list[Mapping[str, str]]:
    """Of all rows, in order."""
    recipe = recipe_of("llava", data, data.parent / "unused", "method.loss=rdpo", CACHED, *changes)
    feed = vlm_feed(recipe, encoder_of(recipe, vlm_of("llava")), lambda text: None)
    return [feed.train.keys(row) for row in range(len(feed.train))]


def test_a_changed_row_misses_where_it_changed_and_the_others_do_not(data: Path) -> None:
    """What of the first row has another key; β, weights and the seed are not the reference's, but made images are."""
    before = keys_of(data)
    (data.parent / "other.png").write_bytes(png("pink", (28, 28)))
    for change, moved in (
        ({"chosen": "Red."}, {"chosen", "visual"}),
        ({"rejected": "No."}, {"rejected"}),
        ({"prompt": "Which?"}, {"chosen", "rejected", "visual"}),
        ({"images": ["other.png"]}, {"chosen", "rejected"}),
        ({"rejected_images": ["purple.png"]}, {"visual"}),
    ):
        changed(data, **change)
        now = keys_of(data)
        assert now[1:] == before[1:]
        assert {name for name in now[0] if now[0][name] != before[0][name]} == moved
        before = now
    assert keys_of(data, "train.seed=5", "method.beta=0.3", "method.segment_weight=2") == before
    made = [keys_of(data, "method.negative_image=noise", f"train.seed={seed}") for seed in (0, 0, 5)]
    assert made[0] == made[1]
    for one, other in zip(made[0], made[2], strict=True):
        assert {name for name in one if one[name] != other[name]} == {"visual"}


def test_another_dtype_or_model_makes_another_cache_and_the_stale_one_is_named(
    data: Path, tmp_path: Path, asked: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["method.loss=dpo", "train.steps=1", CACHED]
    for number, (change, model, named) in enumerate(
        [
            ("train.seed=0", "llava", ""),
            ("train.precision=fp32", "llava", "is of another weights, precision, dtype and is not used"),
            ("data.max_answer_tokens=3", "llava", "is of another encoder and is not used"),
            ("train.seed=0", "qwen2.5", "is of another weights"),
        ]
    ):
        before = len(asked)
        train_vlm(recipe_of(model, data, tmp_path / f"run-{number}", *base, change))
        assert len(asked) - before == 1
        said = capsys.readouterr().out
        assert (f"{data.parent / '.cache'}/vlm-reference-" in said) == bool(named)
        assert named in said
    assert len(list((data.parent / ".cache").iterdir())) == 4


def test_a_damaged_shard_is_named_and_computed_again_and_a_wrong_one_stops(
    data: Path, tmp_path: Path, asked: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    def run(number: int) -> Path:
        recipe = recipe_of("llava", data, tmp_path / f"run-{number}", "method.loss=dpo", "train.steps=2", CACHED)
        return train_vlm(recipe)

    first = run(0)
    (shard,) = (data.parent / ".cache").glob("*/*.safetensors")
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()
    second = run(1)
    assert f"damaged shard is left out and computed again: {shard}" in capsys.readouterr().out
    assert lines_of(first) == lines_of(second)
    assert len(asked) == 4
    index = shard.with_name(shard.name.replace(".safetensors", ".keys.json"))
    keys = json.loads(index.read_text())
    index.write_text(json.dumps(keys[1:] + keys[:1]))
    with pytest.raises(ValueError, match=r"reference cache: .* log-probabilities are kept for an answer of"):
        run(2)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"loss": "tdpo1"}, "divergences"),
        ({"loss": "chip"}, "divergences"),
        ({"loss": "rdpo_released"}, "rejected.top_non_label"),
        ({"loss": "povid"}, "own:visual"),
        ({"loss": "sft"}, "compares with a reference"),
        ({"loss": "dpo", "cache_reference": 4}, "less than or equal to 1"),
    ],
)
def test_a_loss_that_asks_for_more_is_refused_with_the_fix(given: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word) as fault:
        VlmMethod.model_validate({"cache_reference": 1, **given})
    assert "cache_reference" in str(fault.value)
