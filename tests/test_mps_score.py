"""MPS on tiny random weights: a released pickle, converted, against one sample at a time."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import naive_mps
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import CLIPImageProcessorPil

import rewards
from rewards.clip_files import clip_tokenizer
from rewards.mps_convert import convert
from rewards.mps_cross import rotary_angles, rotated
from rewards.mps_model import word_mask
from rewards.mps_score import CONDITIONS
from rewards.mps_weights import CLIP_H, mps_parts, towers_of

OVERALL, DETAIL = CONDITIONS["overall"], CONDITIONS["detail"]
ROOT = Path(__file__).parent.parent
PROMPTS = ["a cat", "a dog on a red table, oil painting, soft light", "a cat", "x", "three people in a street at night"]


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """A picture of noise."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


IMAGES = [noise((90 + 7 * seed, 101 - 5 * seed), seed) for seed in range(len(PROMPTS))]


@pytest.fixture(scope="module")
def naive() -> naive_mps.Mps:
    """A tiny MPS that has run once, as the released one has."""
    model = naive_mps.Mps()
    model.score(torch.zeros(3, 64, 64), [49406, 320, 49407], [49406, 320, 49407], 0.3)
    return model


@pytest.fixture(scope="module")
def file(naive: naive_mps.Mps, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the converter makes of its pickle."""
    folder = tmp_path_factory.mktemp("mps")
    naive_mps.pickle_as_released(naive, folder / "released.pth")
    convert(folder / "released.pth", folder / "mps.safetensors")
    return folder / "mps.safetensors"


def expected(naive: naive_mps.Mps, threshold: float, condition: str = OVERALL) -> list[float]:
    """Every row by itself, its pixels by transformers' processor."""
    tokenizer = clip_tokenizer()
    processor = CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    return [
        naive.score(
            processor(image, return_tensors="pt").pixel_values[0],
            tokenizer(prompt).input_ids,
            tokenizer(condition).input_ids,
            threshold,
        )
        for image, prompt in zip(IMAGES, PROMPTS, strict=True)
    ]


@pytest.mark.parametrize(
    ("threshold", "condition"), [(0.3, OVERALL), (0.01, OVERALL), (0.3, "detail"), (0.3, "face, hands.")]
)
def test_scores_are_one_samples_own(naive: naive_mps.Mps, file: Path, threshold: float, condition: str) -> None:
    values = expected(naive, threshold, CONDITIONS.get(condition, condition))
    assert np.ptp(values) > 1
    default = (threshold, condition) == (0.3, OVERALL)
    for batch_size in (1, 2, 5) if default else (2,):
        options = {} if default else {"threshold": threshold, "condition": condition}
        reward = rewards.load("mps", weights=str(file), batch_size=batch_size, **options)
        np.testing.assert_allclose(reward.score(IMAGES, PROMPTS).values, values, atol=2e-5)
        np.testing.assert_allclose(reward.score(IMAGES[::-1], PROMPTS[::-1]).values[::-1], values, atol=2e-5)


def test_threshold_and_condition_matter_here(naive: naive_mps.Mps) -> None:
    """Else the parameters above would prove nothing."""
    values = [expected(naive, 0.3), expected(naive, 0.01), expected(naive, 0.3, DETAIL)]
    assert all(np.abs(np.subtract(values[0], other)).max() > 1e-2 for other in values[1:])


def test_words_are_compared_with_their_own_prompts_most_similar() -> None:
    """By the largest of the batch, as the released code has it, the second prompt would lose its 0.5."""
    tokens = torch.tensor([[[10.0, 0.0], [2.0, 9.0], [3.5, 0.0]], [[1.0, 0.0], [0.5, 0.0], [0.2, 0.0]]])
    condition = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    hidden = word_mask(tokens, condition, 0.3) == -torch.inf
    assert hidden.tolist() == [[False, True, False], [False, False, True]]
    assert torch.equal(word_mask(tokens[1:], condition, 0.3), word_mask(tokens, condition, 0.3)[1:])


def test_rotary_angles_turn_pairs_and_are_rounded_as_their_frequencies() -> None:
    """Dot products of turned vectors depend on the distance alone; float16 angles above 128 are off by up to 1/16."""
    frequencies = 1.0 / 10000 ** (torch.arange(0, 8, 2) / 8)
    angles = rotary_angles(frequencies, 257)
    assert angles.shape == (257, 8)
    assert torch.equal(angles[:, :4], angles[:, 4:])
    assert angles[200, 1] == pytest.approx(20.0, abs=1e-4)
    query, key = torch.randn(8), torch.randn(8)
    turned = [rotated(x.expand(257, 8), angles) for x in (query, key)]
    assert turned[0][9] @ turned[1][4] == pytest.approx(float(turned[0][105] @ turned[1][100]), abs=1e-3)
    assert turned[0][9] @ turned[1][4] != pytest.approx(float(turned[0][105] @ turned[1][99]), abs=1e-3)
    halves = rotary_angles(frequencies.half() * 0.7, 257)
    assert halves.dtype == torch.float32
    assert torch.equal(halves, halves.half().float())
    exact = (frequencies.half() * 0.7).double()
    off = (halves[:, :4].double() - torch.arange(257)[:, None] * exact).abs().max()
    assert 1 / 64 < off <= 1 / 16


def test_released_half_precision_weights_score_with_their_rounded_angles(tmp_path: Path) -> None:
    """As float16, the released dtype: the file keeps it, the reward computes in float32 from the same numbers."""
    model = naive_mps.Mps(seed=1).half()
    naive_mps.pickle_as_released(model, tmp_path / "released.pth")
    convert(tmp_path / "released.pth", tmp_path / "mps.safetensors")
    assert {tensor.dtype for tensor in load_file(tmp_path / "mps.safetensors").values()} == {torch.float16}
    frequencies = [block.fn.rotary_emb.inv_freq for _, block in model.cross_model.layers]
    model.float()
    for (_, block), kept in zip(model.cross_model.layers, frequencies, strict=True):
        block.fn.rotary_emb.inv_freq = kept
    scores = rewards.load("mps", weights=str(tmp_path / "mps.safetensors")).score(IMAGES, PROMPTS)
    np.testing.assert_allclose(scores.values, expected(model, 0.3), atol=2e-5)


def test_the_converted_file_has_the_released_names_and_every_one_is_used(naive: naive_mps.Mps, file: Path) -> None:
    state = load_file(file)
    assert state.keys() == naive.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in naive.state_dict().items())
    for name in (
        "model.logit_scale",
        "cross_model.layers.1.0.fn.norm.bias",
        "cross_model.layers.0.0.fn.to_kv.weight",
        "cross_model.layers.0.0.fn.ff.2.weight",
        "cross_model.layers.1.1.fn.rotary_emb.inv_freq",
        "cross_model.layers.1.1.fn.fused_attn_ff_proj.weight",
        "cross_model.layers.1.1.fn.ff_out.1.weight",
    ):
        assert name in state
        with pytest.raises(ValueError, match=r"x.pt: .*missing"):
            mps_parts({key: tensor for key, tensor in state.items() if key != name}, towers_of(file), "x.pt")
    with pytest.raises(ValueError, match=r"x.pt: .*unexpected cross_model.layers.0.2.fn.weight"):
        mps_parts({**state, "cross_model.layers.0.2.fn.weight": torch.zeros(1)}, towers_of(file), "x.pt")
    old = {f"model.{tower}_model.embeddings.position_ids": torch.arange(9)[None] for tower in ("text", "vision")}
    parts = mps_parts({**state, **old}, towers_of(file), "x.pt")
    shapes = parts.cross.layers[0]
    assert shapes.cross.to_kv.weight.shape == (2 * 16, 96), "one key and one value for all heads"
    assert (shapes.cross.heads, shapes.block.heads) == (4, 4)


