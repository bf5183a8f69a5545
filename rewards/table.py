"""The table of rewards, without torch; another package adds one by an entry point of group `mmpo.rewards`."""

from __future__ import annotations

from rewards.reward_entries.clips import CLIP
from rewards.reward_entries.cross import CROSS
from rewards.reward_entries.ensembles import ENSEMBLES
from rewards.reward_entries.plain import PLAIN
from rewards.reward_entries.timed import TIMED
from rewards.reward_entries.vlms import VLM
from rewards.reward_entry import RewardEntry

REWARD_TABLE: dict[str, RewardEntry] = {**CLIP, **TIMED, **CROSS, **VLM, **ENSEMBLES, **PLAIN}
