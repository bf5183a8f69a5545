#!/usr/bin/env bash
# Long proofs that do not run on every change: many kills of LoRA, full fine-tune and reward trainings, of those on own
# samples, of labelling, of syntheses; and a synthesis on two processes of which one fails.
# Its last lines stand in docs/soak.md, with date and machine.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 PYTHONPATH="$root/tests"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
for kind in lora full reward d3po spo; do
    python -W ignore tests/killing.py --kind "$kind" --kills "${KILLS:-20}" --seed "${SEED:-1}" --folder "$folder/$kind"
done
python -W ignore tests/label_killing.py --clip --kills "${KILLS:-20}" --seed "${SEED:-1}" --folder "$folder/label"
python -W ignore tests/synth_killing.py --kills "${KILLS:-20}" --seed "${SEED:-1}" --folder "$folder/synth"
MMPO_SOAK=1 python -m pytest tests/test_synth_processes.py -k one_process_fails
