"""A trick that a model does not take is found before a run relies on it, and left out with the reason."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from vlm_rows import batch_of, mixed_pairs, pair, png, vlm_of

from mmpo.adapters import branch_attention
from mmpo.adapters.autoregressive import Autoregressive, Tricks
from mmpo.adapters.naive_tokens import naive_logps
from mmpo.adapters.trick_check import check_tricks


@pytest.mark.parametrize("family", ["llava", "qwen2", "qwen2.5", "qwen3", "llava_next", "idefics3"])
def test_known_models_take_every_trick(family: str) -> None:
    vlm = vlm_of(family, torch.float32)
    vlm.model.train()
    assert check_tricks(vlm.model, batch_of(vlm)) == Tricks()
    assert vlm.model.training


def test_bfloat16_is_given_its_rounding() -> None:
    vlm = vlm_of("qwen2.5", torch.bfloat16)
    assert check_tricks(vlm.model, batch_of(vlm)) == Tricks()


def _no_encoder_outputs(model: Any) -> None:
    own = model.forward

    def forward(*args: Any, **options: Any) -> Any:
        if "mm_encoder_outputs" in options:
            raise TypeError("forward() got an unexpected keyword argument 'mm_encoder_outputs'")
        return own(*args, **options)

    model.forward = forward


def _scaled_logits(model: Any) -> None:
    own = model.forward

    def forward(*args: Any, **options: Any) -> Any:
        out = own(*args, **options)
        out.logits = torch.tanh(out.logits / 5) * 5  # as Gemma caps them
        return out

    model.forward = forward


def _capped_logits(model: Any) -> None:
    """Weakly, so that bfloat16's rounding hides it."""
    own = model.forward

    def forward(*args: Any, **options: Any) -> Any:
        out = own(*args, **options)
        out.logits = torch.tanh(out.logits / 30) * 30
        return out

    model.forward, model.config.text_config.final_logit_softcapping = forward, 30.0


def test_logits_that_are_changed_behind_the_head_are_seen_where_rounding_hides_them() -> None:
    vlm = vlm_of("llava", torch.bfloat16)
    batch = batch_of(vlm)
    _capped_logits(vlm.model)
    with pytest.warns(UserWarning, match=r"chunks.*final_logit_softcapping"):
        assert check_tricks(vlm.model, batch).vocabulary == "scored"


def _other_head(model: Any) -> None:
    class Head(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x)

    head = model.lm_head
    head.__class__ = Head


def _sliding(model: Any) -> None:
    model.config.text_config.layer_types = ["sliding_attention", "full_attention"]


def _eager(model: Any) -> None:
    model.set_attn_implementation({"text_config": "eager"})


def _relative(model: Any) -> None:
    """Positions that count every token of the row, so that an answer behind another one is elsewhere."""
    rotary = model.model.language_model.rotary_emb
    own = rotary.forward

    def forward(x: torch.Tensor, position_ids: torch.Tensor) -> Any:
        return own(x, torch.arange(x.shape[1]).expand_as(position_ids))

    rotary.forward = forward


@pytest.mark.parametrize(
    ("spoil", "words", "left"),
    [
        (_no_encoder_outputs, "share_images.*mm_encoder_outputs", Tricks(share_images=False)),
        (_scaled_logits, "chunks.*differ", Tricks(vocabulary="scored")),
        (_other_head, "chunks.*plain linear", Tricks(vocabulary="scored")),
        (_sliding, "share_prompt.*sliding_attention", Tricks(share_prompt=False)),
        (_eager, "share_prompt.*eager", Tricks(share_prompt=False)),
        (_relative, "share_prompt.*differ", Tricks(share_prompt=False)),
    ],
)
def test_a_model_that_lacks_a_trick_goes_without_it(spoil: Any, words: str, left: Tricks) -> None:
    vlm = vlm_of("llava", torch.float32)
    batch = batch_of(vlm)
    spoil(vlm.model)
    with pytest.warns(UserWarning, match=words):
        found = check_tricks(vlm.model, batch)
    assert found == left
    expected = naive_logps(vlm.model, batch)
    for name, scores in Autoregressive(found).logps(vlm.model, batch).items():
        assert (scores.logps - expected[name].logps).abs().max() < 1e-3
    if not left.share_prompt:
        assert vlm.model.config.text_config._attn_implementation != branch_attention.NAME