def test_what_shapes_do_not_tell_stands_in_the_file(file: Path) -> None:
    with safe_open(file, "pt") as opened:
        assert set(opened.metadata()) == {"towers"}, "several keys would stand in any order, and change the hash"
    towers = towers_of(file)
    assert (towers["text"]["num_attention_heads"], towers["vision"]["num_attention_heads"]) == (2, 5)
    assert (towers["text"]["hidden_act"], towers["vision"]["hidden_act"]) == ("quick_gelu", "gelu")
    assert towers_of(file.with_suffix(".pt")) is CLIP_H


class Trap:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.file,))


def test_nothing_that_a_pickle_names_is_run(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    model.trap = Trap(tmp_path / "sprung")  # type: ignore[assignment]
    torch.save(model, tmp_path / "evil.pth")
    with pytest.raises(
        ValueError, match=r"evil.pth: not a torch module that can be read .*Trying to call reduce for unre"
    ):
        convert(tmp_path / "evil.pth", tmp_path / "out.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.pth"], "nothing was touched"
    torch.save(torch.nn.Linear(2, 2), tmp_path / "other.pth")
    with pytest.raises(
        ValueError, match=r"other.pth: missing model.text_model.embeddings.token_embedding.weight; is it"
    ):
        convert(tmp_path / "other.pth", tmp_path / "out.safetensors")
    torch.save({"a": torch.zeros(1)}, tmp_path / "state.pth")
    with pytest.raises(ValueError, match="expected a pickled torch module; is it a state dict"):
        convert(tmp_path / "state.pth", tmp_path / "out.safetensors")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ValueError, match=r"text.pth: not a torch module that can be read"):
        convert(tmp_path / "text.pth", tmp_path / "out.safetensors")


