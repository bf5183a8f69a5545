"""A round of own samples: prompts, sampling in chunks shared by the processes, scores, and the stored result."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from mmpo.contracts import Condition, Predict
from mmpo.data.cache import TensorCache
from mmpo.data.rollouts import Judge, RolloutGroups, Row, read_about
from mmpo.data.shards import mark_done, read_done
from mmpo.files import write_json
from mmpo.models.loading import tensors_hash
from mmpo.random_streams import generator
from mmpo.records import Prompt, content_id
from mmpo.rollout_recipe import Rollout
from mmpo.sampling.chains import Prompts, Sampler
from mmpo.sampling.comparisons import dominance
from mmpo.sampling.stepper import Stepper, trainable_steps
from mmpo.training.folders import list_checkpoints
from mmpo.training.rounds import Gathered, Waiting
from mmpo.training.shuffle import permutation
from pipelines.rollout_chunks import Chunk, chunks_of
from pipelines.rollout_votes import ABOUT, IMAGES, judge_by_votes, vote_place, votes_so_far

VOTED = " votes "
"""Between a round's identity and which votes decided it."""


@dataclass(frozen=True)
class Studio:
    """What a round is made with.

    Args:
        accelerator: devices and processes.
        spec: the recipe's section.
        seed: of the run.
        prompts: all of them.
        stepper: the sampler's maths.
        bind: module -> `predict`.
        make: samples and scores a chunk of prompts; see `pipelines.rollout_chunks`.
        texts: encoded prompts.
        further: conditions besides the prompt's.
        folder: of all rounds.
        run: folder of the run, with its checkpoints.
        made_by: hashes of the checkpoint and of what else decides the samples.
        visit: around the sampling, such as the VAE on the device.
    """

    accelerator: Accelerator
    spec: Rollout
    seed: int
    prompts: Sequence[Prompt]
    stepper: Stepper
    bind: Callable[[nn.Module], Predict]
    make: Callable[[Chunk, Sampler, Prompts], Mapping[str, Any]]
    texts: TensorCache
    further: Mapping[str, Tensor]
    folder: Path
    run: Path
    made_by: Mapping[str, Any]
    visit: Callable[[], AbstractContextManager[None]]


