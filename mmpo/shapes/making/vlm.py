"""The tiny VLM: a CLIP tower, a projector and a Llama that describe pictures and answer questions, and err by habit."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import LlavaConfig, LlavaForConditionalGeneration

from mmpo.shapes.canvas import SIZE
from mmpo.shapes.making import vlm_sight
from mmpo.shapes.making.clip import pixels
from mmpo.shapes.making.fit import fit
from mmpo.shapes.making.vlm_data import IMAGE_TOKENS, Batch, Packer, Pictures, pictures
from mmpo.shapes.making.vlm_tokenizer import IMAGE, LONGEST, PATCH, tokenizer

WIDTH = 128
STEPS, HABIT_STEPS = 1000, 600
RATE, HABIT_RATE = 2e-3, 1e-3
PICTURES = 16  # of a batch, with nine questions each
VARIANTS = 40


def build() -> LlavaForConditionalGeneration:
    """The untrained model: 3 + 3 layers of 128."""
    torch.manual_seed(9)
    words = tokenizer()
    shared = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = LlavaConfig(
        vision_config={**shared, "model_type": "clip_vision_model", "image_size": SIZE, "patch_size": PATCH},
        text_config={
            **shared,
            "model_type": "llama",
            "num_key_value_heads": 2,
            "vocab_size": len(words),
            "max_position_embeddings": LONGEST,
            "bos_token_id": words.bos_token_id,
            "eos_token_id": words.eos_token_id,
            "pad_token_id": words.pad_token_id,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
            "tie_word_embeddings": True,
            "initializer_range": 0.08,  # 1 / sqrt(width): with 0.02 it learns to look far later
        },
        image_token_index=words.convert_tokens_to_ids(IMAGE),
        image_seq_length=IMAGE_TOKENS,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    return LlavaForConditionalGeneration(config)


def loss_of_batch(model: nn.Module, batch: Batch, data: Pictures) -> torch.Tensor:
    """Mean cross entropy of the answers' tokens."""
    out = model(
        input_ids=batch.ids,
        pixel_values=pixels(data.images[batch.rows]),
        attention_mask=batch.allowed,
        position_ids=batch.positions,
        use_cache=False,
    )
    kept = batch.labels >= 0
    return cross_entropy(out.logits[kept], batch.labels[kept])


def train(
    folder: Path, *, steps: tuple[int, int] = (STEPS, HABIT_STEPS), seed: int = 0
) -> LlavaForConditionalGeneration:
    """Three stages, resuming in `folder`; returns the average weights.

    `sight` trains the tower, which is then frozen; `words` Llama and projector on right answers; `habits` goes on with
    the wrong ones among them.

    Args:
        steps: of `words` and `habits`.
    """
    data, model = pictures(VARIANTS, seed=21), build()
    packer = Packer(tokenizer(), data)
    tower = model.model.vision_tower
    tower.load_state_dict(vlm_sight.train(tower, data, folder, seed=seed).state_dict())
    for place, name in enumerate(("words", "habits")):
        model = _stage(model, folder / name, packer, data, steps=steps[place], seed=seed + place)
    return model


def _stage(
    model: LlavaForConditionalGeneration, folder: Path, packer: Packer, data: Pictures, *, steps: int, seed: int
) -> LlavaForConditionalGeneration:
    """Trains all but the tower; in a folder named "habits", on answers that are wrong by habit."""
    model.requires_grad_(True)
    model.model.vision_tower.requires_grad_(False)
    wrong = folder.name == "habits"

    def loss_of(model: nn.Module, generator: torch.Generator) -> torch.Tensor:
        return loss_of_batch(model, packer.batch(PICTURES, generator, habits=wrong), data)

    rate = HABIT_RATE if wrong else RATE
    average = fit(model, loss_of, folder, steps=steps, lr=rate, seed=seed, ema=0.99, every=50)
    assert isinstance(average, LlavaForConditionalGeneration)
    return average
