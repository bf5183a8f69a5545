"""A caption for each image: read from rows, cached, given to the right image's forward, and written again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import tiny
import torch
from counting import encode_all
from pair_files import PAIR, PICK_A_PIC, PICK_A_PIC_SCHEMA, RANKED, A, B, C, read, write
from surrogates import seen

from mmpo.adapters import Denoising
from mmpo.contracts import Batch
from mmpo.data.encoded import EncodedGroups
from mmpo.data.encoding import EncodedRow, best_and_worst
from mmpo.data.readers import open_pairs, read_open
from mmpo.models.checkpoint import read_config
from mmpo.recipe_files import validate
from mmpo.records import Candidate, Group, Prompt
from mmpo.training.forwards import policy_logps
from mmpo.training.metrics import read_metrics
from mmpo.training.run import Run
from pipelines.build import build_accelerator, build_run
from pipelines.data_convert import convert_pairs
from pipelines.data_source import Source
from pipelines.train import train

TWO = {**PAIR, "caption_chosen": "a shiny red cat", "caption_rejected": "a cat that is red"}


def captions(group: Group) -> list[str | None]:
    return [candidate.caption for candidate in group.candidates]


# ---- rows ----


def test_pairs_have_a_caption_each_where_they_say_so(tmp_path: Path) -> None:
    same = {**PAIR, "caption_chosen": "a red cat", "caption_rejected": "a red cat"}
    half = {**PAIR, "caption_chosen": None, "caption_rejected": "a cat"}
    groups, report = read(
        write(tmp_path, [TWO, same, {**PAIR, "caption_chosen": None, "caption_rejected": None}, half])
    )
    assert captions(groups[0]) == ["a shiny red cat", "a cat that is red"]
    assert captions(groups[1]) == captions(groups[2]) == [None, None]  # the prompt itself is no caption of its own
    assert groups[0].prompt.text == "a red cat"
    plain, _ = read(write(tmp_path / "plain", [PAIR]))
    assert groups[1].id == groups[2].id == plain[0].id != groups[0].id
    assert report.counts["bad"] == 1
    assert "column 'caption_chosen' is empty" in report.bad[0]


@pytest.mark.parametrize("best", [0, 1])
def test_pick_double_caption_goes_with_the_image_of_its_number(tmp_path: Path, best: int) -> None:
    """DCPO's columns; without a prompt of its own the row takes the chosen image's caption."""
    row = {**PICK_A_PIC, "label_0": 1.0 - best, "label_1": float(best), "caption_0": "zero", "caption_1": "one"}
    schema = PICK_A_PIC_SCHEMA.append(pa_text("caption_0")).append(pa_text("caption_1"))
    groups, _ = read(write(tmp_path / "a", [row], schema=schema))
    expected = [("zero", A), ("one", B)][:: -1 if best else 1]
    assert [(c.caption, c.image) for c in groups[0].candidates] == expected
    assert groups[0].prompt.text == PICK_A_PIC["caption"]
    other, _ = read(write(tmp_path / "other", [{**row, "caption_1": "1"}], schema=schema))
    assert other[0].id != groups[0].id
    del row["caption"]
    (alone,), _ = read(write(tmp_path / "b", [row], schema=schema.remove(schema.get_field_index("caption"))))
    assert alone.prompt.text == expected[0][0]
    assert captions(alone) == [None, expected[1][0]]


def pa_text(name: str) -> Any:
    import pyarrow as pa

    return pa.field(name, pa.string())


def test_lists_hold_a_text_per_image(tmp_path: Path) -> None:
    """In the images' order, best first afterwards; also where the best and the worst alone are read."""
    row = {**RANKED, "captions": ["of A", "of B", "of C"]}  # ranks 2, 3, 1
    folder = write(tmp_path, [row, {**row, "captions": ["too", "few"]}])
    (whole,) = read_open(open_pairs(str(folder), lists=True))
    assert [(c.caption, c.image) for c in whole.candidates] == [("of C", C), ("of A", A), ("of B", B)]
    groups, report = read(folder)
    assert captions(groups[0]) == ["of C", "of B"]
    assert "column 'captions' holds 2 values for 3 images" in report.bad[0]