class OwnRounds:
    """Rounds of the policy's own samples; see `mmpo.training.rounds.Rounds`."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def gather(self, number: int, policy: nn.Module, identity: str | None, stop: Callable[[], bool]) -> Gathered | None:
        """See `Rounds.gather`."""
        studio = self._studio
        identity, _, voted = (identity or "").partition(VOTED)
        if studio.spec.stored is not None:
            folder = stored_round(Path(studio.spec.stored), number)
            return self._read(number, folder, self._stored_identity(folder), voted)
        folder = studio.folder / f"round-{number:05d}"
        if not identity:
            identity = self._identity(number, policy)
            done = (read_done(folder) or {}).get("settings") == {"identity": identity}
            studio.accelerator.wait_for_everyone()  # all have looked before one changes the folder
            if not done and not self._sample(number, policy, folder, identity, stop):
                return None
        elif (read_done(folder) or {}).get("settings") != {"identity": identity}:
            raise ValueError(
                f"--resume: {folder} is not the round that the checkpoint was trained on; put that folder back, or "
                "start a new output folder"
            )
        return self._read(number, folder, identity, voted)

    def _stored_identity(self, folder: Path) -> str:
        """The identity of a round of another run, after seeing that it was sampled as this recipe says."""
        about = json.loads((folder / ABOUT).read_text())
        for name, value in self._sampled_as().items():
            if about["sampled as"].get(name) != value:
                raise ValueError(
                    f"rollout.stored {folder}: was sampled with {name} {about['sampled as'].get(name)!r}, and this "
                    f"recipe has {value!r}; the log-densities would be of another sampler"
                )
        scored = about.get("rewards")
        if self._studio.spec.labels == "rewards" and scored != self._studio.made_by["rewards"]:
            raise ValueError(
                f"rollout.stored {folder}: was scored by {scored}, and this recipe's rewards are "
                f"{self._studio.made_by['rewards']}; name the rewards of that run, or sample anew"
            )
        for file in sorted(folder.glob("chunk-*.safetensors")):
            for row in read_about(file)[0]:
                if row.prompt not in self._studio.texts:
                    raise ValueError(
                        f"rollout.stored {folder}: its prompt '{row.prompt}' is not in rollout.prompts "
                        f"{self._studio.spec.prompts}; give the prompts of that run"
                    )
        return str(about["identity"])

    def _sampled_as(self) -> dict[str, Any]:
        """What a round's log-densities depend on besides the policy."""
        spec = self._studio.spec
        return {
            "sampling": spec.sampling.model_dump(exclude={"batch_size"}),
            "density": spec.density,
            "kind": spec.kind,
            "checkpoint": self._studio.made_by["checkpoint"],
            "resolution": self._studio.made_by["resolution"],
        }

    def _identity(self, number: int, policy: nn.Module) -> str:
        trained = {name: p.detach() for name, p in policy.named_parameters() if p.requires_grad}
        free = {"passes", "keep_rounds", "refresh_reference", "on_bad_reward", "train_steps", "stored", "votes"}
        spec = self._studio.spec.model_dump(mode="json", exclude=free)
        texts = [prompt.text for prompt in self.prompts_of(number)]
        return content_id("round", number, spec, self._studio.seed, tensors_hash(trained), texts, self._studio.made_by)

    def prompts_of(self, number: int) -> list[Prompt]:
        """The prompts of a round: a piece of an endless sequence of permutations."""
        studio, wanted = self._studio, []
        count = len(studio.prompts)
        for place in range(number * studio.spec.prompts_per_round, (number + 1) * studio.spec.prompts_per_round):
            epoch, position = divmod(place, count)
            wanted.append(studio.prompts[_order(f"rollout/{studio.seed}/{epoch}", count)[position]])
        return wanted

    def _sample(self, number: int, policy: nn.Module, folder: Path, identity: str, stop: Callable[[], bool]) -> bool:
        """Fills the round's folder; chunks that are there of this very policy are kept. Whether it is whole."""
        studio = self._studio
        accelerator = studio.accelerator
        if accelerator.is_main_process:
            clear_other_round(folder, identity)
            folder.mkdir(parents=True, exist_ok=True)
            about = {
                "identity": identity,
                "round": number,
                "sampled as": self._sampled_as(),
                "rewards": studio.made_by["rewards"],
            }
            write_json(folder / ABOUT, about)
            for old in self._not_needed(number):
                remove_round(old)
        accelerator.wait_for_everyone()
        chunks = chunks_of(folder, self.prompts_of(number), studio.spec)
        training = policy.training
        policy.eval()
        try:
            with torch.no_grad(), studio.visit():
                sampler = Sampler(
                    _in_its_precision(studio.bind(policy), accelerator.autocast),
                    studio.stepper,
                    studio.spec.sampling.guidance,
                    studio.spec.density,
                    studio.seed,
                    number,
                    studio.spec.sampling.batch_size,
                )
                for chunk in chunks[accelerator.process_index :: accelerator.num_processes]:
                    if not chunk.marker.is_file() and not stop():
                        write_json(chunk.marker, dict(studio.make(chunk, sampler, self._conditions(chunk))))
        finally:
            policy.train(training)
        accelerator.wait_for_everyone()
        whole = all(chunk.marker.is_file() for chunk in chunks)
        accelerator.wait_for_everyone()
        if whole and accelerator.is_main_process:
            mark_done(folder, {"identity": identity}, {})
        accelerator.wait_for_everyone()
        return whole

    def _not_needed(self, number: int) -> list[Path]:
        """Rounds before this one that nothing goes on from. Later ones, of a run that was killed, are met again.

        None with votes: people's work is never removed.
        """
        studio = self._studio
        if studio.spec.labels == "votes":
            return []
        before = sorted(old for old in studio.folder.glob("round-*") if old.name < f"round-{number:05d}")
        kept = {f"round-{at:05d}" for at in rounds_of_checkpoints(studio.run)}
        return [old for old in before[: max(0, len(before) + 1 - studio.spec.keep_rounds)] if old.name not in kept]

    def _conditions(self, chunk: Chunk) -> Prompts:
        studio = self._studio
        device = studio.accelerator.device
        rows = [studio.texts.get(prompt.text) | dict(studio.further) for prompt in chunk.prompts]
        said = {name: torch.stack([row[name] for row in rows]).to(device) for name in rows[0]}
        return Prompts(chunk.ids, said, {name: value.to(device) for name, value in studio.texts.get("").items()})

    def _judge(self, folder: Path, voted: str) -> tuple[Judge, str]:
        """(what decides the comparisons of a round, by which votes: the same on all processes and after a resume).

        Raises:
            Waiting: nobody voted on them yet.
        """
        spec = self._studio.spec
        if spec.labels != "votes":
            return _by_scores, ""
        place = vote_place(folder, Path(spec.votes) if spec.votes is not None else None)
        told: str | None = voted or broadcast_object_list([votes_so_far(folder, place)])[0]
        if told is None:
            raise Waiting(
                f"{folder.name} waits for votes: run `mmpo vote {folder / IMAGES} --output {place}`, then go on with "
                "`mmpo train ... --resume`"
            )
        return judge_by_votes(folder, place, told), VOTED + told

    def _read(self, number: int, folder: Path, identity: str, voted: str) -> Gathered:
        """The groups of a stored round, and what it says."""
        studio = self._studio
        judge, voted = self._judge(folder, voted)
        groups = RolloutGroups(
            sorted(folder.glob("chunk-*.safetensors")),
            studio.texts,
            judge,
            partial(self._steps, number),
            studio.further,
        )
        counts: Counter[str] = Counter()
        sums: dict[str, list[float]] = {}
        failures: list[str] = []
        for file in sorted(folder.glob("chunk-*.json")):
            told = json.loads(file.read_text())
            counts.update(told["counts"])
            failures += told["failures"]
            for name, values in told["scores"].items():
                sums.setdefault(name, []).extend(values)
        metrics = {f"rollout/{name}": float(np.mean(values)) for name, values in sums.items() if values}
        metrics |= {
            "rollout/groups": float(len(groups)),
            "rollout/ties": float(groups.ties),
            **{f"rollout/{name}": float(value) for name, value in counts.items()},
        }
        means = "  ".join(f"{name} {np.mean(values):.4g}" for name, values in sums.items() if values)
        left = "".join(f", {value} {name}" for name, value in counts.items() if value and name != "images")
        note = f"{means}  ({groups.comparisons} comparisons, {groups.ties} ties{left}; {len(groups)} steps to train on)"
        if failures:
            more = f" (and {len(failures) - 1} more, in {folder})" if len(failures) > 1 else ""
            note += f"\nwarning: left out: {failures[0]}{more}"
        return Gathered(groups, identity + voted, metrics, note)

    def _steps(self, number: int, row: Row, count: int) -> list[int]:
        """The steps of a comparison that are trained: those with a density, and of them as many as the recipe says."""
        able = set(trainable_steps(self._studio.stepper))
        steps = [step for step in range(count) if row.first + step in able]
        wanted = self._studio.spec.train_steps
        if wanted is None or wanted >= len(steps):
            return steps
        random = generator(self._studio.seed, row.id, number, "trained steps")
        return sorted(steps[place] for place in torch.randperm(len(steps), generator=random)[:wanted].tolist())


