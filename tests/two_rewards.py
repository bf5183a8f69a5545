"""Trains a reward in two processes, which import once and then part: python tests/two_rewards.py RECIPE.json PORT"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from mmpo.recipe_files import validate_as
from mmpo.reward_recipe import RewardRecipe
from pipelines.train_reward import train_reward

if __name__ == "__main__":
    torch.set_num_threads(1)  # a forked process cannot use its parent's thread pool
    recipe = validate_as(RewardRecipe, json.loads(Path(sys.argv[1]).read_text()))
    os.environ.update(WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT=sys.argv[2])
    child = os.fork()
    rank = "0" if child else "1"
    os.environ.update(RANK=rank, LOCAL_RANK=rank)
    train_reward(recipe)
    if child:
        raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