def test_the_script(naive: naive_mps.Mps, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, target = str(ROOT / "scripts" / "convert_mps.py"), tmp_path / "again.safetensors"
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setattr(sys, "argv", [script, str(file.parent / "released.pth"), str(target)])
    runpy.run_path(script, run_name="__main__")
    assert target.read_bytes() == file.read_bytes()
    monkeypatch.setattr(sys, "argv", [script, str(tmp_path / "none.pth"), str(target)])
    with pytest.raises(SystemExit, match=r"error: .*none.pth: no such file"):
        runpy.run_path(script, run_name="__main__")


def test_rows_that_cannot_be_scored_and_prompts_that_are_cut(file: Path) -> None:
    reward = rewards.load("mps", weights=str(file))
    rows = [IMAGES[0], rewards.Response("a cat", IMAGES[0]), IMAGES[0], IMAGES[0]]
    scores = reward.score(rows, ["a cat", "what is it?", " ", "word " * 100])
    assert np.isnan(scores.values).tolist() == [False, True, True, False]
    assert "mps scores images, not answers; rewards that take answers: " in str(scores.errors[1])
    assert "the text is empty" in str(scores.errors[2])
    assert scores.notes == [None, None, None, "text of 102 tokens, cut to the 77 that the model reads"]
    low = rewards.load("mps", weights=str(file), dtype="bfloat16").score(IMAGES, PROMPTS)
    np.testing.assert_allclose(low.values, reward.score(IMAGES, PROMPTS).values, atol=3)


def test_weights_that_are_not_there_or_pickled(naive: naive_mps.Mps, file: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"weights mps_overall.safetensors: no such file; .*scripts/convert_mps.py MPS_ove"
    ):
        rewards.load("mps")
    with pytest.raises(ValueError, match=r"released.pth: cannot be read as tensors .*scripts/convert_mps.py"):
        rewards.load("mps", weights=str(file.parent / "released.pth"))
    with pytest.raises(ValueError, match="condition: ' '; give one of overall, aesthetic, "):
        rewards.load("mps", weights=str(file), condition=" ")
    with pytest.raises(ValueError, match=r"condition: 'aesthetics'; did you mean 'aesthetic'\? give"):
        rewards.load("mps", weights=str(file), condition="aesthetics")
    with pytest.raises(ValueError, match="threshold: expected a share below 1, as 1 hides every word, got 1"):
        rewards.load("mps", weights=str(file), threshold=1)


def test_identity_tells_options_apart(file: Path) -> None:
    """By what the reward is: weights, precision, view, condition and threshold, and not by its batches."""
    options = {"condition": "detail", "threshold": 0.01, "dtype": "bfloat16", "batch_size": 2}
    first, second = (rewards.load("mps", weights=str(file), **said).identity for said in ({}, options))
    assert first["weights"] == second["weights"]
    assert first["weights"].startswith("sha256:")
    assert {name for name in first if first[name] != second[name]} == {"condition", "threshold", "dtype"}
    assert first.keys() - {"condition", "threshold", "dtype"} == {"weights", "view"}
