"""The page of `mmpo vote` in a real browser, where there is one: keys, undo, finish, and no console error."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from browsers import BROWSERS, needs_browser
from command_line import MMPO, environment
from vote_files import samples

from mmpo.data.candidates import open_candidates
from mmpo.data.shards import read_rows
from mmpo.data.vote_log import open_log
from mmpo.data.vote_schedule import schedule
from mmpo.data.vote_wins import read_votes, wins_of
from pipelines.vote_ballot import Ballot
from pipelines.vote_data import vote_data
from pipelines.vote_http import VotePage, new_token
from pipelines.vote_server import VoteServer

pytestmark = needs_browser

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>"
DESKTOP, PHONE = (1280, 800), (390, 844)
READY = "body[data-state=ready]"


class Shown(NamedTuple):
    """An open page, and what went wrong on it."""

    page: Any
    faults: list[str]

    def press(self, key: str) -> str:
        """Presses a key, waits for the answer, and says how many are answered."""
        self.page.keyboard.press(key)
        return self.settled()

    def settled(self) -> str:
        """How many are answered, when the page waits for a person again."""
        self.page.wait_for_selector(READY, timeout=60_000)
        return str(self.page.inner_text("#count"))

    def images(self) -> list[int]:
        """Numbers of the two images, as they are shown."""
        sources = [self.page.get_attribute(f"#side{k} img", "src") for k in (1, 2)]
        return [int(source.rpartition("/")[2]) for source in sources]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, BROWSERS)))
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, address: str, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> Iterator[Shown]:
    """The page; errors on the console and requests elsewhere fail at the end."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    faults: list[str] = []
    page.on("console", lambda said: faults.append(f"{said.type}: {said.text}"))
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("dialog", lambda dialog: faults.append(f"dialog: {dialog.message}"))
    inside = (address, "data:")
    page.on("request", lambda sent: sent.url.startswith(inside) or faults.append(f"request: {sent.url}"))
    page.goto(address)
    shown = Shown(page, faults)
    shown.settled()
    yield shown
    page.close()
    assert not faults


