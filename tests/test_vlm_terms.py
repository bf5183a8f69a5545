"""Losses and masks of answers in the loop, against figures worked out by hand on the same tiny model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from vlm_rows import encoded, folder_of, pair, vlm_of
from vlm_runs import recipe_of, rows_at

from mmpo.adapters.naive_tokens import naive_logps
from mmpo.answer_batch import AnswerBatch
from mmpo.data.answer_collate import collate_answers
from mmpo.data.answer_tokens import AnswerEncoder
from mmpo.models.quiet import quiet_transformers
from mmpo.models.vlm import Vlm, load_vlm
from mmpo.training.answer_step import AnswerStep
from mmpo.training.answer_terms import BothScores, rescaled
from mmpo.vlm_recipe import VlmMethod
from pipelines.build_vlm import encoder_of
from pipelines.train_vlm import train_vlm
from pipelines.vlm_feed import vlm_feed

TALK = [
    {"role": "user", "content": "<image>Left?"},
    {"role": "assistant", "content": "Blue."},
    {"role": "user", "content": "Now?"},
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rows_at(tmp_path_factory.mktemp("rows"), 4)


@pytest.fixture(scope="module")
def base() -> Vlm:
    """The model that the runs start from."""
    with quiet_transformers():
        return load_vlm(str(folder_of("llava")), dtype=torch.float64)


def steps_of(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def batch_of_all(data: Path, vlm: Vlm, *changes: str) -> AnswerBatch:
    """Every row of the data, as a run with these changes sees it."""
    recipe = recipe_of("llava", data, data.parent / "unused", *changes)
    feed = vlm_feed(recipe, encoder_of(recipe, vlm), lambda text: None)
    return feed.train.answers(range(len(feed.train)))


def test_sparse_po_of_equal_weights_is_tdpo1(data: Path, tmp_path: Path) -> None:
    """All weights 1 and no penalty: the paper's own special case, over three steps."""
    sparse = ["method.loss=sparse_po", "method.token_weights=segments", "method.l1_reward=0", "method.l1_kl=0"]
    one = train_vlm(recipe_of("llava", data, tmp_path / "one", *sparse, "train.steps=3"))
    other = train_vlm(recipe_of("llava", data, tmp_path / "other", "method.loss=tdpo1", "train.steps=3"))
    mine, theirs = ([line["loss"] for line in steps_of(run)] for run in (one, other))
    assert mine == pytest.approx(theirs, abs=1e-12)
    assert mine[2] < mine[0] == pytest.approx(math.log(2), abs=1e-12)


def test_sparse_po_weighs_by_the_references_activations(data: Path, tmp_path: Path, base: Vlm) -> None:
    """At the start margins and divergences are 0, and what is left is the penalty: 2 λ ‖m‖₁, m by hand."""
    batch, lengths = batch_of_all(data, base), []
    for side in ("chosen", "rejected"):
        branch = batch.branches[side]
        for row in range(4):
            ids = branch.ids[row : row + 1, : int(branch.lengths[row])]
            pixels = batch.images[branch.images[row][0]]["pixel_values"].double()
            with torch.no_grad():
                out = base.model(input_ids=ids, pixel_values=pixels, output_hidden_states=True)
            state = out.hidden_states[-1][0].mean(-1)  # after the last norm, as the head sees it
            told = state[branch.scored[row, : ids.shape[1]].nonzero().squeeze(1) - 1]
            lengths.append(float(((told - told.min()) / (told.max() - told.min())).sum()))
    changes = ["method.loss=sparse_po", "method.l1_reward=0.03", "method.l1_kl=0.01", "train.steps=2"]
    first, second = steps_of(train_vlm(recipe_of("llava", data, tmp_path / "run", *changes)))
    assert first["loss"] == pytest.approx(math.log(2) + 0.04 * sum(lengths) / 4, abs=1e-9)
    assert second["loss"] < first["loss"]
    assert second["rewards/margins"] > 0


