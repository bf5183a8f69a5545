"""The two sides of scripts/bench_vlm.py: each trains a few steps and says when they ended."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from mmpo.answer_pairs import AnswerPair
from mmpo.data.answer_tokens import AnswerEncoder, EncodedPair
from mmpo.models.vlm import load_vlm

RANK, BETA, LR = 16, 0.1, 1e-4
Ends = tuple[float, float]
"""When a step ended: by the clock, and in seconds of the processor."""
LAYERS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def count_tokens(folder: str, rows: Sequence[AnswerPair]) -> list[int]:
    """Per row the tokens of both answers, each with its prompt and image."""
    from transformers import AutoProcessor

    encoder = AnswerEncoder(AutoProcessor.from_pretrained(folder))
    return [sum(len(branch.ids) for branch in _encoded(encoder, row).branches.values()) for row in rows]


def _encoded(encoder: AnswerEncoder, row: AnswerPair) -> EncodedPair:
    found = encoder.encode(row)
    assert isinstance(found, EncodedPair), found
    return found


def mmpo_side(
    given: argparse.Namespace, rows: Sequence[AnswerPair], loaded: Callable[[], None]
) -> tuple[list[Ends], float]:
    """Our adapter with what its self-check found good, in a loop of the least that a step needs."""
    from mmpo.adapters.autoregressive import Autoregressive
    from mmpo.adapters.reference import AdaptersOff
    from mmpo.adapters.trick_check import check_tricks
    from mmpo.data.answer_collate import collate_answers
    from mmpo.losses import PairLogps
    from mmpo.losses.pairwise import dpo
    from mmpo.models.vlm_lora import add_vlm_lora

    vlm = load_vlm(given.folder, dtype=torch.float32)
    add_vlm_lora(vlm.model, rank=RANK, targets="language", seed=0)
    encoder = AnswerEncoder(vlm.processor)
    first = collate_answers([_encoded(encoder, row) for row in rows[: given.batch]], encoder.pad_id)
    adapter = Autoregressive(check_tricks(vlm.model, first))
    encoder = AnswerEncoder(vlm.processor)  # which has seen none of the images
    reference = AdaptersOff(vlm.model)
    vlm.model.train()
    trained = [p for p in vlm.model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=LR)
    loaded()
    ends: list[Ends] = []
    said: list[float] = []
    for start in range(0, len(rows), given.batch):
        part = [_encoded(encoder, row) for row in rows[start : start + given.batch]]
        batch = collate_answers(part, encoder.pad_id)
        features = adapter.shared_features(vlm.model, batch)
        with reference.active() as frozen, torch.no_grad():
            base = adapter.logps(frozen, batch, features=features)
        policy = adapter.logps(vlm.model, batch, features=features)
        sides = [PairLogps(one["chosen"].sums, one["rejected"].sums) for one in (policy, base)]
        dpo(sides[0], sides[1], beta=BETA).mean().backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        said.append(float(policy["chosen"].sums.mean()))
        ends.append((time.perf_counter(), time.process_time()))
    return ends, said[0]


def trl_side(
    given: argparse.Namespace, rows: Sequence[AnswerPair], loaded: Callable[[], None]
) -> tuple[list[Ends], float]:
    """TRL's own trainer; what is not named here is its default."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import DPOConfig, DPOTrainer

    ends: list[Ends] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *given: Any, **more: Any) -> None:
            loaded()

        def on_step_end(self, *given: Any, **more: Any) -> None:
            ends.append((time.perf_counter(), time.process_time()))

    vlm = load_vlm(given.folder, dtype=torch.float32)
    config = DPOConfig(
        output_dir=f"{given.folder}/trl",
        per_device_train_batch_size=given.batch,
        max_steps=len(rows) // given.batch,
        learning_rate=LR,
        lr_scheduler_type="constant",
        beta=BETA,
        max_length=None,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        train_sampling_strategy="sequential",
        optim="adamw_torch",
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    said = [_for_trl(row) for row in rows]
    trainer = DPOTrainer(
        vlm.model,
        args=config,
        train_dataset=Dataset.from_list(said).cast_column("images", _images()),
        processing_class=vlm.processor,
        peft_config=LoraConfig(r=RANK, lora_alpha=RANK, target_modules=LAYERS),
        callbacks=[Clock()],
    )
    trainer.train()
    return ends, float(trainer.state.log_history[0]["logps/chosen"])


def _images() -> Any:
    from datasets import Image as ImageColumn
    from datasets import List

    return List(ImageColumn())


def _for_trl(row: AnswerPair) -> dict[str, Any]:
    def message(role: str, text: str | None) -> list[dict[str, Any]]:
        return [{"role": role, "content": text}]

    said = {"prompt": message("user", row.turns[-1].parts[-1]), "images": [{"bytes": row.images[0], "path": None}]}
    return {**said, "chosen": message("assistant", row.chosen), "rejected": message("assistant", row.rejected)}


SIDES = {"mmpo": mmpo_side, "trl": trl_side}
