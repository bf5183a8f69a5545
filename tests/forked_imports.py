"""What tests/forks.py imports once for all processes that it makes: all that training, labelling and sampling load."""
# ruff: noqa: F401

import datasets
import diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion
import diffusers.training_utils
import peft.utils.transformers_weight_conversion
import torch.utils.tensorboard
import transformers.models.clip.modeling_clip
import transformers.models.llava.modeling_llava

import pipelines.cli
import pipelines.label
import pipelines.synth
import pipelines.synth_local
import pipelines.train
import pipelines.train_reward
import pipelines.train_vlm