def test_weights_are_rescaled_over_a_rows_own_tokens() -> None:
    values = torch.tensor([[2.0, 4.0, 3.0, 99.0], [5.0, 5.0, -9.0, -9.0]])
    mask = torch.tensor([[True, True, True, False], [True, True, False, False]])
    assert rescaled(values, mask).tolist() == [[0, 1, 0.5, 0], [1, 1, 0, 0]]


def test_average_divides_by_the_sum_of_weights(data: Path, tmp_path: Path, base: Vlm) -> None:
    """RLHF-V: (Σ_unchanged + g Σ_corrected) / (number unchanged + g · number corrected)."""
    options = ["method.segment_weight=3", "method.loss=dpo"]
    found = {}
    for average in ("false", "true"):
        changes = [*options, f"method.average={average}", "train.steps=1"]
        (found[average],) = steps_of(train_vlm(recipe_of("llava", data, tmp_path / average, *changes)))
    batch = batch_of_all(data, base, *options)
    with torch.no_grad():
        logps = naive_logps(base.model, batch)
    for side in ("chosen", "rejected"):
        weights, said = batch.branches[side].weights[batch.branches[side].scored], logps[side]
        assert set(weights.tolist()) == {1.0, 3.0}
        per_row = [
            ((row * weight).sum(), (row * weight).sum() / weight.sum())
            for row, weight in zip(said.logps, said.weights, strict=True)
        ]
        for average, column in (("false", 0), ("true", 1)):
            by_hand = sum(float(row[column]) for row in per_row) / 4
            assert found[average][f"logps/{side}"] == pytest.approx(by_hand, rel=1e-7)
    assert found["true"]["grad_norm"] < found["false"]["grad_norm"] / 5


def test_corrected_segments_are_seen_in_tokens_as_in_the_source(tmp_path: Path, base: Vlm) -> None:
    """Bytes are tokens: "our" is corrected, and not the word that it stands in."""
    row = {"prompt": "What?", "images": ["red.png"], "chosen": "A fine colour here", "rejected": "A fine colxx here"}
    batch = batch_of_all(rows_at(tmp_path / "rows", 0, more=[row]), base, "method.segment_weight=3")
    assert (batch.branches["chosen"].weights == 3).sum() == len("our")
    assert (batch.branches["rejected"].weights == 3).sum() == len("xx")


