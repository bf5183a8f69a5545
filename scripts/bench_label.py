"""Labelling against the bare model, against one image at a time, and its memory over many rows.

    python scripts/bench_label.py speed --images 32 --rounds 5
    python scripts/bench_label.py overlap --images 512 --rounds 5
    python scripts/bench_label.py memory --rows 100000

Every ratio is of one call: its parts are timed in turns, round after round, and medians are given.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

import rewards
from mmpo.data.candidates import open_candidates
from mmpo.data.images import encode
from mmpo.data.labels import rows_folder
from pipelines.label_folder import prepare_folder
from pipelines.label_run import LabelJob, run_labels
from pipelines.label_spec import RewardSpec
from pipelines.label_stages import look
from rewards.clip_files import clip_tokenizer
from rewards.scores import Scores
from rewards.views import ShortestSideCrop

EACH = 4  # images of a prompt
WORDS = "a photo of the quiet harbour at dawn with three wooden boats and a red lighthouse under heavy clouds number"


def make_images(folder: Path, count: int) -> Path:
    """A table of 512 x 512 JPEGs, soft shapes under some grain as photographs have, `EACH` of a prompt."""
    folder.mkdir(parents=True)
    rng, lines = np.random.default_rng(0), []
    for number in range(count):
        soft = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((512, 512), Image.BICUBIC)
        grain = rng.normal(0, 6, (512, 512, 3))
        picture = Image.fromarray((np.asarray(soft) + grain).clip(0, 255).astype(np.uint8))
        (folder / f"{number}.jpg").write_bytes(encode(picture, lossless=False))
        lines.append(json.dumps({"image": f"{number}.jpg", "prompt": f"{WORDS} {number // EACH}"}))
    (folder / "data.jsonl").write_text("\n".join(lines))
    return folder / "data.jsonl"


def make_large_clip(folder: Path) -> Path:
    """A CLIP of ViT-L/14's shape with random weights, in bfloat16."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    ends = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, **ends}
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    config = CLIPConfig(projection_dim=768, text_config=text, vision_config={**vision, "patch_size": 14})
    CLIPModel(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def engine(data: Path, reward: Any, **job: Any) -> None:
    """Labels the whole table by one reward into a new folder."""
    with tempfile.TemporaryDirectory() as place:
        opened, spec = open_candidates(str(data)), RewardSpec("bench", "bench")
        dataset = {"path": str(data)}
        prepare_folder(Path(place) / "labels", dataset, [spec], redo=False)
        with redirect_stdout(io.StringIO()):
            run_labels(LabelJob(opened, [spec], Path(place) / "labels", dataset, **job), lambda name: reward)


def in_turns(parts: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds, and seconds of processor time, of each part in each round; the first round is not counted."""
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in parts}
    for number in range(rounds + 1):
        for name, part in parts.items():
            wall, cpu = time.perf_counter(), time.process_time()
            part()
            if number:
                found[name][0].append(time.perf_counter() - wall)
                found[name][1].append(time.process_time() - cpu)
    return found


def table(found: Mapping[str, tuple[Sequence[float], Sequence[float]]], images: int) -> None:
    """A row per part: images a second (median; lowest and highest), and processor seconds for an image."""
    print(f"| part | images a second, median | lowest to highest | processor ms per image |\n{'|---' * 4}|")
    for name, (walls, cpus) in found.items():
        rates = sorted(images / wall for wall in walls)
        cpu = 1000 * statistics.median(cpus) / images
        print(f"| {name} | {statistics.median(rates):.2f} | {rates[0]:.2f} to {rates[-1]:.2f} | {cpu:.1f} |")


def ratio(found: Mapping[str, tuple[list[float], list[float]]], slow: str, quick: str, kind: int = 0) -> float:
    """Median over rounds of quick's seconds / slow's in the same round: slow's pace as a share of quick's."""
    return statistics.median(q / s for q, s in zip(found[quick][kind], found[slow][kind], strict=True))


def speed(images: int, rounds: int, batch: int, dtype: str) -> None:
    """(a) the bare forward on preloaded batches, decoding alone; (b) a loop over single images."""
    with tempfile.TemporaryDirectory() as place:
        data = make_images(Path(place) / "data", images)
        weights = str(make_large_clip(Path(place) / "clip"))
        reward: Any = rewards.load("pickscore", weights=weights, dtype=dtype, batch_size=batch)
        lines = [json.loads(line) for line in data.read_text().splitlines()]
        files, prompts = [data.parent / line["image"] for line in lines], [line["prompt"] for line in lines]
        views = [look(file.read_bytes(), [reward.view]).views[reward.view] for file in files]

        def bare() -> None:
            reward.clip._texts.clear()
            for start in range(0, images, batch):
                part = slice(start, start + batch)
                reward.score_views(views[part], prompts[part], [None] * len(views[part]))

        def decoding() -> None:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda file: look(file.read_bytes(), [reward.view]), files))

        def ours() -> None:
            reward.clip._texts.clear()
            engine(data, reward, workers=2)

        one = one_by_one(reward, files, prompts)
        found = in_turns({"bare model": bare, "decode and resize alone": decoding, "engine": ours, "loop": one}, rounds)
    table(found, images)
    share = statistics.median(
        d / (b + d) for b, d in zip(found["bare model"][0], found["decode and resize alone"][0], strict=True)
    )
    bare_pace = ratio(found, "engine", "bare model")
    had = bare_pace / (1 - share)
    print(
        f"\nengine: {bare_pace:.3f} of the bare model's pace; decoding takes {share:.3f} of the time that both take one"
    )
    print(f"after the other, so without a core to spare {1 - share:.3f} can be had, and it has {had:.3f} of that")
    print(f"engine: {1 / ratio(found, 'loop', 'engine'):.2f} times the pace of the loop over single images")
    spent = [ratio(found, "engine", "bare model", 1), 1 / ratio(found, "loop", "engine", 1)]
    print(f"by processor time: {spent[0]:.3f} of the bare model's pace, {spent[1]:.2f} times the loop's")


def one_by_one(reward: Any, files: Sequence[Path], prompts: Sequence[str]) -> Callable[[], None]:
    """As public packages do it: open, preprocess, tokenise, encode text and image of each row alone."""
    from transformers import CLIPImageProcessorPil

    processor, tokenizer, model = CLIPImageProcessorPil(), clip_tokenizer(), reward.clip.model

    @torch.inference_mode()
    def loop() -> None:
        for file, prompt in zip(files, prompts, strict=True):
            pixels = processor(Image.open(file).convert("RGB"), return_tensors="pt").pixel_values.to(model.dtype)
            ids = tokenizer(prompt, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
            text = model.get_text_features(**ids).pooler_output.float()
            image = model.get_image_features(pixel_values=pixels).pooler_output.float()
            torch.nn.functional.cosine_similarity(text, image).item()

    return loop


class Waiting:
    """Stands for a model on an accelerator: each batch takes a fixed time, and no core."""

    name, view, batch_size, identity = "bench", ShortestSideCrop(), 32, {"weights": "none"}

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def score_views(self, views: Sequence[Any], prompts: Sequence[str], responses: Sequence[Any]) -> Scores:
        """Zeros, after a while."""
        time.sleep(self._seconds * len(views) / self.batch_size)
        return Scores(np.zeros(len(views), np.float32), [None] * len(views))


def overlap(images: int, rounds: int) -> None:
    """What overlap reaches where the model needs no core: against the slower of the two stages alone."""
    with tempfile.TemporaryDirectory() as place:
        data = make_images(Path(place) / "data", images)
        files = sorted(data.parent.glob("*.jpg"))

        def decoding() -> None:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda file: look(file.read_bytes(), [Waiting.view]), files))

        alone = statistics.median(in_turns({"decode": decoding}, 3)["decode"][0])
        batches = images / Waiting.batch_size
        parts: dict[str, Callable[[], None]] = {"decode and resize alone": decoding}
        for share in (0.5, 1.0, 2.0, 4.0):
            reward = Waiting(share * alone / batches)
            parts[f"model of {share:g} times that"] = lambda reward=reward: engine(data, reward, workers=2)
        found = in_turns(parts, rounds)
    table(found, images)
    decode = found["decode and resize alone"][0]
    for share in (0.5, 1.0, 2.0, 4.0):
        walls = found[f"model of {share:g} times that"][0]
        got = statistics.median(max(d, share * alone) / wall for d, wall in zip(decode, walls, strict=True))
        print(f"model of {share:g} times: {got:.3f} of the pace of the slower stage alone")


def memory(rows: int) -> None:
    """Resident memory while labelling many rows of tiny images by two rewards without weights."""
    with tempfile.TemporaryDirectory() as place:
        file, rng = Path(place) / "data.parquet", np.random.default_rng(0)
        schema = pa.schema([("prompt", pa.string()), ("image", pa.binary())])
        with pq.ParquetWriter(file, schema) as writer:
            for start in range(0, rows, 2000):
                pictures = rng.integers(0, 256, (min(2000, rows - start), 16, 16, 3), dtype=np.uint8)
                images = [encode(Image.fromarray(picture)) for picture in pictures]
                prompts = [f"{WORDS} {(start + k) // EACH}" for k in range(len(images))]
                writer.write_table(pa.table([prompts, images], schema=schema))
        folder, samples, stop = Path(place) / "labels", list[tuple[int, float]](), threading.Event()

        def watch() -> None:
            while not stop.wait(0.5):
                done = len(list(rows_folder(folder).glob("shard-*.parquet")))
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                samples.append((done, pages * os.sysconf("SC_PAGE_SIZE") / 2**20))

        specs = [RewardSpec("random", "one"), RewardSpec("random", "two", {"seed": 1})]
        prepare_folder(folder, {"path": "x"}, specs, redo=False)
        watcher = threading.Thread(target=watch)
        watcher.start()
        began = time.perf_counter()
        with redirect_stdout(io.StringIO()):
            run_labels(LabelJob(open_candidates(str(file)), specs, folder, {"path": "x"}, workers=2))
        seconds = time.perf_counter() - began
        stop.set()
        watcher.join()
        shutil.rmtree(folder)
    shards = max(done for done, _ in samples)
    print(f"{rows:,} rows in {seconds:.0f} s\n| rows written | resident MiB, median of the tenth |\n|---|---|")
    for tenth in range(10):
        inside = [mib for done, mib in samples if tenth * shards <= 10 * done < (tenth + 1) * shards]
        if inside:
            print(f"| {tenth * rows // 10:,} to {(tenth + 1) * rows // 10:,} | {statistics.median(inside):.0f} |")


def main() -> None:
    """One of the three."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("speed", "overlap", "memory"))
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rows", type=int, default=100_000)
    given = parser.parse_args()
    if given.what == "speed":
        speed(given.images, given.rounds, given.batch, given.dtype)
    elif given.what == "overlap":
        overlap(given.images, given.rounds)
    else:
        memory(given.rows)


if __name__ == "__main__":
    main()
