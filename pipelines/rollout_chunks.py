"""One chunk of a round: sampled, scored, written; chunks are the same for any number of processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmpo.data.rollouts import Comparisons, Row, write_comparisons
from mmpo.records import Prompt, content_id
from mmpo.rollout_recipe import Rollout
from mmpo.sampling.chains import Prompts, Sampler
from mmpo.sampling.comparisons import extremes, threshold_at
from mmpo.sampling.step_wise import Compared, step_wise
from mmpo.sampling.trajectories import trajectories
from pipelines.rollout_scores import Failures, decoded, score_images, score_predictions
from pipelines.rollout_votes import write_images


@dataclass(frozen=True)
class Chunk:
    """Some prompts of a round.

    Args:
        ids: B names of what is sampled; noise is counted by them.
        prompts: B of them.
        number: of the chunk in its round.
        stem: of the chunk's files.
    """

    ids: Sequence[str]
    prompts: Sequence[Prompt]
    number: int
    stem: Path

    @property
    def marker(self) -> Path:
        """Written last."""
        return self.stem.with_suffix(".json")

    def file(self, part: int = 0) -> Path:
        """Of its comparisons, those of one length of chains."""
        return self.stem.with_name(f"{self.stem.name}-{part}.safetensors")


def chunks_of(folder: Path, prompts: Sequence[Prompt], spec: Rollout) -> list[Chunk]:
    """A round's prompts in pieces of about `sampling.batch_size` images; a prompt that comes twice has two ids."""
    seen: dict[str, int] = {}
    ids = []
    for prompt in prompts:
        seen[prompt.text] = seen.get(prompt.text, 0) + 1
        ids.append(content_id("rollout", prompt.text, seen[prompt.text]))
    size = max(1, spec.sampling.batch_size // spec.candidates)
    starts = range(0, len(prompts), size)
    return [
        Chunk(ids[at : at + size], prompts[at : at + size], number, folder / f"chunk-{number:05d}")
        for number, at in enumerate(starts)
    ]


@dataclass(frozen=True)
class Maker:
    """Samples and scores a chunk.

    Args:
        spec: the recipe's section.
        rewards: loaded.
        vae, processor: of the checkpoint's pipeline.
        latent: C, H, W.
        size: pixels, height and width.
        device: of the policy.
    """

    spec: Rollout
    rewards: Sequence[Any]
    vae: Any
    processor: Any
    latent: tuple[int, int, int]
    size: tuple[int, int]
    device: torch.device

    def __call__(self, chunk: Chunk, sampler: Sampler, prompts: Prompts) -> Mapping[str, Any]:
        """Writes the chunk's files; what to tell of it: {"counts": numbers, "scores": {reward: values}}."""
        failures = Failures(fatal=self.spec.on_bad_reward == "error")
        make = self._trajectories if self.spec.kind == "trajectories" else self._step_wise
        told = make(chunk, sampler, prompts, failures)
        return {**told, "failures": failures.messages}

    def _trajectories(self, chunk: Chunk, sampler: Sampler, prompts: Prompts, failures: Failures) -> dict[str, Any]:
        count = self.spec.candidates
        chains = trajectories(sampler, prompts, count, self.latent, self.device, shared=self.spec.start == "shared")
        pixels = decoded(self.vae, chains.states[:, :, -1].flatten(0, 1), self.size)
        images = self.processor.postprocess(pixels, output_type="pil")
        texts = [prompt.text for prompt in chunk.prompts for _ in range(count)]
        given = [score_images(reward, images, texts, failures) for reward in self.rewards]
        scores = np.stack(given) if given else np.zeros((0, len(texts)), np.float32)
        by_group = torch.from_numpy(scores).unflatten(1, (len(chunk.ids), count)).transpose(0, 1)
        kept = by_group.isfinite().flatten(1).all(1)
        rows = [Row(i, p.text, p.cluster, p.split, 0) for i, p in zip(chunk.ids, chunk.prompts, strict=True)]
        if self.spec.labels == "votes":
            write_images(chunk.stem.parent, chunk.number, rows, chunk.prompts, images)
        write_comparisons(
            chunk.file(),
            Comparisons(
                [row for row, keep in zip(rows, kept, strict=True) if keep],
                chains.states.cpu()[kept],
                chains.behaviour.cpu()[kept],
                by_group[kept],
                chains.shared,
            ),
        )
        names = [reward.name for reward in self.rewards]
        names = [f"{name}#{n + 1}" if name in names[:n] else name for n, name in enumerate(names)]
        named = {name: scores[n][np.isfinite(scores[n])].tolist() for n, name in enumerate(names)}
        return {"counts": {"images": len(texts), "prompts without scores": int((~kept).sum())}, "scores": named}

    def _step_wise(self, chunk: Chunk, sampler: Sampler, prompts: Prompts, failures: Failures) -> dict[str, Any]:
        (reward,), spec = self.rewards, self.spec
        texts = [prompt.text for prompt in chunk.prompts for _ in range(spec.candidates)]

        def score(clean: Tensor, timestep: float) -> Tensor:
            pixels = decoded(self.vae, clean.flatten(0, 1), self.size)
            values = score_predictions(reward, pixels, texts, timestep, self.processor, failures)
            return torch.from_numpy(values).unflatten(0, clean.shape[:2])

        found = step_wise(
            sampler,
            prompts,
            spec.candidates,
            self.latent,
            self.device,
            score,
            first=spec.first_step,
            inner=spec.inner_steps,
        )
        by_length: dict[int, list[Comparisons]] = {}
        close, failed, last = 0, 0, torch.empty(0)
        for compared in found:
            threshold = threshold_at(spec.threshold, sampler.stepper.std, compared.chains.first)
            kept = self._pairs(chunk, compared, threshold)
            failed += (lacking := int((~compared.scores.isfinite().all(1)).sum()))
            close += len(chunk.ids) - len(kept.rows) - lacking
            by_length.setdefault(compared.chains.steps, []).append(kept)
            last = compared.scores
        for length, parts in by_length.items():
            write_comparisons(chunk.file(length), _joined(parts))
        final = last[last.isfinite()].tolist()
        counts = {"images": last.numel(), "within the threshold": close, "comparisons without scores": failed}
        return {"counts": counts, "scores": {reward.name: final}}

    def _pairs(self, chunk: Chunk, compared: Compared, threshold: float) -> Comparisons:
        """Best and worst of each comparison that is clear enough."""
        pair, keep = extremes(compared.scores, threshold, self.spec.score_scale)
        states, first = compared.chains.states.cpu(), compared.chains.first
        places = torch.nonzero(keep).flatten().tolist()
        rows = [
            Row(
                f"{chunk.ids[n]}/{first}",
                chunk.prompts[n].text,
                chunk.prompts[n].cluster,
                chunk.prompts[n].split,
                first,
            )
            for n in places
        ]
        picked = [pair[n].tolist() for n in places]
        behaviour = compared.chains.behaviour.cpu()
        return Comparisons(
            rows,
            torch.stack([states[n][two] for n, two in zip(places, picked, strict=True)]) if places else states[:0, :2],
            torch.stack([behaviour[n][two] for n, two in zip(places, picked, strict=True)])
            if places
            else behaviour[:0, :2],
            compared.scores.gather(1, pair)[keep].unsqueeze(1),
            compared.chains.shared,
        )


def _joined(parts: Sequence[Comparisons]) -> Comparisons:
    return Comparisons(
        [row for part in parts for row in part.rows],
        torch.cat([part.states for part in parts]),
        torch.cat([part.behaviour for part in parts]),
        torch.cat([part.scores for part in parts]),
        parts[0].shared,
    )
