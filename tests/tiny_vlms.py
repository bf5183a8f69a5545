"""Random tiny vision-language models as transformers folders: the processors and classes that published ones have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAVA = (
    "{% for m in messages %}{{ m['role'] | upper }}: {% for c in m['content'] %}{% if c['type'] == 'image' %}<image>\n"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %} {% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
IDEFICS = (
    "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}:{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
QWEN_MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
QWEN_MARKS += ["<|image_pad|>", "<|video_pad|>"]


def byte_tokenizer(specials: list[str], **names: str) -> Any:
    """A tokenizer of single bytes: any text, no files."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(specials)
    return PreTrainedTokenizerFast(tokenizer_object=inner, **names)


def _qwen_ids(tokenizer: Any) -> dict[str, int]:
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    return {name: tokenizer.convert_tokens_to_ids(mark) for name, mark in names.items()}


def qwen_processor(*, pixels: tuple[int, int] = (28 * 28, 56 * 56), kind: str = "Qwen2VLProcessor") -> Any:
    """Qwen2-VL's or Qwen2.5-VL's processor over bytes, which sees at most 2 x 2 image tokens by default."""
    import transformers
    from transformers import Qwen2VLVideoProcessor
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

    tokenizer = byte_tokenizer(QWEN_MARKS, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    images = Qwen2VLImageProcessor(min_pixels=pixels[0], max_pixels=pixels[1])
    made = getattr(transformers, kind)
    return made(
        image_processor=images, tokenizer=tokenizer, video_processor=Qwen2VLVideoProcessor(), chat_template=CHATML
    )


def qwen_text(vocab_size: int) -> dict[str, Any]:
    """The language model's configuration: two layers of width 32."""
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    return {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "rope_parameters": rope,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def qwen2_config(processor: Any, vocab_size: int) -> Any:
    """A Qwen2-VL of 2 + 2 layers."""
    from transformers import Qwen2VLConfig

    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14}
    vision |= {"spatial_merge_size": 2, "temporal_patch_size": 2}
    return Qwen2VLConfig(text_config=qwen_text(vocab_size), vision_config=vision, **_qwen_ids(processor.tokenizer))


def make_qwen25(folder: Path, *, seed: int = 0) -> Path:
    """Qwen2.5-VL."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    processor = qwen_processor(kind="Qwen2_5_VLProcessor")
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32}
    vision |= {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 56}
    vision["fullatt_block_indexes"] = [1]
    config = Qwen2_5_VLConfig(
        text_config=qwen_text(len(processor.tokenizer)), vision_config=vision, **_qwen_ids(processor.tokenizer)
    )
    return _save(Qwen2_5_VLForConditionalGeneration, config, processor, folder, seed)


def make_qwen2(folder: Path, *, seed: int = 0) -> Path:
    """Qwen2-VL."""
    from transformers import Qwen2VLForConditionalGeneration

    processor = qwen_processor()
    config = qwen2_config(processor, len(processor.tokenizer))
    return _save(Qwen2VLForConditionalGeneration, config, processor, folder, seed)


def make_qwen3(folder: Path, *, seed: int = 0) -> Path:
    """Qwen3-VL."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor, Qwen3VLVideoProcessor
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

    tokenizer = byte_tokenizer(QWEN_MARKS, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    images = Qwen2VLImageProcessor(patch_size=16, min_pixels=32 * 32, max_pixels=64 * 64)
    processor = Qwen3VLProcessor(
        image_processor=images, tokenizer=tokenizer, video_processor=Qwen3VLVideoProcessor(), chat_template=CHATML
    )
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True, "rope_theta": 1e4}
    text = qwen_text(len(tokenizer)) | {"head_dim": 8, "rope_parameters": rope}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32}
    vision |= {"patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2}
    vision |= {"deepstack_visual_indexes": [0], "num_position_embeddings": 16}
    config = Qwen3VLConfig(text_config=text, vision_config=vision, **_qwen_ids(tokenizer))
    return _save(Qwen3VLForConditionalGeneration, config, processor, folder, seed)


def make_llava(folder: Path, *, seed: int = 0) -> Path:
    """LLaVA: a CLIP tower of 2 x 2 patches and a Llama."""
    from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    marks = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
    tokenizer = byte_tokenizer(marks, eos_token="</s>", pad_token="<pad>", bos_token="<s>", unk_token="<unk>")
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=LLAVA,
    )
    config = LlavaConfig(
        vision_config={**_TOWER, "model_type": "clip_vision_model"},
        text_config=_llama_text(tokenizer),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
    )
    return _save(LlavaForConditionalGeneration, config, processor, folder, seed)


def make_llava_next(folder: Path, *, seed: int = 0) -> Path:
    """LLaVA-NeXT: an image is seen whole and in tiles, whose number depends on its shape."""
    from transformers import (
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextImageProcessor,
        LlavaNextProcessor,
    )

    marks = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
    tokenizer = byte_tokenizer(marks, eos_token="</s>", pad_token="<pad>", bos_token="<s>", unk_token="<unk>")
    grid = [[28, 56], [56, 28]]
    crop = {"height": 28, "width": 28}
    processor = LlavaNextProcessor(
        image_processor=LlavaNextImageProcessor(size={"shortest_edge": 28}, crop_size=crop, image_grid_pinpoints=grid),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=LLAVA,
    )
    config = LlavaNextConfig(
        vision_config={**_TOWER, "model_type": "clip_vision_model"},
        text_config=_llama_text(tokenizer),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=grid,
    )
    return _save(LlavaNextForConditionalGeneration, config, processor, folder, seed)


def make_idefics3(folder: Path, *, seed: int = 0) -> Path:
    """Idefics3, as SmolVLM is one: tiles with marks of their own around them, and a connector as the projector."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessor, Idefics3Processor

    marks = ["<|endoftext|>", "<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<image>"]
    marks += ["<global-img>", *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))]
    tokenizer = byte_tokenizer(
        marks, eos_token="<end_of_utterance>", pad_token="<|endoftext|>", bos_token="<|im_start|>"
    )
    processor = Idefics3Processor(
        image_processor=Idefics3ImageProcessor(size={"longest_edge": 56}, max_image_size={"longest_edge": 28}),
        tokenizer=tokenizer,
        image_seq_len=1,
        chat_template=IDEFICS,
    )
    config = Idefics3Config(
        vision_config=_TOWER,
        text_config=_llama_text(tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _save(Idefics3ForConditionalGeneration, config, processor, folder, seed)


_TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_TOWER |= {"image_size": 28, "patch_size": 14}


def _llama_text(tokenizer: Any) -> dict[str, Any]:
    text = qwen_text(len(tokenizer)) | {"model_type": "llama", "pad_token_id": tokenizer.pad_token_id}
    return {**text, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}


def _save(kind: Any, config: Any, processor: Any, folder: Path, seed: int) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config)
    for name, value in model.named_parameters():
        if value.dim() > 1 and "norm" not in name:
            value.data *= 8  # the default deviation of 0.02 gives answers that hardly depend on anything
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


VLMS = {"qwen2": make_qwen2, "qwen2.5": make_qwen25, "qwen3": make_qwen3, "llava": make_llava}
MORE_VLMS = {"llava_next": make_llava_next, "idefics3": make_idefics3}
