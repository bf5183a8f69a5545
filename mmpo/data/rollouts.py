"""Stored rollouts: states of a sampler with what their candidates were scored, and batches of single steps of them."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from mmpo.contracts import Batch, Transition
from mmpo.data.cache import TensorCache
from mmpo.files import write_bytes

TENSORS = ("states", "behaviour", "scores")
MOST_OPEN = 64
"""Files that are open at once; a round may have thousands."""
Judge = Callable[["Row", Tensor], Tensor]
"""`(row, its scores [R, K]) -> wins [K, K] bool`: whether the first candidate is preferred to the second."""


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison.

    Args:
        id: of what was sampled.
        prompt: text; key, split: its cluster and side.
        first: the sampler's step from state 0 to state 1.
    """

    id: str
    prompt: str
    key: str
    split: str
    first: int


@dataclass(frozen=True)
class Comparisons:
    """N comparisons of K chains of n steps.

    Args:
        rows: N of them.
        states: [N, K, n + 1, C, H, W] float32.
        behaviour: [N, K, n] float32 log-densities when sampled.
        scores: [N, R, K] float32 of R rewards; NaN where there is none, R = 0 where people decide.
        shared: whether the chains of a comparison start from one state, which is then stored K times.
    """

    rows: Sequence[Row]
    states: Tensor
    behaviour: Tensor
    scores: Tensor
    shared: bool


def write_comparisons(file: Path, made: Comparisons) -> None:
    """One safetensors file; an interrupted write leaves nothing under that name."""
    tensors = {name: getattr(made, name).detach().cpu().contiguous() for name in TENSORS}
    about = {"rows": [asdict(row) for row in made.rows], "shared": made.shared}
    # one entry: safetensors writes several in any order, and the same samples shall be the same file
    write_bytes(file, save(tensors, metadata={"about": json.dumps(about)}))


def read_about(file: Path) -> tuple[list[Row], bool, int]:
    """(rows, whether starts are shared, n) of a file, without its states.

    Raises:
        ValueError: no such file, or it is not one of ours.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            about = json.loads(opened.metadata()["about"])
            steps = opened.get_slice("behaviour").get_shape()[2]
        return [Row(**row) for row in about["rows"]], about["shared"], steps
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: not a readable rollout file: {error}") from None
    except Exception as error:  # safetensors' own
        raise ValueError(f"{file}: damaged: {error}") from None


@dataclass(frozen=True, slots=True)
class _Group:
    """One step of one comparison: where its states are, and the order of its candidates, best first."""

    file: Path
    number: int
    step: int
    row: Row
    shared: bool
    order: tuple[int, ...]
    wins: Tensor


class RolloutGroups:
    """A sequence of groups, one for each comparison and step; their states are read when asked for.

    Args:
        files: written by `write_comparisons`.
        texts: encoded prompts by text; "" too.
        judge: decides a comparison; one without any preference is left out and counted in `ties`.
        steps: which steps of a comparison's chain are trained, `steps(row, n) -> numbers from 0`.
        further: conditions of every group besides the prompt's, per name [...].
    """

    def __init__(
        self,
        files: Sequence[Path],
        texts: TensorCache,
        judge: Judge,
        steps: Callable[[Row, int], Sequence[int]],
        further: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._texts, self._further = texts, dict(further or {})
        self._groups: list[_Group] = []
        self._open: OrderedDict[Path, Any] = OrderedDict()
        self.comparisons = self.ties = 0
        for file in files:
            rows, shared, count = read_about(file)
            for number, row in enumerate(rows):
                wins = judge(row, self._slice(file, "scores")[number : number + 1][0])
                self.comparisons += 1
                if not wins.any():
                    self.ties += 1
                    continue
                order = _order(wins)
                wins = wins[list(order)][:, list(order)]
                self._groups += [_Group(file, number, step, row, shared, order, wins) for step in steps(row, count)]

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def longest(self) -> int:
        """Candidates of a group."""
        return max((len(group.order) for group in self._groups), default=0)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of each group's states, latent cells."""
        if not self._groups:
            return []
        *_, height, width = self._slice(self._groups[0].file, "states").get_shape()
        return [(height, width)] * len(self)

    def name(self, index: int) -> str:
        """What the group at this position is."""
        group = self._groups[index]
        return f"{group.row.id}/{group.step}"

    def batch(self, indices: Sequence[int], visits: Sequence[int] | int = 0) -> Batch:
        """The groups at these positions, on the CPU; see `mmpo.contracts.Transition`."""
        groups = [self._groups[index] for index in indices]
        parents: list[Tensor] = []
        owners: list[int] = []
        parent, children, behaviour = [], [], []
        for place, group in enumerate(groups):
            order, row = list(group.order), slice(group.number, group.number + 1)
            states = self._slice(group.file, "states")[row, :, group.step : group.step + 2][0][order]
            distinct = states[:1, 0] if group.shared and group.step == 0 else states[:, 0]
            parent.append(torch.arange(len(states)) % len(distinct) + len(owners))
            owners += [place] * len(distinct)
            parents.append(distinct)
            children.append(states[:, 1])
            behaviour.append(self._slice(group.file, "behaviour")[row, :, group.step][0][order])
        latents, wins = torch.stack(children), torch.stack([group.wins for group in groups])
        said = [self._texts.get(group.row.prompt) | self._further for group in groups]
        return Batch(
            ids=[self.name(index) for index in indices],
            visits=[visits] * len(indices) if isinstance(visits, int) else list(visits),
            latent_mean=latents,
            latent_std=torch.zeros_like(latents),
            condition={name: torch.stack([x[name] for x in said]).unsqueeze(1) for name in said[0]},
            null_condition=dict(self._texts.get("")),
            scores=(wins.sum(2) - wins.sum(1)).float(),
            mask=torch.ones(latents.shape[:2], dtype=torch.bool),
            transition=Transition(
                parents=torch.cat(parents),
                group=torch.tensor(owners),
                parent=torch.stack(parent),
                step=torch.tensor([group.row.first + group.step for group in groups]),
                behaviour=torch.stack(behaviour),
                wins=wins,
            ),
        )

    def _slice(self, file: Path, name: str) -> Any:
        if file not in self._open:
            self._open[file] = safe_open(file, framework="pt").__enter__()
            if len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)[1].__exit__(None, None, None)
        self._open.move_to_end(file)
        return self._open[file].get_slice(name)


def _order(wins: Tensor) -> tuple[int, ...]:
    """Candidates by how many more they beat than beat them; the first beats the last, which losses of pairs compare.

    By one reward that is so anyhow. By several, or by votes, the two may never have been compared: then the clearest
    pair that was stands at the ends.
    """
    beaten = (wins.sum(1) - wins.sum(0)).tolist()
    order = sorted(range(len(beaten)), key=lambda k: -beaten[k])
    if not wins[order[0], order[-1]]:
        best, worst = max(torch.nonzero(wins).tolist(), key=lambda pair: beaten[pair[0]] - beaten[pair[1]])
        order = [best, *(k for k in order if k not in (best, worst)), worst]
    return tuple(order)
