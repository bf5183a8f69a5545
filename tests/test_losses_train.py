"""Every loss that a recipe can name trains on the built-in world, and the others are refused with the reason."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from test_list_batches import write_lists

from mmpo.data.images import encode
from mmpo.loss_feeds import needs_rollout, untrainable
from mmpo.loss_table import LOSS_TABLE
from mmpo.recipe_files import validate
from mmpo.shapes.grammar import captions
from mmpo.shapes.prompts import scenes
from mmpo.shapes.render import render
from mmpo.training.metrics import read_metrics
from pipelines.checks import check_recipe, describe_data
from pipelines.train import train

TRAINABLE = sorted(name for name, entry in LOSS_TABLE.items() if not untrainable(entry) and not needs_rollout(entry))
STEPS = 4


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty ranked lists of the built-in world, with every column that some loss asks for."""
    rows = []
    for number, scene in enumerate(scenes("train")[:20]):
        defects = (None, "missing", "scribbles", "extra")[: 3 + number % 2]
        rows.append(
            {
                "prompt": captions(scene)[0],
                "images": [encode(render(scene, number, defect=defect)) for defect in defects],
                "rank": list(range(1, len(defects) + 1)),
                "margins": [0.1 * (number % 3)],
                "chosen_win_rate": 0.9,
                "rejected_win_rate": 0.1,
                "chosen_score": 0.5,
                "rejected_score": -0.5,
                "preference": 0.7,
                "photo_wins": number % 4 > 0,
            }
        )
    folder = tmp_path_factory.mktemp("world")
    pq.write_table(pa.Table.from_pylist(rows), folder / "lists.parquet")
    return folder


def recipe_tree(data: Path, output: Path, **method: Any) -> dict[str, Any]:
    """A few small steps of LoRA on the built-in checkpoint."""
    tree = tiny.recipe_tree(Path("shapes/sd"), data, output, train__steps=STEPS, train__checkpoint_every=STEPS)
    tree["method"] = method
    tree["train"]["batch_size"] = 2
    tree["evaluation"] |= {"held_out_pairs": 0}
    return tree


def lines_of(tree: dict[str, Any]) -> list[dict[str, float]]:
    return [line for line in read_metrics(train(validate(tree))) if "loss" in line]


@pytest.mark.parametrize("name", TRAINABLE)
def test_a_few_steps(name: str, world: Path, tmp_path: Path) -> None:
    """Finite losses and gradients, and the weights move."""
    weights = {"weights": [0.6, 0.4]} if "weights" in LOSS_TABLE[name].extra else {}
    lines = lines_of(recipe_tree(world, tmp_path / "run", loss=name, **weights))
    assert len(lines) == STEPS
    assert all(math.isfinite(line["loss"]) and math.isfinite(line["grad_norm"]) for line in lines)
    content = name in ("hinge", "rso_hinge", "maximum_preference")  # no gradient once every pair is right
    assert all(line["grad_norm"] > 0 for line in lines[: 1 if content else STEPS])
    assert lines[0].get("rewards/margins", 0.0) == 0.0
    assert lines[-1]["errors/chosen"] > 0


def test_terms_are_added_up_and_logged_one_by_one(world: Path, tmp_path: Path) -> None:
    """At the start dpo is ln 2 and sft the chosen error's half: the loss is their weighted sum, times method.weight."""
    terms = [{"loss": "dpo", "beta": 2000}, {"loss": "sft", "weight": 0.5}, {"loss": "rank_dpo"}]
    first = lines_of(recipe_tree(world, tmp_path / "run", terms=terms, weight=2))[0]
    assert first["loss/1-dpo"] == pytest.approx(math.log(2))
    assert first["loss/2-sft"] == pytest.approx(first["errors/chosen"] / 2)
    total = first["loss/1-dpo"] + 0.5 * first["loss/2-sft"] + first["loss/3-rank_dpo"]
    assert first["loss"] == pytest.approx(2 * total)


def test_two_terms_of_one_loss_are_both_logged(world: Path, tmp_path: Path) -> None:
    terms = [{"loss": "minor_dpo"}, {"loss": "minor_dpo", "beta": 1000}]
    first = lines_of(recipe_tree(world, tmp_path / "run", terms=terms))[0]
    assert {"shares/1-rejected_counts", "shares/2-rejected_counts"} <= first.keys()


def test_one_term_trains_as_the_loss_itself(world: Path, tmp_path: Path) -> None:
    alone = lines_of(recipe_tree(world, tmp_path / "a", loss="minor_dpo", beta=1000, weight=3))
    term = lines_of(recipe_tree(world, tmp_path / "b", terms=[{"loss": "minor_dpo", "beta": 1000, "weight": 3}]))
    assert [line["loss"] for line in alone] == [line["loss"] for line in term]
    assert "shares/rejected_counts" in alone[0]


@pytest.mark.parametrize("name", ["kto", "diffusion_kto"])
def test_single_candidates_of_pairs(name: str, world: Path, tmp_path: Path) -> None:
    """With policy == reference the baseline is 0 and both kinds give half their weight: (1 + 0.5) / 2 / 2."""
    method = {"loss": name, "desirable_weight": 1.0, "undesirable_weight": 0.5}
    assert lines_of(recipe_tree(world, tmp_path / "run", **method))[0]["loss"] == pytest.approx(0.375)