def test_a_trick_that_the_rows_do_not_use_is_not_trusted() -> None:
    vlm = vlm_of("llava", torch.float32)
    batch = batch_of(vlm, [pair()], branches=("chosen",))
    with pytest.warns(UserWarning, match="none of the rows") as said:
        assert check_tricks(vlm.model, batch) == Tricks(share_images=False, share_prompt=False)
    assert len(said) == 2


def test_what_is_not_wanted_is_not_tried() -> None:
    vlm = vlm_of("llava", torch.float32)
    wanted = Tricks(share_images=False, vocabulary="all", share_prompt=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_tricks(vlm.model, batch_of(vlm), wanted) == wanted


def test_scores_that_depend_on_other_rows_are_fatal() -> None:
    vlm = vlm_of("llava", torch.float32)
    own = vlm.model.forward

    def forward(*args: Any, **options: Any) -> Any:
        out = own(*args, **options)
        out.logits = out.logits * len(options["input_ids"])
        return out

    vlm.model.forward = forward
    with pytest.raises(ValueError, match="depend on the rows beside them"):
        check_tricks(vlm.model, batch_of(vlm))


def test_what_has_no_memory_left_is_not_called_a_fault_of_the_model() -> None:
    vlm = vlm_of("llava", torch.float32)
    batch, own, calls = batch_of(vlm), vlm.model.forward, []

    def forward(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) > len(batch.branches):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return own(*args, **options)

    vlm.model.forward = forward
    with pytest.raises(torch.OutOfMemoryError):
        check_tricks(vlm.model, batch)


def test_the_naive_path_makes_no_second_copy_of_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    vlm = vlm_of("llava", torch.bfloat16)
    batch, own, sizes = batch_of(vlm), torch.Tensor.log_softmax, list[int]()
    monkeypatch.setattr(torch.Tensor, "log_softmax", lambda x, dim: sizes.append(x[..., 0].numel()) or own(x, dim))
    naive_logps(vlm.model, batch)
    assert sum(sizes) == sum(int(branch.scored.sum()) for branch in batch.branches.values())


def test_generation_is_the_same_with_the_attention_of_branches() -> None:
    """A batch padded on the left goes through transformers' own mask."""
    vlm = vlm_of("qwen2.5", torch.float32)
    image = png("red")
    from mmpo.data.images import decode

    texts = [
        vlm.processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}],
            add_generation_prompt=True,
        )
        for text in ("What?", "What is in this picture?")
    ]
    inputs = vlm.processor(
        text=texts, images=[[decode(image)]] * 2, padding=True, padding_side="left", return_tensors="pt"
    )
    before = vlm.model.generate(**inputs, max_new_tokens=8, do_sample=False)
    branch_attention.install(vlm.model)
    assert vlm.model.generate(**inputs, max_new_tokens=8, do_sample=False).equal(before)
    branch_attention.remove(vlm.model)
    assert vlm.model.config.text_config._attn_implementation == "sdpa"


def test_every_answer_of_a_row_stands_behind_one_conversation() -> None:
    from mmpo.adapters.token_layout import lay_out

    vlm = vlm_of("llava", torch.float32)
    batch = batch_of(vlm, mixed_pairs(), branches=("chosen", "rejected", "visual", "visual_rejected"))
    layout = lay_out(batch, shared=True)
    assert len(layout.ids) == 4 + 2  # four rows, two of them again under their rejected images
    assert layout.segments.max() == 2
    alone = lay_out(batch, shared=False)
    assert len(alone.ids) == 4 + 4 + 2 + 2
    assert not alone.shares
    assert layout.real.sum() < alone.real.sum()
