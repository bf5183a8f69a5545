"""What tests/forks.py imports once for all processes that it makes: all that training, labelling and sampling load."""

import transformers.models.clip.modeling_clip
import transformers.models.llava.modeling_llava  # noqa: F401

import pipelines.cli
import pipelines.label
import pipelines.synth
import pipelines.train
import pipelines.train_reward
import pipelines.train_vlm  # noqa: F401
