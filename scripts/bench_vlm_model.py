"""The random mid-size LLaVA and the rows of scripts/bench_vlm.py."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmpo.answer_pairs import AnswerPair, Turn
from mmpo.records import Prompt, content_id

SIDE, PATCH = 336, 14
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] | upper }}: {% for c in m['content'] %}{% if c['type'] == 'image' %}<image>\n"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{{ '</s>' if m['role'] == 'assistant' else ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)
"""It ends answers itself: where a template does not, mmpo scores an end of text, and TRL whatever the template has."""
WORDS = ("red", "blue", "green", "circle", "square", "above", "below", "small", "large", "left", "is", "a")
QUESTION = "What is to be seen in this image?"


def save_model(folder: Path, vocabulary: int, *, width: int, layers: int) -> Path:
    """A LLaVA of 576 image tokens, whose tokens of text are bytes; the rest of the vocabulary is there to be scored."""
    from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    tokenizer = _byte_tokenizer()
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=TEMPLATE,
    )
    tower = {"model_type": "clip_vision_model", "hidden_size": width // 2, "intermediate_size": 2 * width}
    tower |= {"num_hidden_layers": layers, "num_attention_heads": 4, "image_size": SIDE, "patch_size": PATCH}
    text = {"model_type": "llama", "vocab_size": vocabulary, "hidden_size": width, "intermediate_size": 11 * width // 4}
    text |= {"num_hidden_layers": layers, "num_attention_heads": 8, "num_key_value_heads": 8}
    text |= {"max_position_embeddings": 4096, "pad_token_id": tokenizer.pad_token_id, "tie_word_embeddings": False}
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    patches = (SIDE // PATCH) ** 2
    config = LlavaConfig(vision_config=tower, text_config=text, image_token_index=image_token, image_seq_length=patches)
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _byte_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<unk>", "<s>", "</s>", "<pad>", "<image>"])
    marks = {"eos_token": "</s>", "pad_token": "<pad>", "bos_token": "<s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **marks)


def make_rows(count: int, letters: int) -> list[AnswerPair]:
    """Rows of one image each, and answers of about so many letters (tokens)."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        noise = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).resize((480, 360), Image.Resampling.BICUBIC).save(file, "JPEG", quality=95)
        chosen, rejected = (" ".join(rng.choice(WORDS, letters))[:letters].strip() for _ in range(2))
        turns = (Turn("user", (None, QUESTION)),)
        rows.append(AnswerPair(content_id(number), Prompt(QUESTION), turns, (file.getvalue(),), chosen, rejected))
    return rows
