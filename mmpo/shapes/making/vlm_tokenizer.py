"""Builds tokenizer and processor of the tiny VLM. The result is shipped and frozen; nothing rebuilds it at run time."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CLIPImageProcessor, LlavaProcessor, PreTrainedTokenizerFast

from mmpo.shapes.answers import answer_words
from mmpo.shapes.canvas import SIZE
from mmpo.shapes.grammar import WORDS
from mmpo.shapes.making.tokenizer import merges_of
from mmpo.shapes.questions import TEMPLATES, all_questions

START, END, PAD, IMAGE = "<s>", "</s>", "<pad>", "<image>"
PATCH = 8
LONGEST = 512  # tokens of a conversation
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ ' ASSISTANT: ' }}"
    "{% else %}{{ message['role'] | upper }}{{ ': ' }}{% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>\\n' }}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, so any text goes through; every word of questions and answers is one token."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    texts = ["USER: ", " ASSISTANT:", "SYSTEM", *(f" {word}" for word in (*WORDS, *_answers())), *WORDS, ", with a"]
    texts += [question.text for question in all_questions()]
    words = sorted({word for text in texts for word, _ in split.pre_tokenize_str(text)})
    pairs = merges_of([list(word) for word in words])
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = dict.fromkeys([START, END, PAD, IMAGE, *letters, *(left + right for left, right in pairs)])
    inner = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=pairs))
    inner.pre_tokenizer, inner.decoder = split, decoders.ByteLevel()
    inner.add_special_tokens([START, END, PAD, IMAGE])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        model_max_length=LONGEST,
        clean_up_tokenization_spaces=False,
        extra_special_tokens={"image_token": IMAGE},
    )


def _answers() -> list[str]:
    return [word for kind in TEMPLATES if kind != "describe" for word in answer_words(kind)]


def processor() -> LlavaProcessor:
    """32×32 pictures to [-1, 1], 16 image tokens each."""
    return LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": SIZE},
            crop_size={"height": SIZE, "width": SIZE},
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
        ),
        tokenizer=tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=TEMPLATE,
    )
