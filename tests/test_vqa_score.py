"""VQAScore on tiny random vision-language models of four families, through the loading that published ones take."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_vlms import VLMS, byte_tokenizer, make_llava
from transformers import AutoModelForImageTextToText, AutoProcessor

import rewards
from rewards.question import Question, filled
from rewards.vlm_model import load_vlm
from rewards.vqa_score import VQAScore
from rewards.yes_no import yes_and_no

PROMPTS = ["a cat", 'a sign that says "{}" or {question}', "a dog on a red table, " * 9, "x"]
SIZES = [(40, 60), (60, 40), (200, 31), (28, 28)]


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """A picture of noise."""
    shape = (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


IMAGES = [noise(size, seed) for seed, size in enumerate(SIZES)]


@pytest.fixture(scope="session")
def vlms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each family."""
    folder = tmp_path_factory.mktemp("vlms")
    return {name: make(folder / name) for name, make in VLMS.items()}


def naive(folder: Path, image: Image.Image, text: str, dtype: str = "float32") -> tuple[float, float]:
    """P(yes), P(no) of one question alone, unpadded, from all logits of an ordinary forward."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype).eval()
    processor = AutoProcessor.from_pretrained(folder)
    content = [{"type": "image", "image": image}, {"type": "text", "text": text}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    ).to("cpu", model.dtype)
    with torch.no_grad():
        shares = model(**inputs).logits[0, -1].double().softmax(-1)
    return tuple(float(sum(shares[processor.tokenizer(a).input_ids[0]] for a in word)) for word in ("Yy", "Nn"))


@pytest.mark.parametrize("family", VLMS)
def test_the_score_is_the_share_of_yes_whatever_the_batch(vlms: dict[str, Path], family: str) -> None:
    texts = [f'Does this figure show "{prompt}"? Please answer yes or no.' for prompt in PROMPTS]
    expected = [naive(vlms[family], image, text) for image, text in zip(IMAGES, texts, strict=True)]
    assert len({round(yes, 4) for yes, _ in expected}) == 4, "the model answers everything alike"
    for batch_size in (1, 3, 4):
        reward = rewards.load("vqascore", weights=str(vlms[family]), dtype="float32", batch_size=batch_size)
        scores = reward.score(IMAGES, PROMPTS)
        assert scores.errors == [None] * 4
        np.testing.assert_allclose(scores.values, [yes for yes, _ in expected], atol=1e-6)
        np.testing.assert_allclose(scores.parts["no"], [no for _, no in expected], atol=1e-6)


def test_bfloat16_rounds_the_model_and_not_the_softmax(vlms: dict[str, Path]) -> None:
    """Against the softmax in float64 of the same bfloat16 logits; one in bfloat16 is off by its 0.4 %."""
    reward = rewards.load("vqascore", weights=str(vlms["llava"]), batch_size=1)
    scores = reward.score(IMAGES, PROMPTS)
    for row, (image, prompt) in enumerate(zip(IMAGES, PROMPTS, strict=True)):
        text = f'Does this figure show "{prompt}"? Please answer yes or no.'
        yes, no = naive(vlms["llava"], image, text, "bfloat16")
        assert (scores.values[row], scores.parts["no"][row]) == pytest.approx((yes, no), rel=1e-5)


@pytest.mark.parametrize("family", VLMS)
def test_padding_left_or_right_is_the_same(vlms: dict[str, Path], family: str) -> None:
    model = load_vlm(str(vlms[family]), dtype="float32")
    asked = [Question((image, prompt)) for image, prompt in zip(IMAGES, PROMPTS, strict=True)]
    right, left = (model.next_token(asked, side=side)[0] for side in ("right", "left"))
    torch.testing.assert_close(left, right, atol=1e-5, rtol=0)
    assert (right[0] - right[2]).abs().max() > 0.01


def test_an_answer_is_asked_about(vlms: dict[str, Path]) -> None:
    reward = rewards.load("vqascore", weights=str(vlms["llava"]), dtype="float32")
    question, answer = "how many {answer}?", 'two, "{question}"'
    scores = reward.score([rewards.Response(answer, IMAGES[0])], [question])
    text = (
        f'A question about this image: "{question}"\nAn answer to it: "{answer}"\n'
        "Is this answer right? Please answer yes or no."
    )
    assert scores.values[0] == pytest.approx(naive(vlms["llava"], IMAGES[0], text)[0], abs=1e-6)


def test_rows_that_cannot_be_asked_do_not_disturb_the_others(vlms: dict[str, Path]) -> None:
    for family, mark in (("qwen2.5", "<|im_end|>"), ("llava", "<image>")):
        reward = rewards.load("vqascore", weights=str(vlms[family]), dtype="float32", batch_size=8)
        prompts = ["a cat", " ", f"a cat {mark} no", "word " * 1000, "a dog"]
        scores = reward.score([IMAGES[0]] * 5, prompts)
        assert np.isnan(scores.values).tolist() == [False, True, True, True, False]
        assert np.isnan(scores.parts["no"]).tolist() == [False, True, True, True, False]
        said = [error or "" for error in scores.errors]
        assert "empty" in said[1]
        assert mark in said[2]
        assert "tokens with the image's, the model reads 4096" in said[3]
        alone = [reward.score([IMAGES[0]], [prompt]).values[0] for prompt in ("a cat", "a dog")]
        np.testing.assert_allclose(scores.values[[0, 4]], alone, atol=1e-6)


def test_an_image_that_the_processor_refuses_is_its_own_fault(vlms: dict[str, Path]) -> None:
    reward = rewards.load("vqascore", weights=str(vlms["qwen2"]), dtype="float32")
    scores = reward.score([noise((4200, 10)), IMAGES[0], noise((4200, 10))], ["a cat"] * 3)
    assert np.isnan(scores.values).tolist() == [True, False, True]
    assert "processor refuses it: absolute aspect ratio" in (scores.errors[0] or "")
    alone = reward.score([noise((4200, 10))], ["a cat"])
    assert np.isnan(alone.values).all()


def test_a_probability_that_is_no_number_says_so(vlms: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    reward = rewards.load("vqascore", weights=str(vlms["llava"]), dtype="float32")
    real = reward._vlm.next_token
    monkeypatch.setattr(reward._vlm, "next_token", lambda asked: (real(asked)[0] * np.nan, *real(asked)[1:]))
    scores = reward.score(IMAGES[:1], ["a cat"])
    assert scores.errors == ["the model's score is nan; in float16 try bfloat16 or float32"]


class Spaced:
    """A tokenizer that gives words their own tokens, and the space one too."""

    words = ("Yes", "yes", "No", "no", " ", "<")

    def __call__(self, text: str, add_special_tokens: bool) -> object:
        ids = [self.words.index(" ")] if text.startswith(" ") else []
        return type("Ids", (), {"input_ids": [*ids, self.words.index(text.strip())]})

    def decode(self, ids: list[int]) -> str:
        return "".join(self.words[number] for number in ids)


def test_tokens_of_yes_count_once_and_a_bare_space_not_at_all() -> None:
    assert yes_and_no(Spaced()) == ([0, 1], [2, 3])
    tokenizer = byte_tokenizer(["<pad>"], pad_token="<pad>")
    y, n = ([tokenizer(letter).input_ids[0] for letter in letters] for letters in ("Yy", "Nn"))
    assert yes_and_no(tokenizer) == (sorted(y), sorted(n))


def test_options_are_refused_early(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"template: \{\} must stand in it"):
        VQAScore(template="is it right?")
    with pytest.raises(ValueError, match=r"answer_template: \{answer\} must"):
        VQAScore(answer_template="{question}?")
    with pytest.raises(ValueError, match=r"weights .*nothing: no such file or folder on this machine"):
        VQAScore(weights=str(tmp_path / "nothing"))
    folder = make_llava(tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="no chat template; take a chat or instruct model"):
        VQAScore(weights=str(folder))


def test_half_a_model_is_refused(vlms: dict[str, Path], tmp_path: Path) -> None:
    """transformers would fill what is missing with random numbers; scores would look like scores."""
    shutil.copytree(vlms["llava"], tmp_path / "half")
    file = tmp_path / "half" / "model.safetensors"
    state = load_file(file)
    gone = next(name for name in state if "self_attn.q_proj" in name)
    save_file({name: tensor for name, tensor in state.items() if name != gone}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"weights .*half: not those of this model: missing .*q_proj"):
        VQAScore(weights=str(tmp_path / "half"))


def test_values_are_not_filled_again() -> None:
    assert filled("{a}{b}{c}", {"a": "{b}", "b": "{a}"}) == "{b}{a}{c}"