@pytest.mark.parametrize("key", ["batch_size", "micro_batch_size"])
def test_a_forward_of_one_group_has_no_other_prompt(key: str) -> None:
    tree = recipe_tree(Path("pairs"), Path("run"), loss="kto")
    tree["train"][key] = 1
    with pytest.raises(ValueError, match=rf"train\.{key}: is 1, and loss 'kto' compares"):
        validate(tree)


def test_losses_that_ask_for_different_things_train_together(world: Path, tmp_path: Path) -> None:
    """Predictions for one, other prompts and a baseline for the others."""
    terms = [{"loss": "dspo"}, {"loss": "kto"}, {"loss": "diffusion_kto"}]
    first = lines_of(recipe_tree(world, tmp_path / "run", terms=terms))[0]
    assert (first["loss/2-kto"], first["loss/3-diffusion_kto"]) == (0.5, 0.5)


def test_a_renamed_column_can_be_dry_run(world: Path, tmp_path: Path) -> None:
    tree = recipe_tree(world, tmp_path / "run", loss="sm_po")
    tree["data"] |= {"columns": {"preference": "chosen_win_rate"}}
    assert "ranked" in describe_data(validate(tree))


def test_raw_scores_are_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    data = write_lists(tmp_path / "data", [3, 3], scored=True)
    table = pq.read_table(data / "lists.parquet").to_pylist()
    rows = [{**row, "scores": {"clip": [20 + x for x in row["scores"]["clip"]]}} for row in table]
    pq.write_table(pa.Table.from_pylist(rows), data / "lists.parquet")
    for scores, message in (("scores", "loss 'rank_dpo' takes scores from 0 to 1, this list has 20.3"), ("wins", "")):
        tree = recipe_tree(data, tmp_path / "run", loss="rank_dpo")
        tree["data"] |= {"list_scores": scores}
        if message:
            with pytest.raises(ValueError, match=message):
                check_recipe(validate(tree))
        else:
            check_recipe(validate(tree))


def test_dspo_starts_as_twice_sft(world: Path, tmp_path: Path) -> None:
    """Where the models agree there is no drift, and the loss is the chosen error."""
    first = lines_of(recipe_tree(world, tmp_path / "run", loss="dspo"))[0]
    assert first["loss"] == pytest.approx(first["errors/chosen"])


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"terms": [{"loss": "dpo"}], "loss": "ipo"}, "terms: stands in place of loss; move 'ipo' .*set loss to null"),
        ({"terms": [{"loss": "dpo"}], "beta": 5}, "beta: options stand beside the loss"),
        ({"terms": [{"loss": "dpo", "tau": 5}]}, r"terms.0: tau: not an option of loss 'dpo'"),
        ({"terms": [{"loss": "kto"}, {"loss": "rank_dpo"}]}, "'kto' takes the two of a pair one by one"),
        ({"terms": [{"loss": "triple_po"}, {"loss": "diffusion_kto"}]}, "'diffusion_kto' takes the two of a pair"),
        (
            {"terms": [{"loss": "modpo", "weights": [0.5, 0.5]}, {"loss": "modpo", "weights": [0.2, 0.3, 0.5]}]},
            "want the column margins in two ways",
        ),
        ({"loss": None}, "loss: is null and there are no terms"),
        ({"loss": "modpo"}, r"weights: loss 'modpo' takes \[n\] of the objectives"),
        ({"loss": "modpo", "weights": [0.5, 0.6]}, r"weights: .*with sum 1.*got \[0.5, 0.6\]"),
    ],
)
def test_terms_and_lists_that_make_no_sense_are_refused(method: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        validate(recipe_tree(Path("pairs"), Path("run"), **method))


def test_data_without_what_a_loss_needs_is_refused_before_the_model_is_loaded(tmp_path: Path, world: Path) -> None:
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    row = {
        "prompt": "a",
        "chosen": encode(render(scenes("train")[0], 0)),
        "rejected": encode(render(scenes("train")[1], 1)),
    }
    pq.write_table(pa.Table.from_pylist([row]), pairs / "rows.parquet")
    for loss, message in (
        ("sppo", "needs the columns chosen_win_rate, rejected_win_rate; found prompt, chosen, rejected"),
        ("triple_po", "takes ranked lists of at least 3 candidates, and the format pairs gives pairs"),
    ):
        with pytest.raises(ValueError, match=message):
            check_recipe(validate(recipe_tree(pairs, tmp_path / "run", loss=loss)))
    wrong = recipe_tree(world, tmp_path / "run", loss="modpo", weights=[0.5, 0.25, 0.25])
    with pytest.raises(ValueError, match="column 'margins' holds 1 numbers; the recipe's loss needs 2"):
        check_recipe(validate(wrong))


@pytest.mark.parametrize("name", sorted(LOSS_TABLE.keys() - set(TRAINABLE)))
def test_a_loss_that_cannot_be_fed_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(ValueError, match=rf"loss: '{name}' (cannot be fed|takes|needs) .*`mmpo losses {name}`"):
        validate(recipe_tree(Path("pairs"), Path("run"), loss=name))
