"""The flags of diffusers' and TRL's training scripts, and what each is in a recipe. Imports no torch.

Three tables: a flag with a value that a key takes as it is; flags whose effect mmpo has anyway, or that have nothing to
do here; flags for what mmpo has not, with what to do instead. What needs thought stands in `flags.py`.
"""

from __future__ import annotations

VALUES = {
    "pretrained_model_name_or_path": "model.path",
    "model_name_or_path": "model.path",
    "revision": "model.revision",
    "model_revision": "model.revision",
    "variant": "model.variant",
    "rank": "model.lora.rank",
    "lora_rank": "model.lora.rank",
    "lora_r": "model.lora.rank",
    "lora_alpha": "model.lora.alpha",
    "lora_dropout": "model.lora.dropout",
    "dataset_name": "data.path",
    "train_data_dir": "data.path",
    "dataset_split_name": "data.split",
    "dataset_split": "data.split",
    "dataset_train_split": "data.split",
    "max_train_samples": "data.limit",
    "resolution": "data.resolution",
    "proportion_empty_prompts": "method.prompt_dropout",
    "learning_rate": "optim.lr",
    "adam_weight_decay": "optim.weight_decay",
    "weight_decay": "optim.weight_decay",
    "adam_epsilon": "optim.eps",
    "max_grad_norm": "optim.max_grad_norm",
    "max_train_steps": "train.steps",
    "max_steps": "train.steps",
    "seed": "train.seed",
    "checkpointing_steps": "train.checkpoint_every",
    "save_steps": "train.checkpoint_every",
    "checkpoints_total_limit": "train.keep_checkpoints",
    "save_total_limit": "train.keep_checkpoints",
    "logging_steps": "train.log_every",
    "eval_steps": "evaluation.every",
    "validation_steps": "evaluation.previews.every",
    "num_validation_images": "evaluation.previews.count",
    "output_dir": "output",
    "output": "output",
    "model": "model.path",
    "data": "data.path",
    "dataset": "data.path",
    "split": "data.split",
    "lr": "optim.lr",
    "steps": "train.steps",
    "batch_size": "train.batch_size",
    "precision": "train.precision",
}
"""Flag -> key; the value is passed on, and the recipe checks it."""

SWITCHES = {"gradient_checkpointing": "train.gradient_checkpointing"}
"""Flag without a value -> key."""

HARMLESS = {
    "enable_xformers_memory_efficient_attention": "is not needed: torch's fused attention is used",
    "enable_npu_flash_attention": "is not needed: torch's fused attention is used",
    "allow_tf32": "changes nothing: fp32 stays full float32; train.precision=bf16 is the faster choice",
    "no_hflip": "is not needed: images are never flipped",
    "center_crop": "is not needed: images are cut to their centre square always",
    "run_validation": "is not needed: evaluation.every and evaluation.previews say when; mmpo eval compares at the end",
    "sdxl": "is not needed: the family is read from the checkpoint",
    "do_train": "is not needed: mmpo train trains",
    "do_eval": "is not needed: mmpo train evaluates on held-out pairs",
    "remove_ties": "is not needed: ties are dropped and counted",
    "precompute_ref_log_probs": "is not needed: a LoRA's reference is its own base, which takes no second model",
}
"""Flag without a value -> why nothing is done for it."""

HARMLESS_WITH_VALUE = {
    "dataloader_num_workers": "is not needed: images are encoded once, and training reads the cache",
    "vae_encode_batch_size": "is not needed: images are encoded once, before training",
    "prior_generation_precision": "has nothing to do here",
    "logging_dir": "is not needed: logs are in the folder that output names",
    "max_length": "is for text models; prompts are cut to what the checkpoint's text encoder takes",
    "max_prompt_length": "is for text models; prompts are cut to what the checkpoint's text encoder takes",
    "per_device_eval_batch_size": "is not needed: held-out pairs are evaluated in batches of the training's size",
    "gradient_checkpointing_kwargs": "is not needed; train.gradient_checkpointing=true is all there is to set",
    "dataset_test_split": "is not read: held-out pairs are kept from the training split, see evaluation.held_out_pairs",
    "dataset_num_proc": "is not needed: images are encoded once, and training reads the cache",
    "local_rank": "is not needed: the launcher's environment variables say it",
    "run_name": "is not needed: a run is named by its output",
    "tracker_name": "is not needed: a run is named by its output; wandb reads its project from WANDB_PROJECT",
    "tracker_project_name": "is not needed: a run is named by its output; wandb reads its project from WANDB_PROJECT",
}
"""Flag with a value -> why nothing is done for it."""

