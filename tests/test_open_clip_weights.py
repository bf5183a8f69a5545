"""open_clip's weights as a transformers CLIP, against open_clip's own model; and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_clips import ARCHITECTURE, open_clip_model
from torch import Tensor

from rewards.open_clip_model import simple_ids
from rewards.open_clip_weights import architecture_of, converted, transformers_config

TEXTS = ["a cat", "a red circle above a blue square", "it's &amp; <b>bold</b>", "word " * 300]


def pixels() -> Tensor:
    """Random images, as the model's input."""
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def embeddings(model: Any) -> tuple[Tensor, Tensor]:
    """Images' and texts' embeddings of a converted model, texts as short as they come."""
    tokenizer, texts = simple_ids(), []
    with torch.inference_mode():
        for text in TEXTS:
            ids = tokenizer(text).input_ids
            ids = ids if len(ids) <= 77 else [*ids[:76], ids[-1]]
            texts.append(model.get_text_features(input_ids=torch.tensor([ids])).pooler_output)
        return model.get_image_features(pixel_values=pixels()).pooler_output, torch.cat(texts)


@pytest.mark.parametrize("quick_gelu", [False, True], ids=["gelu", "quick_gelu"])
def test_the_converted_model_is_the_same_function(quick_gelu: bool) -> None:
    """Texts by open_clip's own tokenizer, padding and cut; weights in which no two may be exchanged."""
    import open_clip

    source = open_clip_model(quick_gelu=quick_gelu)
    with torch.inference_mode():
        images = source.encode_image(pixels())
        texts = source.encode_text(open_clip.get_tokenizer("ViT-H-14")(TEXTS))
    target = converted(source.state_dict(), {**ARCHITECTURE, "quick_gelu": quick_gelu}, "x.pt")
    ours = embeddings(target.eval())
    for mine, theirs in zip(ours, (images, texts), strict=True):
        scale = theirs.abs().max()
        assert (mine - theirs).abs().max() / scale <= 1e-6
        assert torch.cosine_similarity(mine, theirs).min() >= 1 - 1e-6
    assert target.logit_scale.shape == ()
    assert target.logit_scale.item() == pytest.approx(4.6052)
    wrong = embeddings(converted(source.state_dict(), {**ARCHITECTURE, "quick_gelu": not quick_gelu}, "x.pt").eval())
    for mine, theirs in zip(wrong, (images, texts), strict=True):
        assert (mine - theirs).abs().max() / theirs.abs().max() > 1e-3


def test_nothing_of_the_model_is_left_undefined() -> None:
    """It is built without numbers; each must have come from the file, or be counted."""
    model = converted(open_clip_model().state_dict(), ARCHITECTURE, "x.pt")
    assert not [name for name, value in [*model.named_parameters(), *model.named_buffers()] if value.is_meta]
    assert torch.equal(model.vision_model.embeddings.position_ids, torch.arange(17)[None])


def test_what_is_missing_unexpected_or_of_another_shape_is_named() -> None:
    state = open_clip_model().state_dict()
    cut = {name: value for name, value in state.items() if name != "visual.ln_post.bias"}
    with pytest.raises(ValueError, match=r"missing vision_model\.post_layernorm\.bias$"):
        converted(cut, ARCHITECTURE, "x.pt")
    for odd in ("visual.trunk.norm.weight", "transformer.resblocks.0.ls_1.gamma", "attn_mask"):
        with pytest.raises(ValueError, match=f"unexpected {odd}$"):
            converted({**state, odd: torch.ones(1)}, ARCHITECTURE, "x.pt")
    deeper = {**ARCHITECTURE, "text_cfg": {**ARCHITECTURE["text_cfg"], "layers": 3}}
    with pytest.raises(ValueError, match=r"weights x\.pt: .*missing text_model\.encoder\.layers\.2\..* and 8 more"):
        converted(state, deeper, "x.pt")
    wider = {**ARCHITECTURE, "vision_cfg": {**ARCHITECTURE["vision_cfg"], "patch_size": 16}}
    with pytest.raises(ValueError, match=r"patch_embedding\.weight is \[64, 3, 8, 8\] and should be \[64, 3, 16, 16\]"):
        converted(state, wider, "x.pt")


def test_a_parallel_trainings_prefix_is_left_away() -> None:
    state = open_clip_model().state_dict()
    model = converted({f"module.{name}": value for name, value in state.items()}, ARCHITECTURE, "x.pt")
    assert torch.equal(model.visual_projection.weight, state["visual.proj"].T)


def test_architectures_by_name() -> None:
    """Figures of CLIP-H/14 and of CLIP-L/14 as OpenAI trained it, from their papers' tables and open_clip's configs."""
    huge = transformers_config(architecture_of("ViT-H-14"))
    assert (huge.projection_dim, huge.vision_config.hidden_act) == (1024, "gelu")
    vision, text = huge.vision_config, huge.text_config
    assert (vision.hidden_size, vision.num_hidden_layers, vision.num_attention_heads) == (1280, 32, 16)
    assert (vision.intermediate_size, vision.patch_size, vision.image_size) == (5120, 14, 224)
    assert (text.hidden_size, text.num_hidden_layers, text.num_attention_heads) == (1024, 24, 16)
    assert (text.intermediate_size, text.max_position_embeddings, text.hidden_act) == (4096, 77, "gelu")
    large = transformers_config(architecture_of("ViT-L-14-quickgelu"))
    assert (large.vision_config.hidden_act, large.text_config.hidden_act) == ("quick_gelu", "quick_gelu")
    assert (large.projection_dim, large.vision_config.num_attention_heads) == (768, 16)


@pytest.mark.parametrize(
    ("named", "says"),
    [
        (None, "does not say what it is of; give open_clip's name of it, such as ViT-H-14"),
        ("ViT-H14", r"open_clip knows no 'ViT-H14'; did you mean 'ViT-H-14'\?"),
        ("convnext_base", r"convnext_base is not a plain CLIP \(timm_.*\); run it with backend: open_clip"),
        ("xlm-roberta-base-ViT-B-32", r"not a plain CLIP \(hf_"),
        ({"embed_dim": 3}, "expected a name, or a config with embed_dim, vision_cfg and text_cfg"),
        ({**ARCHITECTURE, "custom_text": True}, r"this config is not a plain CLIP \(custom_text\)"),
    ],
)
def test_other_architectures_are_refused(named: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        architecture_of(named)