def test_captions_can_be_renamed(tmp_path: Path) -> None:
    folder = write(tmp_path, [{**PAIR, "long_w": "w", "long_l": "l"}])
    opened = open_pairs(str(folder), columns={"caption_chosen": "long_w", "caption_rejected": "long_l"})
    assert [captions(group) for group in read_open(opened)] == [["w", "l"]]


@pytest.mark.parametrize("to", ["pairs", "pick_a_pic", "jsonl", "folders"])
def test_captions_survive_a_conversion_or_their_loss_is_counted(tmp_path: Path, to: str) -> None:
    source = Source(str(write(tmp_path / "in", [TWO, {**PAIR, "prompt": "a dog"}])))
    counts, _ = convert_pairs(source, tmp_path / "out", to=to, seed=3)
    groups, _ = read(tmp_path / "out")
    if to == "folders":
        assert counts["captions"] == 1
        assert all(captions(group) == [None, None] for group in groups)
    else:
        assert [captions(group) for group in groups] == [["a shiny red cat", "a cat that is red"], [None, None]]


# ---- batches ----


def some_groups() -> list[Group]:
    """A list of three with captions, a pair with one, a pair without."""

    def group(name: str, files: Sequence[bytes], said: Sequence[str | None]) -> Group:
        made = [Candidate(file, caption=text) for file, text in zip(files, said, strict=True)]
        return Group(name, Prompt("prompt " + name), made, source=f"row {name}")

    return [
        group("0", [A, B, C], ["aa", "bbb", "cccc"]),
        group("1", [B, C], [None, "a longer one"]),
        group("2", [C, A], [None, None]),
    ]


def test_the_condition_has_a_place_for_each_candidate(tmp_path: Path) -> None:
    """[B, K, ...] for the whole run as soon as one group has captions; the stand-in encodes a text's length."""
    rows, caches, encoders, _ = encode_all(tmp_path, some_groups())
    assert set(encoders.prompts) == {"", "aa", "bbb", "cccc", "prompt 1", "a longer one", "prompt 2"}
    whole = EncodedGroups(rows, caches)
    assert whole.batch([0, 1, 2]).condition["embedding"][..., 0].tolist() == [[2, 3, 4], [8, 12, 12], [8, 8, 8]]
    assert whole.batch([2]).condition["embedding"].shape == (1, 2, 2)
    ends = EncodedGroups([best_and_worst(row) for row in rows], caches)
    assert ends.batch([0, 1, 2]).condition["embedding"][..., 0].tolist() == [[2, 4], [8, 12], [8, 8]]


def test_captions_can_be_ignored(tmp_path: Path) -> None:
    rows, caches, encoders, _ = encode_all(tmp_path, some_groups(), own_captions=False)
    assert set(encoders.prompts) == {"", "prompt 0", "prompt 1", "prompt 2"}
    assert EncodedGroups(rows, caches).batch([0, 1]).condition["embedding"].shape == (2, 1, 2)


def test_each_images_forward_is_under_its_own_caption(tmp_path: Path) -> None:
    """What the denoiser is given, sample by sample; a dropped prompt is dropped for all candidates."""
    rows, caches, _, _ = encode_all(tmp_path, some_groups())
    batch = EncodedGroups(rows, caches).batch([0, 1])
    adapter = Denoising(torch.linspace(0.99, 0.01, 1000, dtype=torch.float64))
    draw = replace(adapter.draw(batch, 0), drop_prompt=torch.tensor([False, True]))
    _, _, condition = seen(adapter, batch, draw)
    assert condition["embedding"][..., 0].tolist() == [[2, 3, 4], [0, 0, 0]]


# ---- runs ----


def write_pairs(folder: Path, said: Sequence[Sequence[str | None]] | None) -> Path:
    from mmpo.data.rows import pair_row, pair_schema
    from mmpo.data.shards import write_shard

    groups = tiny.make_groups(16)
    if said is not None:
        groups = [
            replace(g, candidates=[replace(c, caption=text) for c, text in zip(g.candidates, texts, strict=True)])
            for g, texts in zip(groups, said, strict=True)
        ]
    write_shard(folder, 0, [pair_row(group) for group in groups], pair_schema(captions=True))
    return folder


