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
STEPS = 3000
PICTURES = 8  # of a batch, with eight questions each: more steps teach faster than larger ones
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


def train(folder: Path, *, steps: int = STEPS, seed: int = 0, lr: float = 1e-3) -> LlavaForConditionalGeneration:
    """Train the tower in `folder/sight`, then all in `folder/vlm`, resuming there; returns the average weights."""
    data, model = pictures(VARIANTS, seed=21), build()
    packer = Packer(tokenizer(), data)
    tower = model.model.vision_tower
    tower.load_state_dict(vlm_sight.train(tower, data, folder, seed=seed).state_dict())

    def loss_of(model: nn.Module, generator: torch.Generator) -> torch.Tensor:
        return loss_of_batch(model, packer.batch(PICTURES, generator), data)

    average = fit(model, loss_of, folder / "vlm", steps=steps, lr=lr, seed=seed, ema=0.995, every=100)
    assert isinstance(average, LlavaForConditionalGeneration)
    return average
