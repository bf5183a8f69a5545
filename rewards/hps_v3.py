"""HPSv3: human preference from a Qwen2-VL with a head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
import torch

from rewards.devices import device_of, dtype_of
from rewards.hps_v3_model import Positions, load_hps_v3
from rewards.hps_v3_prompt import REWARD_MARK, asked
from rewards.image_rows import finite_or_failed, refused_answers
from rewards.question import Question
from rewards.scores import Candidate, Scores
from rewards.smart_resize import Refused, SmartResize
from rewards.staged import score_by_views
from rewards.vlm_inputs import VlmInputs
from rewards.weight_files import weight_file
from rewards.weights_hash import weights_identity


class HPSv3:
    """μ of the preference that HPSv3 gives to an image for its prompt; the part `sigma` is how unsure it is.

    Args:
        weights: HPSv3's file: local, or OWNER/NAME/FILE on the hub.
        base: hub name or folder of the Qwen2-VL it was trained from, for its config and processor alone.
        revision: of the weights on the hub.
        device: of the model.
        dtype: of the backbone; the head is float32.
        batch_size: rows at once.
        positions: "sequential" as the authors' code, or "mrope".
    Raises:
        ValueError: nothing to load there, or something else.
    References:
        Ma et al., HPSv3: Towards Wide-Spectrum Human Preference Score, arXiv 2508.03789.
    """

    name = "hpsv3"

    def __init__(
        self,
        weights: str = "MizzenAI/HPSv3/HPSv3.safetensors",
        base: str = "Qwen/Qwen2-VL-7B-Instruct",
        revision: str | None = None,
        device: str | None = None,
        dtype: str = "bfloat16",
        batch_size: int = 8,
        positions: Positions = "sequential",
    ) -> None:
        if positions not in get_args(Positions):
            raise ValueError(f"positions: expected one of {', '.join(get_args(Positions))}, got {positions!r}")
        precision, self._device, self._positions = dtype_of(dtype), device_of(device), positions
        config, processor = _base(base)
        file = weight_file(weights, revision)
        if file is None:
            raise ValueError(f"weights {weights}: a folder or a repository; name HPSv3's file in it")
        processor.tokenizer.add_tokens([REWARD_MARK], special_tokens=True)
        self._mark = processor.tokenizer.convert_tokens_to_ids(REWARD_MARK)
        self._model = load_hps_v3(file, config, device=self._device, dtype=precision)
        if self._mark >= config.text_config.vocab_size:
            raise ValueError(
                f"base {base}: its tokenizer gives {REWARD_MARK} the number {self._mark}, beyond the "
                f"{config.text_config.vocab_size} tokens of the weights; give the base that they were trained from"
            )
        limit = config.text_config.max_position_embeddings
        self._inputs = VlmInputs(processor, limit=limit, image_options={"do_resize": False})
        self.view, self.batch_size = SmartResize(), batch_size
        self._weights, self._revision, self._base, self._dtype = weights, revision, base, dtype

    @property
    def identity(self) -> Mapping[str, str]:
        """What its scores depend on."""
        where, base = weights_identity(self._weights, self._revision), weights_identity(self._base)
        rest = {"view": repr(self.view), "positions": self._positions}
        return {"weights": where, "base": base, "dtype": self._dtype, **rest}

    def score(self, candidates: Sequence[Candidate], prompts: Sequence[str]) -> Scores:
        """See `rewards.scores.Reward.score`; a text answer is a failed row."""
        return score_by_views(self, candidates, prompts)

    @torch.inference_mode()
    def score_views(self, views: Sequence[Any], prompts: Sequence[str], responses: Sequence[str | None]) -> Scores:
        """See `rewards.scores.Staged.score_views`."""
        refused = refused_answers(self.name, responses)
        faults = [said or self._fault(*row) for said, *row in zip(refused, views, prompts, strict=True)]
        rows = [row for row, fault in enumerate(faults) if fault is None]
        values = np.full((2, len(prompts)), np.nan, np.float32)
        encoded = self._inputs.encode([Question((views[r], asked(prompts[r]))) for r in rows], side="right")
        for row, fault in zip(rows, encoded.faults, strict=True):
            faults[row] = fault
        if encoded.batch is not None:
            here = encoded.batch["input_ids"] == self._mark
            assert (here.sum(1) == 1).all(), "one reward token a row: prompts that hold the mark were refused"
            out = self._model(encoded.batch.to(self._device), here.int().argmax(1).to(self._device), self._positions)
            kept = [rows[row] for row in encoded.rows]
            values[:, kept] = torch.stack([out[:, 0], out[:, 1].exp()]).cpu().numpy()
        mean, errors = finite_or_failed(values[0], faults)
        return Scores(mean, errors, {"sigma": values[1]})

    def _fault(self, view: Any, prompt: str) -> str | None:
        return view.why if isinstance(view, Refused) else self._inputs.fault(prompt)


def _base(base: str) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoProcessor

    try:
        config, processor = AutoConfig.from_pretrained(base), AutoProcessor.from_pretrained(base)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"base {base}: no config and processor of a Qwen2-VL found there ({str(error).splitlines()[0]}); "
            "give Qwen/Qwen2-VL-7B-Instruct or a folder with its small files"
        ) from None
    if config.model_type != "qwen2_vl":
        raise ValueError(f"base {base}: a {config.model_type}, HPSv3 is a qwen2_vl; give Qwen/Qwen2-VL-7B-Instruct")
    return config, processor
