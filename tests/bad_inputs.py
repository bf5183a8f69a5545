"""Bad inputs, one a case: how to make it, and what the message must say of it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tiny
from PIL import Image
from tiny import picture

from mmpo.recipe_files import dump, validate

NAN = float("nan")
GOOD = ("a red cat", "the moon on a blue dog")  # the prompts of the rows before and after the bad one
PAIR = {"prompt": "a blue moon", "chosen": picture(1), "rejected": picture(2)}
PICK_A_PIC = {"caption": "a blue moon", "jpg_0": picture(1), "jpg_1": picture(2), "label_0": 1.0, "label_1": 0.0}
RANKED = {"prompt": "a blue moon", "images": [picture(1), picture(2), picture(3)], "rank": [2, 3, 1]}
SCORED = {"prompt": "a blue moon", "images": [picture(1), picture(2)], "scores": [0.5, 0.25]}
VOTES = {
    "prompt": "a blue moon",
    "image1": picture(1),
    "image2": picture(2),
    "votes_image1": 3.0,
    "votes_image2": 1.0,
}


@dataclass(frozen=True)
class World:
    """A folder to make the bad input in, and a checkpoint.

    Args:
        root: everything of the case is below it.
        model: a tiny checkpoint, elsewhere.
    """

    root: Path
    model: Path

    @property
    def data(self) -> Path:
        """Where the rows of the case are."""
        return self.root / "data"

    @property
    def run(self) -> Path:
        """The output folder."""
        return self.root / "run"

    def recipe(self, **changes: Any) -> Path:
        """A recipe file that trains one step; `changes` are "section__key" values."""
        tree = tiny.recipe_tree(
            self.model, self.data, self.run, train__steps=1, evaluation__held_out_pairs=0, **changes
        )
        tree["train"] |= {"batch_size": 2, "report_to": []}
        file = self.root / "recipe.yaml"
        file.write_text(dump(validate(tree)), encoding="utf-8")
        return file

    def train(self, *more: object) -> list[object]:
        """The command that trains the recipe."""
        return ["train", self.recipe(), *more]


@dataclass(frozen=True)
class Case:
    """One bad input.

    Args:
        name: of the test.
        make: prepares it in a world and returns the arguments of `mmpo`.
        says: parts of the message: where, what, the fix.
        row: it is one row between two good ones: fatal with data.on_bad_row=error, else skipped and named.
        decoded: reading the row is not enough to see the fault; its images must be decoded.
        full: the disk is full for files whose path holds this.
        again: what to add to the command to go on from there.
    """

    name: str
    make: Callable[[World], Sequence[object]]
    says: Sequence[str]
    row: bool = False
    decoded: bool = False
    full: str = ""
    again: Sequence[str] = ()


def among_good_rows(world: World, row: dict[str, Any], base: dict[str, Any]) -> None:
    """pairs.parquet: a good row, the bad one, a good one."""
    text = "caption" if "caption" in base else "prompt"
    good = [_fresh(base, 10 * n) | {text: prompt} for n, prompt in enumerate(GOOD, 1)]
    write_rows(world, [good[0], {**base, **row}, good[1]])


def write_rows(world: World, rows: Sequence[dict[str, Any]]) -> None:
    """pairs.parquet of these rows."""
    world.data.mkdir()
    pq.write_table(pa.Table.from_pylist(list(rows)), world.data / "pairs.parquet")


def _fresh(row: dict[str, Any], seed: int) -> dict[str, Any]:
    """The row with other images, so that no two rows show the same."""
    made: dict[str, Any] = {}
    for name, value in row.items():
        seed += 5
        if isinstance(value, bytes):
            made[name] = picture(seed)
        elif isinstance(value, list) and isinstance(value[0], bytes):
            made[name] = [picture(seed + k) for k in range(len(value))]
        else:
            made[name] = value
    return made


def strict(world: World) -> list[object]:
    """Trains with bad rows fatal."""
    return world.train("data.on_bad_row=error")


def row(name: str, changes: dict[str, Any], *says: str, base: dict[str, Any] = PAIR) -> Case:
    """A fault of the second row of a parquet file."""

    def make(world: World) -> list[object]:
        among_good_rows(world, changes, base)
        return strict(world)

    return Case(name, make, ["pairs.parquet, row 1", *says], row=True)


@dataclass(frozen=True)
class Broken:
    """An image that cannot be used, and what the message must say of it."""

    name: str
    data: bytes
    says: Sequence[str]

    def case(self) -> Case:
        """It is the rejected one of the second row."""
        found = row(f"image-{self.name}", {"rejected": self.data}, "row 1, rejected: ", *self.says)
        return replace(found, row=False)


def image(name: str, data: bytes, *says: str) -> Broken:
    """An image that cannot be used."""
    return Broken(name, data, says)


def line(name: str, text: str | bytes | dict[str, Any], *says: str, prepare: Callable[[World], object] = id) -> Case:
    """A fault of the second line of a JSONL file whose images lie beside it."""

    def make(world: World) -> list[object]:
        good = [_pair_of_files(world, prompt, 10 * n) for n, prompt in enumerate(GOOD, 1)]
        _pair_of_files(world, "a blue moon", 0)
        prepare(world)
        middle = (
            json.dumps(text).encode() if isinstance(text, dict) else text if isinstance(text, bytes) else text.encode()
        )
        lines = [json.dumps(good[0]).encode(), middle, json.dumps(good[1]).encode()]
        (world.data / "train.jsonl").write_bytes(b"\n".join(lines))
        return strict(world)

    return Case(f"line-{name}", make, ["train.jsonl, line 2", *says], row=True)


def _pair_of_files(world: World, prompt: str, seed: int) -> dict[str, str]:
    world.data.mkdir(exist_ok=True)
    row = {"prompt": prompt}
    for k, side in enumerate(("chosen", "rejected")):
        row[side] = f"{side}{seed}.png"
        (world.data / row[side]).write_bytes(picture(seed + k))
    return row


def folders(name: str, spoil: Callable[[Path], object], *says: str) -> Case:
    """A fault of the pair "b" of image folders w/ and l/; `spoil` is called with the folder of the two."""

    def make(world: World) -> list[object]:
        for number, (stem, prompt) in enumerate(zip("abc", (GOOD[0], "a blue moon", GOOD[1]), strict=True)):
            for k, side in enumerate(("w", "l")):
                (world.data / side).mkdir(parents=True, exist_ok=True)
                (world.data / side / f"{stem}.png").write_bytes(picture(10 * number + k))
            (world.data / "w" / f"{stem}.txt").write_text(prompt)
        spoil(world.data)
        return strict(world)

    return Case(f"folders-{name}", make, says, row=True)


def as_file(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


FRAMES = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
NOISE = Image.effect_noise((64, 64), 80)
ANIMATED = {"save_all": True, "append_images": FRAMES[1:]}

BROKEN_IMAGES = [
    image("truncated-png", as_file(NOISE, "PNG")[:900], "corrupt", "truncated", "save it again"),
    image("truncated-jpeg", as_file(NOISE, "JPEG")[:900], "corrupt", "truncated", "save it again"),
    image("text", b"no image at all", "not an image file (15 bytes)", "expected PNG, JPEG"),
    image("web-page", b"<!DOCTYPE html><html>404</html>", "web page", "download the image again"),
    image("svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG", "save it as PNG"),
    image("git-lfs-pointer", b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS", "git lfs pull"),
    image(
        "huge", as_file(Image.new("1", (20_000, 20_000)), "PNG"), "too large", "limit is 64000000", "make it smaller"
    ),
    image("large", as_file(Image.new("1", (9_000, 9_000)), "PNG"), "9000x9000", "limit is 64000000", "make it smaller"),
    image("one-pixel", as_file(Image.new("RGB", (1, 1)), "PNG"), "1x1 pixels, a placeholder", "expected 4 or more"),
    image("absurd-aspect", as_file(Image.new("RGB", (4, 400)), "PNG"), "4x400", "over 16 times", "crop it"),
    image("animated-gif", as_file(FRAMES[0], "GIF", **ANIMATED), "GIF image has 3 frames", "give one frame"),
    image("animated-png", as_file(FRAMES[0], "PNG", **ANIMATED), "PNG image has 3 frames", "give one frame"),
    image("animated-webp", as_file(FRAMES[0], "WEBP", **ANIMATED), "WEBP image has 3 frames", "give one frame"),
    image("float-pixels", as_file(Image.new("F", (8, 8), 0.5), "TIFF"), "float pixels", "8 bits"),
]

IMAGES = [
    row("image-empty", {"rejected": b""}, "column 'rejected' is empty (0 bytes)", "expected the bytes"),
    row("image-null", {"rejected": None}, "column 'rejected' is null; expected the bytes"),
    row("image-the-same-twice", {"rejected": PAIR["chosen"]}, "the same image", "leave it out"),
    *(broken.case() for broken in BROKEN_IMAGES),
]

LABELS = [
    row("label-nan", {"label_0": NAN}, "'label_0' is nan; expected a finite number", base=PICK_A_PIC),
    row("label-null", {"label_0": None}, "'label_0' is None; expected a finite number", base=PICK_A_PIC),
    row("label-between", {"label_0": 0.3}, "'label_0' is 0.3; expected 0, 0.5 or 1", base=PICK_A_PIC),
    row("labels-contradict", {"label_1": 1.0}, "'label_0' and 'label_1'", "contradict each other", base=PICK_A_PIC),
    row("score-nan", {"scores": [NAN, 1.0]}, "'scores' is nan; expected a finite number", base=SCORED),
    row("score-infinite", {"scores": [float("inf"), 1.0]}, "'scores' is inf; expected a finite", base=SCORED),
    row("scores-too-few", {"scores": [1.0]}, "'scores' holds 1 values for 2 images", "one number per", base=SCORED),
    row("rank-null", {"rank": None}, "'rank' holds None for 3 images", "expected one number per image", base=RANKED),
    row("rank-of-wrong-length", {"rank": [1, 2]}, "'rank' holds 2 values for 3 images", base=RANKED),
    row("rank-with-a-null", {"rank": [1, None, 2]}, "'rank' is None; expected a finite number", base=RANKED),
    row(
        "one-image-ranked", {"images": [picture(1)], "rank": [1]}, "'images' holds 1 images", "at least 2", base=RANKED
    ),
    row("votes-negative", {"votes_image1": -3.0}, "'votes_image1'", "[-3.0, 1.0]; expected counts", base=VOTES),
    row("votes-null", {"votes_image1": None}, "'votes_image1' is None; expected a finite number", base=VOTES),
]

CAPTIONS = [
    row("caption-null", {"prompt": None}, "column 'prompt' is empty"),
    row("caption-empty", {"prompt": ""}, "column 'prompt' is empty"),
    row("caption-spaces", {"prompt": " \t\n"}, "column 'prompt' is empty"),
    row("caption-very-long", {"prompt": "a" * 100_000}, "'prompt' has 100,000 characters, the limit is 10,000"),
    row("caption-with-nul", {"prompt": "a\0cat"}, "'prompt' holds a NUL character", "save it as UTF-8"),
    line("caption-no-text", {"prompt": 7, "chosen": "chosen0.png", "rejected": "rejected0.png"},
         "column 'prompt' holds int; expected text"),
    line("caption-half-a-character", {"prompt": "a\ud800cat", "chosen": "chosen0.png", "rejected": "rejected0.png"},
         "'prompt' holds half a character (U+D800)", "save it as UTF-8"),
    line("caption-missing", {"chosen": "chosen0.png", "rejected": "rejected0.png"}, "column 'prompt' is missing"),
]  # fmt: skip


def _names(chosen: str) -> dict[str, str]:
    return {"prompt": "a blue moon", "chosen": chosen, "rejected": "rejected0.png"}


def _secret(world: World) -> Path:
    file = world.root / "secret.png"
    file.write_bytes(picture(9))
    return file


LINES = [
    line("cut", '{"prompt": "a blue moon", "cho', "not JSON"),
    line("no-object", "[1, 2]", 'expected an object such as {"prompt": ...}, found list'),
    line("not-utf8", '{"prompt": "caf\xe9"}'.encode("latin-1"), "not UTF-8 (byte 0xe9", "save the file as UTF-8"),
    line("nested-too-deep", "[" * 100_000, "not JSON"),
    line("image-missing", _names("gone.png"), "column 'chosen'", "no such file: gone.png", "relative to the file"),
    line("image-outside", _names("../secret.png"), "path ../secret.png leaves the folder", "put the images in it",
         prepare=_secret),
    line("image-as-base64", _names("iVBOR/" + "A" * 50_000), "column 'chosen' holds text of 50,006 characters",
         "perhaps base64 (iVBOR/", "give image files"),
    line("image-as-data-url", _names("data:image/png;base64,iVBOR"), "column 'chosen' holds text of 27 characters",
         "a data: URL", "give image files"),
    line("image-with-backslash", _names("sub\\gone.png"), "no such file: sub\\gone.png", "write / between folders"),
    line("key-twice", '{"prompt": "a", "prompt": "b", "chosen": "chosen0.png", "rejected": "rejected0.png"}',
         "the key 'prompt' stands twice", "drop one"),
    line("image-absolute", _names("/etc/passwd"), "path /etc/passwd leaves the folder", "relative to it"),
    line("image-link-outside", _names("link.png"), "path link.png leaves the folder",
         prepare=lambda world: (world.data / "link.png").symlink_to(_secret(world))),
    line("image-url", _names("https://example.org/a.png"), "is a URL", "download the images"),
    line("image-name-with-nul", _names("a\0b.png"), "holds a NUL character"),
    line("image-is-a-folder", _names("sub"), "no such file: sub", prepare=lambda world: (world.data / "sub").mkdir()),
    line("image-a-number", {"prompt": "a blue moon", "chosen": 5, "rejected": "rejected0.png"},
         "column 'chosen' holds int; expected the bytes"),
]  # fmt: skip

FOLDERS = [
    folders("empty-image", lambda data: (data / "l" / "b.png").write_bytes(b""),
            "l/b.png: the image is empty (0 bytes)"),
    replace(folders("text-named-png", lambda data: (data / "l" / "b.png").write_text("hello"), "l/b.png",
                    "not an image file (5 bytes)"), decoded=True),
    folders("no-partner", lambda data: (data / "l" / "b.png").unlink(), "w/b.png: no partner", "named b in"),
    folders("two-images-of-one-stem", lambda data: (data / "w" / "b.webp").write_bytes(picture(3)), "b.png",
            "two images of one name", "keep one"),
    folders("caption-missing", lambda data: (data / "w" / "b.txt").unlink(), "b.png: no caption", "write b.txt"),
    folders("caption-not-utf8", lambda data: (data / "w" / "b.txt").write_bytes(b"caf\xe9"), "b.txt is not UTF-8",
            "position 3", "save it as UTF-8"),
    folders("caption-empty", lambda data: (data / "w" / "b.txt").write_text(" \n"), "b.txt is empty"),
    folders("captions-differ", lambda data: (data / "l" / "b.txt").write_text("a dog"), "two captions that differ",
            "keep one"),
    folders("link-to-nothing", lambda data: _relink(data / "l" / "b.png"), "l/b.png", "is a link to gone.png, and no"),
]  # fmt: skip


def _relink(file: Path) -> None:
    file.unlink()
    file.symlink_to("gone.png")


ROWS = [*IMAGES, *LABELS, *CAPTIONS, *LINES, *FOLDERS]