@contextmanager
def served(data: Path, output: Path) -> Iterator[VoteServer]:
    """A server in this process."""
    with ExitStack() as stack:
        found = stack.enter_context(vote_data(open_candidates(str(data)), str(data)))
        log = stack.enter_context(open_log(output))
        ballot = Ballot(found, schedule(found.named(), seed=0), log, MARKUP)
        server = VoteServer(VotePage(ballot, found.images, new_token(), lambda: [MARKUP]))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def started(command: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A command at work, which does not outlive this."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment()) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[VoteServer]:
    with served(samples(tmp_path / "samples", {MARKUP: 3, "a cat": 2}), tmp_path / "votes") as server:
        yield server


def test_keys_vote_take_back_and_finish_and_the_command_ends(browser: Any, tmp_path: Path) -> None:
    """The whole way of a voter, with the command in a process of its own."""
    samples(tmp_path / "images")
    command = [str(MMPO), "vote", "images", "--voter", "Ann"]
    with started(command, tmp_path) as process:
        assert process.stdout is not None
        address = next(line.strip() for line in process.stdout if "http://" in line)
        with opened(browser, address) as shown:
            expected, sides = [], []
            for key, count in (("1", "1 of 5"), ("2", "2 of 5"), ("0", "3 of 5"), ("1", "4 of 5")):
                sides.append(shown.images())
                expected.append({"1": sides[-1][0], "2": sides[-1][1], "0": None}[key])
                assert shown.press(key) == count
            assert shown.press("Backspace") == "3 of 5"
            assert shown.images() == sides[-1]
            shown.page.reload()
            assert shown.settled() == "3 of 5"
            assert shown.images() == sides[-1]
            assert shown.press("2") == "4 of 5"
            expected[-1] = sides[-1][1]
            assert shown.press("1") == "5 of 5"
            assert shown.page.is_visible("text=All 5 questions are answered")
            shown.page.keyboard.press("Enter")  # finish has the focus
            shown.page.wait_for_selector("#written li", timeout=60_000)
            assert "images-votes/pairs" in shown.page.inner_text("#written")
        out = process.stdout.read()
        assert process.wait(20) == 0, out
    assert "next: mmpo train RECIPE data.path=images-votes/pairs" in out
    votes = read_votes(tmp_path / "images-votes")
    assert [one.result is None for one in votes] == [False, False, False, False, True, False, False]
    assert {one.voter for one in votes} == {"Ann"}
    chosen = [row["chosen"]["bytes"] for _, row in read_rows(tmp_path / "images-votes" / "pairs")]
    assert len(chosen) == 4
    assert {tiny.picture(number) for number in expected if number is not None} <= set(chosen)
    assert 0.5 in wins_of(votes).values()


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark"), ((320, 568), "light")])
def test_two_images_as_large_as_fit(browser: Any, server: VoteServer, size: tuple[int, int], scheme: str) -> None:
    with opened(browser, server.address, size, scheme) as shown:
        while "script" not in shown.page.inner_text("#prompt"):
            shown.press("1")
        assert shown.page.inner_text("#prompt") == MARKUP
        assert shown.page.inner_text("#voter") == MARKUP
        across, high = shown.page.evaluate("[document.body.scrollWidth, document.documentElement.scrollHeight]")
        assert across <= size[0]
        assert high <= size[1]
        for side in ("#side1 img", "#side2 img"):
            box = shown.page.locator(side).bounding_box()
            assert box["x"] >= 0
            assert box["y"] + box["height"] <= size[1]
            assert min(box["width"], box["height"]) >= 0.3 * min(size)
            assert "pixels" in shown.page.get_attribute(side, "class")


def test_the_mouse_votes_too(browser: Any, server: VoteServer, tmp_path: Path) -> None:
    with opened(browser, server.address, PHONE) as shown:
        for selector, count in (("#side2", "1 of 4"), ("#tie", "2 of 4"), ("#undo", "1 of 4"), ("#side1", "2 of 4")):
            shown.page.click(selector)
            assert shown.settled() == count
        shown.page.click("#finish")
        shown.page.wait_for_selector("#written li")
        assert shown.page.inner_text("#written li") == MARKUP
    assert server.finished.is_set()
    votes = read_votes(tmp_path / "votes")
    assert [one.result is None for one in votes] == [False, False, True, False]
    assert votes[0].result == 3 - votes[0].left


def test_keys_that_are_held_or_are_shortcuts_are_no_votes(browser: Any, server: VoteServer, tmp_path: Path) -> None:
    with opened(browser, server.address) as shown:
        shown.page.keyboard.down("1")
        assert shown.settled() == "1 of 4"
        shown.page.keyboard.down("1")  # the same again without `up` is a repeat
        assert shown.settled() == "1 of 4"
        shown.page.keyboard.up("1")
        for keys in ("Control+2", "Alt+2", "3", "a", "Space"):
            assert shown.press(keys) == "1 of 4"
        assert shown.press("2") == "2 of 4"
    assert len(read_votes(tmp_path / "votes")) == 2


def test_another_page_in_the_same_browser_cannot_vote(browser: Any, server: VoteServer, tmp_path: Path) -> None:
    """Not even one of another port of this machine that knows the token; the last try needs no leave to be sent."""
    page, sent = browser.new_page(), list[str]()
    other = "http://127.0.0.1:9/"
    page.route(other, lambda route: route.fulfill(body="elsewhere", content_type="text/html"))
    page.on("request", lambda request: sent.append(request.method))
    page.goto(other)
    script = """async (address) => {
        const body = JSON.stringify({number: 0, choice: 1});
        const tries = [{headers: {"Content-Type": "application/json"}}, {}, {mode: "no-cors"}];
        return Promise.all(tries.map((more) => fetch(address + "vote", {method: "POST", body, ...more}).then(
            (answer) => answer.type, () => "refused")));
    }"""
    assert set(page.evaluate(script, server.address)) <= {"refused", "opaque"}
    assert "POST" in sent
    page.close()
    assert read_votes(tmp_path / "votes") == []


def test_a_command_that_ended_is_said(browser: Any, server: VoteServer, tmp_path: Path) -> None:
    page = browser.new_page()
    page.goto(server.address)
    page.wait_for_selector(READY)
    server.shutdown()
    server.socket.close()
    page.context.set_offline(True)  # connections that are open already
    page.keyboard.press("1")
    page.wait_for_selector("#fault:visible")
    assert "is it still running?" in page.inner_text("#fault")
    page.close()


def test_a_picture_that_cannot_be_shown_is_said_and_can_be_passed(browser: Any, server: VoteServer) -> None:
    page = browser.new_page()
    page.route("**/image/*", lambda route: route.fulfill(body="no image", content_type="image/png"))
    page.goto(server.address)
    page.wait_for_selector(READY)
    assert "cannot be shown" in page.inner_text("#fault")
    page.keyboard.press("0")
    page.wait_for_selector(READY)
    assert page.inner_text("#count") == "1 of 4"
    page.close()


def test_answers_are_shown_beside_their_image(browser: Any, tmp_path: Path) -> None:
    texts = [MARKUP, "A dog.\n" + 200 * "It is long. "]
    image = {"bytes": tiny.picture(0, 64), "path": None}
    rows = [{"prompt": "What is it?", "image": image, "response": text} for text in texts]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "answers.parquet")
    with served(tmp_path / "answers.parquet", tmp_path / "votes") as server:
        for size in (DESKTOP, PHONE):
            with opened(browser, server.address, size) as shown:
                found = [shown.page.text_content(f"#side{k} .answer") for k in (1, 2)]
                assert sorted(found) == sorted(texts)
                assert shown.page.is_visible("#about")
                assert not shown.page.is_visible("#side1 img")
                assert shown.page.evaluate("document.documentElement.scrollWidth") <= size[0]
                lowest = shown.page.locator("#side2 .answer").evaluate("e => e.scrollHeight - e.clientHeight")
                assert lowest <= 0  # all of it is there, and the page scrolls
