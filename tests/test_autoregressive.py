"""Token log-probabilities of VLMs: by hand, by the naive path, and by every fast path, which must all agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from vlm_rows import batch_of, exact_norms, mixed_pairs, pair, png, vlm_of

from mmpo.adapters import branch_attention
from mmpo.adapters.autoregressive import Autoregressive, Tricks
from mmpo.adapters.naive_tokens import naive_logps
from mmpo.adapters.reference import AdaptersOff
from mmpo.answer_batch import TokenLogps
from mmpo.models.vlm_lora import add_vlm_lora

FAMILIES = ["llava", "qwen2.5", "qwen3"]
ALL_TRICKS = [Tricks(*choice) for choice in product((False, True), ("all", "scored", "chunks"), (False, True))]
EXTRA = ("kl", "reverse_kl", "top_non_label")
ASKED = {"chosen": (*EXTRA, "own:prior"), "rejected": EXTRA}


def mixed_sum(scores: Mapping[str, TokenLogps]) -> Tensor:
    """A number in which every token, and all else that was asked for, counts differently."""
    total = torch.zeros((), dtype=torch.float64)
    for name in sorted(scores):
        for x in (scores[name].logps, *scores[name].extra.values()):
            total = total + (x * torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view(x.shape)).sum()
    return total


def gradients(model: Any, score: Callable[[], Mapping[str, TokenLogps]]) -> dict[str, Tensor]:
    model.zero_grad()
    mixed_sum(score()).backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in trained.items()}


def largest_difference(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> float:
    assert left.keys() == right.keys()
    return max((left[name] - right[name]).abs().max().item() for name in left)


def logps_of(scores: Mapping[str, TokenLogps]) -> dict[str, Tensor]:
    return {name: one.logps for name, one in scores.items()}


def test_rows_without_images_give_every_trained_weight_a_gradient() -> None:
    """Several processes wait for one of each: here 0 for the projector's, and for the tower's last layer always."""
    vlm = vlm_of("llava")
    add_vlm_lora(vlm.model, rank=2, targets=["q_proj", "model.vision_tower", "linear_1", "linear_2"], seed=0)
    trained = {name: p for name, p in vlm.model.named_parameters() if p.requires_grad}
    for rows in ([pair(chosen="Hi", rejected="No")], [pair(images=(png("red"),))]):
        vlm.model.zero_grad()
        scores = Autoregressive(Tricks(share_prompt=False)).logps(vlm.model, batch_of(vlm, rows))
        mixed_sum(scores).backward()
        assert not [name for name, p in trained.items() if p.grad is None]
        assert all(p.grad.any() == 0 for name, p in trained.items() if "projector" in name and not rows[0].images)


def test_log_probabilities_by_hand() -> None:
    """Every layer adds 0, so the next token depends on the last alone: after "a", "b" has odds of 3 to 1 of each other.

    Of V tokens: p("a" | anything but "a") = 1/V, p("b" | "a") = 3/(V + 2), p(end | "b") = 1/V.
    """
    vlm = vlm_of("llava")
    model, tokenizer = vlm.model, vlm.processor.tokenizer
    a, b = (tokenizer.convert_tokens_to_ids(letter) for letter in "ab")
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.multi_modal_projector.linear_2.weight.zero_()
        model.model.multi_modal_projector.linear_2.bias.zero_()
        model.get_input_embeddings().weight.zero_()
        model.get_input_embeddings().weight[a, 0] = 1e6  # RMSNorm makes it the square root of the width, in float32
        model.lm_head.weight.zero_()
        model.lm_head.weight[b, 0] = math.log(3) / math.sqrt(32)
    count = model.lm_head.weight.shape[0]
    batch = batch_of(vlm, [pair(images=(png("red"),), chosen="ab", rejected="b")], branches=("chosen", "rejected"))
    branch_attention.install(model)
    for scores in (naive_logps(model, batch), Autoregressive().logps(model, batch)):
        expected = [-math.log(count), math.log(3 / (count + 2)), -math.log(count)]
        assert scores["chosen"].logps[0].tolist() == pytest.approx(expected, abs=1e-6)
        assert scores["chosen"].sums.item() == pytest.approx(sum(expected), abs=1e-6)
        assert scores["rejected"].logps[0].tolist() == pytest.approx([-math.log(count)] * 2, abs=1e-12)
        assert scores["rejected"].lengths.tolist() == [2]


@pytest.mark.parametrize("family", [*FAMILIES, "qwen2", "llava_next", "idefics3"])
def test_every_fast_path_equals_the_naive_path(family: str) -> None:
    vlm = vlm_of(family)
    batch = batch_of(vlm)
    stock = gradients(vlm.model, lambda: naive_logps(vlm.model, batch))
    branch_attention.install(vlm.model)
    got = gradients(vlm.model, lambda: Autoregressive().logps(vlm.model, batch))
    assert largest_difference(got, stock) < 1e-5  # their norms round to float32, forward and backward

    exact_norms(vlm.model)
    expected = naive_logps(vlm.model, batch)
    slopes = gradients(vlm.model, lambda: naive_logps(vlm.model, batch))
    for tricks in ALL_TRICKS if family in FAMILIES else ALL_TRICKS[-1:]:
        adapter = Autoregressive(tricks, chunk=5)
        found = adapter.logps(vlm.model, batch)
        assert largest_difference(logps_of(found), logps_of(expected)) < 1e-10, tricks
        for name, scores in found.items():
            assert scores.mask.equal(expected[name].mask)
            assert scores.weights.equal(expected[name].weights)
            assert scores.rows.equal(expected[name].rows)
        got = gradients(vlm.model, lambda adapter=adapter: adapter.logps(vlm.model, batch))
        assert largest_difference(got, slopes) < 1e-9, tricks


@pytest.mark.parametrize("family", FAMILIES)
def test_what_needs_the_whole_vocabulary_equals_the_naive_path(family: str) -> None:
    rows = [row for row in mixed_pairs() if row.images]
    policy, frozen = vlm_of(family), vlm_of(family)
    exact_norms(policy.model)
    exact_norms(frozen.model)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter *= 1.05
    batch = batch_of(policy, rows, branches=("chosen", "rejected", "prior"))
    naive = lambda: naive_logps(policy.model, batch, asked=ASKED, reference=frozen.model)  # noqa: E731
    expected, slopes = naive(), gradients(policy.model, naive)
    branch_attention.install(policy.model)
    branch_attention.install(frozen.model)
    for tricks in (Tricks(), Tricks(vocabulary="scored"), Tricks(False, "all", False)):
        adapter = Autoregressive(tricks, chunk=7)
        with torch.no_grad():
            reference = adapter.logps(frozen.model, batch, keep_states=True)
        fast = lambda adapter=adapter, reference=reference: adapter.logps(  # noqa: E731
            policy.model, batch, asked=ASKED, reference=reference
        )
        found = fast()
        for name in ASKED:
            assert found[name].extra.keys() == set(ASKED[name])
            assert largest_difference(found[name].extra, expected[name].extra) < 1e-9
        assert found["chosen"].extra["kl"][found["chosen"].mask].min() > 0
        assert largest_difference(gradients(policy.model, fast), slopes) < 1e-7


def test_released_rdpo_scores_the_likeliest_other_token() -> None:
    """Of two tokens at a place, the label never is what is scored, and nothing likelier is left out."""
    vlm = vlm_of("llava")
    batch = batch_of(vlm, [pair(images=(png("red"),))], branches=("chosen",))
    scores = Autoregressive(Tricks(share_prompt=False)).logps(vlm.model, batch, asked={"chosen": ["top_non_label"]})
    top, own = scores["chosen"].extra["top_non_label"], scores["chosen"].logps
    assert (top != own).all()
    assert (top.exp() + own.exp() <= 1).all()
    count = vlm.model.lm_head.weight.shape[0]
    assert (top.exp() >= (1 - own.exp()) / (count - 1)).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_forward_and_an_encoded_image_are_counted(family: str) -> None:
    """A step of policy and reference over three branches: one call of the tower for the distinct images, two forwards.

    The naive path calls the tower once a branch and model.
    """
    vlm = vlm_of(family, torch.float32)
    rows = [pair(0, images=(png("red"),), rejected_images=(png("blue"),)), pair(1, images=(png("red"),))]
    batch = batch_of(vlm, rows)
    assert len(batch.images) == 2
    add_vlm_lora(vlm.model, rank=2, seed=0)
    reference = AdaptersOff(vlm.model)
    branch_attention.install(vlm.model)
    seen: list[int] = []
    forwards: list[int] = []
    tower = vlm.model.get_encoder("image")
    tower.register_forward_pre_hook(
        lambda module, args, options: seen.append(_images_in(args, options)), with_kwargs=True
    )
    vlm.model.get_decoder().register_forward_pre_hook(lambda module, args: forwards.append(1))

    adapter = Autoregressive()
    features = adapter.shared_features(vlm.model, batch)
    assert features is not None
    with reference.active() as frozen, torch.no_grad():
        of_reference = adapter.logps(frozen, batch, features=features)
    of_policy = adapter.logps(vlm.model, batch, features=features)
    mixed_sum(of_policy).backward()
    assert (seen, len(forwards)) == ([2], 2)
    assert all(of_policy[name].logps.equal(of_reference[name].logps) for name in of_policy)  # a new LoRA adds nothing

    seen.clear()
    forwards.clear()
    with torch.no_grad():
        naive_logps(vlm.model, batch, reference=vlm.model)
    assert (sum(seen), len(forwards)) == (10, 6)  # 2 + 2 + 1 images a model


def _images_in(args: tuple[Any, ...], options: dict[str, Any]) -> int:
    grid = options.get("grid_thw", args[1] if len(args) > 1 else None)
    if grid is not None:
        return len(grid)
    pixels = args[0] if args else options["pixel_values"]
    return len(pixels)


def test_features_are_not_shared_where_the_projector_is_trained() -> None:
    """They would be the policy's, and the reference has another projector from the first step on."""
    vlm = vlm_of("llava")
    batch = batch_of(vlm)
    add_vlm_lora(vlm.model, rank=2, targets="language_projector", seed=0)
    adapter = Autoregressive(Tricks(share_prompt=False))
    assert adapter.shared_features(vlm.model, batch) is None
    with torch.no_grad():  # away from 0, or A gets no gradient
        for name, parameter in vlm.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.02)
    expected = gradients(vlm.model, lambda: naive_logps(vlm.model, batch))
    found = gradients(vlm.model, lambda: adapter.logps(vlm.model, batch))
    assert any("multi_modal_projector" in name for name in found)
    assert largest_difference(found, expected) < 1e-9