REFUSED = {
    "use_8bit_adam": "not supported yet; leave it out (the optimiser state of a LoRA is small)",
    "random_crop": "not supported: images are cut to their centre square and encoded once; leave it out",
    "random_flip": "not supported: images are encoded once, as they are; leave it out",
    "scale_lr": "not supported; multiply the rate yourself and give optim.lr",
    "epochs": "runs are counted in steps; give train.steps = epochs x pairs / train.batch_size",
    "num_train_epochs": "runs are counted in steps; give train.steps = epochs x pairs / train.batch_size",
    "warmup_ratio": "give optim.warmup_steps = ratio x train.steps",
    "lr_num_cycles": "the schedules have no cycles; leave it out",
    "lr_power": "there is no polynomial schedule; leave it out",
    "snr_gamma": "not supported: the losses weigh every noise level alike; leave it out",
    "noise_offset": "not supported; leave it out",
    "use_ema": "give its decay: train.ema=0.9999",
    "train_text_encoder": "not supported: the denoiser alone is trained; leave it out",
    "pretrained_vae_model_name_or_path": "not supported yet; the VAE runs in float32, which needs no replacement",
    "prediction_type": "read from the checkpoint's scheduler config; leave it out",
    "is_turbo": "not supported yet; leave it out to train at all noise levels",
    "validation_epochs": "previews are counted in steps; give evaluation.previews.every",
    "cache_dir": "set the environment variable HF_HOME to that folder",
    "hub_token": "a token on the command line can be read by others; run hf auth login, or set HF_TOKEN",
    "dataset_config_name": "not supported; give the folder or the files of that configuration as data.path",
    "dataset_config": "not supported; give the folder or the files of that configuration as data.path",
    "label_smoothing": "it is the loss conservative_dpo here: method.loss=conservative_dpo method.epsilon=VALUE",
    "trust_remote_code": "never: code that comes with a checkpoint or a data set is not run; leave it out",
    "torch_compile": "not supported yet; leave it out",
    "overwrite_output_dir": "a run never overwrites another; choose another folder with output=FOLDER",
    "load_in_4bit": "not supported; leave it out (train.gradient_checkpointing=true and train.micro_batch_size=1 save "
    "memory)",
    "load_in_8bit": "not supported; leave it out (train.gradient_checkpointing=true and train.micro_batch_size=1 save "
    "memory)",
    "use_dora": "not supported; leave it out, model.lora is plain LoRA",
    "non_ema_revision": "not supported; name the branch itself with model.revision",
    "choice_model": "not supported: which image won is what the data says; data.make.reward labels own samples",
    "image_column": "a pair has two images; name their columns with data.columns={chosen: A, rejected: B}",
    "image_columns": "name them with data.columns={chosen: A, rejected: B}",
    "unet_init": "not supported; give that checkpoint as model.path",
    "use_peft": "give a rank: model.lora.rank=16",
    "config": "give the recipe first: mmpo train RECIPE",
    "config_file": "a launcher's option; put it after --: mmpo train RECIPE -- --config_file FILE",
    "num_processes": "a launcher's option; put it after --: mmpo train RECIPE -- --num_processes N",
    "num_machines": "a launcher's option; put it after --: mmpo train RECIPE -- --num_machines N",
    "accelerate_config": "a launcher's option; put it after --: mmpo train RECIPE -- --config_file FILE",
    "deepspeed": "not supported yet; leave it out",
    "fsdp": "not supported yet; leave it out",
}
"""Flag -> what to do instead."""

SHORT = {"-o": "output"}
"""Flag of one letter -> the long one."""

TEXTS = frozenset({"model.path", "model.revision", "model.variant", "data.path", "data.split", "output"})
"""Keys whose value is text, also where it looks like a number."""