def built(tree: dict[str, Any], said: list[str]) -> Run:
    recipe = validate(tree)
    config = read_config(recipe.model.path)
    return build_run(recipe, config, build_accelerator(recipe), Path(recipe.output), said.append)[0]


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(run) if "loss" in line]


def test_captions_that_are_the_prompt_change_nothing(sd_folder: Path, tmp_path: Path) -> None:
    """The same losses, bit for bit, as without; with others they differ, unless those are ignored."""
    prompts = [group.prompt.text for group in tiny.make_groups(16)]
    own = [["a red cat", "the moon"]] * 16
    data = {
        "none": write_pairs(tmp_path / "none", None),
        "same": write_pairs(tmp_path / "same", [[text, text] for text in prompts]),
        "own": write_pairs(tmp_path / "own", own),
    }
    data["ignored"] = data["own"]
    few = {"train__steps": 2, "evaluation__held_out_pairs": 0}
    trees = {
        name: tiny.recipe_tree(sd_folder, folder, tmp_path / f"run-{name}", **few) for name, folder in data.items()
    }
    trees["ignored"]["data"]["captions"] = "prompt"
    found = {name: losses(train(validate(tree))) for name, tree in trees.items()}
    assert found["none"] == found["same"] == found["ignored"]
    assert found["own"] != found["none"]


@torch.no_grad()
def test_two_equal_captions_are_one_prompt(sd_folder: Path, tmp_path: Path) -> None:
    """Log-likelihoods under [B, K, ...] of equal captions are those under that caption as the prompt, [B, 1, ...]."""
    said: list[str] = []
    run = built(
        tiny.recipe_tree(sd_folder, write_pairs(tmp_path / "own", [["the moon", "the moon"]] * 16), tmp_path / "run"),
        said,
    )
    assert "16 of 16 groups have captions of their own; their images are trained under them" in said
    batch = run.train.batch([0, 1, 2])
    draw = run.adapter.draw(batch, 0)
    one = Batch(**{**vars(batch), "condition": {name: x[:, :1] for name, x in batch.condition.items()}})
    assert all(x.shape[1] == 2 and torch.equal(x[:, 0], x[:, 1]) for x in batch.condition.values())
    assert torch.equal(policy_logps(run, run.policy, batch, draw), policy_logps(run, run.policy, one, draw))


def test_the_reference_sees_the_same_captions(sd_folder: Path, tmp_path: Path) -> None:
    """So that the logit is 0 at the start, with captions too; swapped captions give other log-likelihoods."""
    data = write_pairs(tmp_path / "own", [["the moon", "a blue dog"]] * 16)
    tree = tiny.recipe_tree(sd_folder, data, tmp_path / "run", train__steps=1, evaluation__held_out_pairs=0)
    (first,) = read_metrics(train(validate(tree)))
    assert first["rewards/margins"] == 0
    run = built({**tree, "output": str(tmp_path / "other")}, [])
    batch = run.train.batch([0, 1])
    draw = run.adapter.draw(batch, 0)
    swapped = replace(batch, condition={name: x.flip(1) for name, x in batch.condition.items()})
    one, two = (policy_logps(run, run.policy, each, draw) for each in (batch, swapped))
    assert not (one == two).any()


def test_own_captions_are_asked_for_and_not_there(sd_folder: Path, pairs_folder: Path, tmp_path: Path) -> None:
    tree = tiny.recipe_tree(sd_folder, pairs_folder, tmp_path / "run")
    tree["data"]["captions"] = "own"
    with pytest.raises(ValueError, match=r"data\.captions: own needs .* caption_chosen and caption_rejected"):
        built(tree, [])


def test_a_cached_reference_knows_other_captions_of_the_same_images() -> None:
    """The group's id holds prompt and images alone, and the reference's log-likelihood depends on the captions too."""
    rows = [
        EncodedRow("id", Prompt("a"), ("x", "y"), "", captions=captions) for captions in ((), ("b", "c"), ("b", "d"))
    ]
    groups = EncodedGroups(rows, cast("Any", None))
    assert groups.name(0) == "id"
    assert len({groups.name(index) for index in range(3)}) == 3