def test_gradient_checkpointing_sees_the_same_branches() -> None:
    """A layer that runs again in the backward pass must attend as it did in the forward pass."""
    vlm = vlm_of("qwen2.5")
    batch = batch_of(vlm)
    branch_attention.install(vlm.model)
    adapter = Autoregressive()
    score = lambda: adapter.logps(vlm.model, batch)  # noqa: E731
    expected = gradients(vlm.model, score)
    vlm.model.train()
    vlm.model.activation_checkpointing_enable()
    runs: list[int] = []
    vlm.model.model.language_model.layers[0].mlp.register_forward_pre_hook(lambda *_: runs.append(1))
    found = gradients(vlm.model, score)
    assert len(runs) == 2
    assert largest_difference(found, expected) < 1e-9


def test_autocast_scores_in_float32_what_the_head_says_in_bfloat16() -> None:
    vlm = vlm_of("llava", torch.float32)
    batch = batch_of(vlm)
    with torch.autocast("cpu", torch.bfloat16):
        expected = naive_logps(vlm.model, batch)
        found = Autoregressive(Tricks(share_prompt=False)).logps(vlm.model, batch)
    for name, scores in found.items():
        assert scores.logps.dtype == torch.float32
        assert (scores.logps - expected[name].logps).abs().max() < 0.05
    mixed_sum(found).backward()
    assert vlm.model.lm_head.weight.grad is not None