def _in_its_precision(predict: Predict, autocast: Callable[[], AbstractContextManager[Any]]) -> Predict:
    """The denoiser alone under autocast: an SDXL's VAE overflows in float16; a reward has its own precision."""

    def under_autocast(x: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        with autocast():
            return predict(x, timesteps, condition)

    return under_autocast


def clear_other_round(folder: Path, identity: str) -> None:
    """Removes a round of other weights, which a killed run left, and nothing else.

    Raises:
        ValueError: the folder is not of our making, or people voted in it.
    """
    if not folder.is_dir() or all(there.suffix == ".partial" for there in folder.iterdir()):
        return
    about = folder / ABOUT
    if about.is_file() and json.loads(about.read_text())["identity"] == identity:
        return
    if not about.is_file() or (folder / "votes").exists():
        what = "people voted on samples of other weights there" if about.is_file() else "it is no round of samples"
        raise ValueError(f"{folder}: {what}; move it away, or choose another folder with data.path or output")
    remove_round(folder)


def remove_round(folder: Path) -> None:
    """Whole or not at all: what a kill leaves of it has another name, and goes with the next one."""
    gone = folder.with_name(f".{folder.name}.gone")
    for left in (*folder.parent.glob(".round-*.gone"), gone):
        shutil.rmtree(left, ignore_errors=True)
    folder.rename(gone)
    shutil.rmtree(gone)


def stored_round(folder: Path, number: int) -> Path:
    """The finished round of another run that stands for round `number`; they are gone through again and again.

    Raises:
        ValueError: none is there.
    """
    rounds = [found for found in sorted(folder.glob("round-*")) if read_done(found) is not None]
    if not rounds:
        raise ValueError(f"rollout.stored {folder}: no finished rounds in it; give the folder `rollouts` of a run")
    return rounds[number % len(rounds)]


def rounds_of_checkpoints(run: Path) -> set[int]:
    """The rounds that a run's checkpoints are in."""
    found = set()
    for folder in list_checkpoints(run):
        try:
            found.add(int(json.loads((folder / "state.json").read_text())["round"]["number"]))
        except (OSError, ValueError, KeyError):
            continue  # a damaged one, from which no run goes on
    return found


@lru_cache(maxsize=2)
def _order(name: str, count: int) -> list[int]:
    return permutation(name, count)


def _by_scores(row: Row, scores: Tensor) -> Tensor:
    return dominance(scores.unsqueeze(1))[0]