@pytest.mark.parametrize(("family", "last", "every"), [("qwen2.5", 4 + 1, 5 + 1 + 4 + 1), ("llava", 4 + 1, 5 + 4 + 1)])
def test_scored_turns_are_the_last_or_all(tmp_path: Path, family: str, last: int, every: int) -> None:
    """Bytes are tokens: "Red." and its end, before it "Blue." and its end, which LLaVA's template does not write."""
    row = {"prompt": TALK, "images": ["red.png"], "rejected_images": ["blue.png"], "chosen": "Red.", "rejected": "No."}
    data = rows_at(tmp_path / "rows", 0, more=[row, {**row, "rejected": "Green"}])
    likely = {}
    for turns, count in (("last", last), ("all", every)):
        changes = ["method.loss=rdpo", f"data.scored_turns={turns}", "train.steps=1", "train.batch_size=2"]
        recipe = recipe_of(family, data, tmp_path / turns, *changes)
        vlm = vlm_of(family)
        feed = vlm_feed(recipe, encoder_of(recipe, vlm), lambda text: None)
        assert feed.train.answers([0]).branches["chosen"].scored.sum() == count
        assert feed.train.answers([0]).branches["visual"].scored.sum() == count
        (step,) = steps_of(train_vlm(recipe))
        assert step["loss"] == pytest.approx(2 * math.log(2), abs=1e-15)
        likely[turns] = step["logps/chosen"]
    assert likely["all"] < likely["last"] - 5


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"loss": "simpo", "average": True}, "average: loss 'simpo' takes tokens or their number itself"),
        ({"loss": "step_dpo", "average": True}, "average: loss 'step_dpo'"),
        ({"loss": "dpo", "token_weights": "segments"}, "token_weights: is of sparse_po"),
        ({"loss": "sparse_po", "cache_reference": 1}, "cache_reference: loss 'sparse_po' takes divergences"),
    ],
)
def test_what_makes_no_sense_together_is_refused(given: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        VlmMethod.model_validate(given)


def test_the_encoders_mean_is_of_what_is_left_after_a_cut() -> None:
    """Weights of an answer that was cut add up to 1 too."""
    encoder = AnswerEncoder(vlm_of("llava").processor, max_answer_tokens=4, average=True)
    (row,) = encoded(encoder, [pair()])
    batch = collate_answers([row], encoder.pad_id)
    assert batch.branches["chosen"].weights.sum() == pytest.approx(1)
    assert sorted(batch.branches["chosen"].weights[0].tolist())[-4:] == [0.25] * 4


@pytest.mark.parametrize("loss", ["kto", "diffusion_kto"])
def test_point_losses_take_the_two_answers_one_by_one(data: Path, tmp_path: Path, base: Vlm, loss: str) -> None:
    """At the start every log-ratio and z0 is 0, so a chosen answer costs 0.5 λ_D and a rejected one 0.5 λ_U."""
    weights = ["method.desirable_weight=1.4", "method.undesirable_weight=0.6"]
    changes = [f"method.loss={loss}", "method.beta=0.05", "train.steps=3", *weights]
    steps = steps_of(train_vlm(recipe_of("llava", data, tmp_path / "run", *changes)))
    assert steps[0]["loss"] == pytest.approx((0.7 + 0.3) / 2, abs=1e-12)
    assert steps[2]["loss"] < steps[1]["loss"] < steps[0]["loss"]
    assert steps[2]["rewards/margins"] > 0
    assert steps[2]["rewards/chosen"] > 0 > steps[2]["rewards/rejected"]


def test_ktos_baseline_is_of_one_anothers_answers(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """z0 and loss of a step by hand, from naive log-likelihoods of both models over all rows and their neighbours."""
    seen: list[tuple[BothScores, BothScores]] = []
    kept = AnswerStep._baseline

    def spied(self: AnswerStep, run: Any, term: Any, both: BothScores, other: BothScores | None) -> Any:
        assert other is not None
        seen.append((both, other))
        z0s.append(kept(self, run, term, both, other))
        return z0s[-1]

    z0s: list[Any] = []
    monkeypatch.setattr(AnswerStep, "_baseline", spied)
    changes = ["method.loss=kto", "train.steps=3", "optim.lr=3e-3"]
    steps = steps_of(train_vlm(recipe_of("llava", data, tmp_path / "run", *changes)))
    both, other = seen[2]
    own = set(map(tuple, both.batch.branches["chosen"].ids.tolist()))
    assert not own & set(map(tuple, other.batch.branches["chosen"].ids.tolist()))
    ratios = []
    for side in ("chosen", "rejected"):
        assert other.reference is not None
        ratios += (other.policy[side].sums - other.reference[side].sums).tolist()
    z0 = max(0.0, sum(ratios) / 8)
    assert z0 > 0.1
    assert float(z0s[2]) == pytest.approx(z0, abs=1e-12)
    assert both.reference is not None
    chosen, rejected = ((both.policy[s].sums - both.reference[s].sums).detach() for s in ("chosen", "rejected"))
    by_hand = (torch.sigmoid(-0.1 * (chosen - z0)) + torch.sigmoid(0.1 * (rejected - z0))).mean() / 2
    assert steps[2]["loss"] == pytest.approx(float(by_hand), abs=1e-12)


def test_a_forward_of_one_row_has_no_other_answers(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.micro_batch_size: a forward has 1 row, and kto"):
        recipe_of("llava", data, tmp_path / "run", "method.loss=kto", "train.micro_batch_size=1")