def test_rows_do_not_depend_on_the_rows_beside_them() -> None:
    vlm = vlm_of("qwen3")
    branch_attention.install(vlm.model)
    together = Autoregressive().logps(vlm.model, batch_of(vlm))
    for number, row in enumerate(mixed_pairs()):
        alone = Autoregressive().logps(vlm.model, batch_of(vlm, [row]))
        for name, scores in alone.items():
            at = together[name].rows.tolist().index(number)
            assert together[name].sums[at].item() == pytest.approx(scores.sums.item(), abs=1e-9)


def test_weights_count_in_sums_and_means() -> None:
    vlm = vlm_of("llava")
    scores = Autoregressive(Tricks(share_prompt=False)).logps(vlm.model, batch_of(vlm))["chosen"]
    weights = torch.ones(14, dtype=torch.float64)
    weights[2:5] = 3  # "red" of "A red square."
    assert scores.weights[0].tolist() == weights.tolist()
    total = (scores.logps[0] * weights).sum()
    assert scores.sums[0].item() == pytest.approx(total.item())
    assert scores.means[0].item() == pytest.approx((total / 20).item())
    assert scores.lengths.tolist() == [14, 5, 12, 5]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"other": ["kl"]}, "no branch other"),
        ({"chosen": ["entropy"]}, "entropy"),
        ({"chosen": ["kl"]}, "needs the reference"),
        ({"chosen": ["own:visual"]}, "same rows"),
        ({"chosen": ["own:rejected"]}, "another answer"),
    ],
)
def test_what_cannot_be_said_is_refused(asked: dict[str, list[str]], words: str) -> None:
    vlm = vlm_of("llava", torch.float32)
    with pytest.raises(ValueError, match=words):
        Autoregressive(Tricks(share_prompt=False)).logps(vlm.model, batch_of(vlm), asked=asked)
    assert "forward" not in vars(vlm.model.lm_head)
