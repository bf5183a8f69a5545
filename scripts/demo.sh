#!/usr/bin/env bash
# The main job end to end on the built-in world: own samples, pairs, Diffusion-DPO with LoRA, evaluation.
# Arguments go to `mmpo demo`. Makes the environment itself.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
exec mmpo demo "$@"
