"""The server of `mmpo vote`: on this machine alone, for who knows the token, and nothing but votes; and the command."""

from __future__ import annotations

import errno
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import command_line
import pytest
import tiny
from command_line import Main, assert_refused
from vote_files import lines, sample_id, samples, vote

from mmpo.data.candidates import open_candidates
from mmpo.data.vote_log import open_log
from mmpo.data.vote_schedule import schedule
from mmpo.data.vote_wins import read_scores, read_votes
from pipelines.vote_ballot import Ballot
from pipelines.vote_data import vote_data
from pipelines.vote_http import LARGEST_BODY, VotePage, new_token
from pipelines.vote_server import VoteServer, serve

main = command_line.main

JSON = {"Content-Type": "application/json"}


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Site(NamedTuple):
    """A server at work."""

    server: VoteServer
    votes: Path
    finished: list[str]

    def ask(self, path: str, body: Any = None, method: str = "", **headers: str) -> Answer:
        """A request as the page makes it; `headers` (with _ for -) replace its own, "" leaves one out."""
        here = f"127.0.0.1:{self.server.server_port}"
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        own = {"Host": here, **({"Origin": f"http://{here}", **JSON} if data is not None else {})}
        own |= {name.replace("_", "-"): value for name, value in headers.items()}
        line = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=10)
        line.putrequest(method or ("GET" if data is None else "POST"), path, skip_host=True)
        for name, value in own.items():
            if value:
                line.putheader(name, value)
        if data is not None and "Content-Length" not in own:
            line.putheader("Content-Length", str(len(data)))
        line.endheaders(data)
        try:
            got = line.getresponse()
            return Answer(got.status, dict(got.headers), got.read())
        finally:
            line.close()

    def page(self, name: str = "", body: Any = None, **more: str) -> Answer:
        """The same below the token."""
        return self.ask(f"/{self.server.page.token}/{name}", body, **more)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    data = samples(tmp_path / "samples")
    with vote_data(open_candidates(str(data)), str(data)) as found, open_log(tmp_path / "votes") as log:
        written: list[str] = []

        def finish() -> list[str]:
            if not ballot.votes:
                raise ValueError("nobody voted yet")
            written.append("written")
            return written

        ballot = Ballot(found, schedule(found.named(), seed=0), log, "me")
        server = VoteServer(VotePage(ballot, found.images, new_token(), finish))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Site(server, tmp_path / "votes", written)
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_page_asks_nobody_else(site: Site) -> None:
    page = site.page()
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    for name in ("vote.css", "vote.js"):
        assert site.page(name).status == 200
        assert b"://" not in site.page(name).body
        assert name.encode() in page.body
    assert "Python" not in page.headers["Server"]


def test_votes_go_to_the_file_and_back(site: Site) -> None:
    state = site.page("state").json
    assert (state["done"], state["total"], state["number"]) == (0, 5, 0)
    after = site.page("vote", {"number": 0, "choice": 1}).json
    assert (after["done"], after["number"]) == (1, 1)
    (kept,) = read_votes(site.votes)
    assert kept.result == kept.left
    assert site.page("undo", {"number": 1}).json["number"] == 0
    assert [one.result for one in read_votes(site.votes)] == [kept.result, None]


def test_images_are_served_by_number_alone(site: Site) -> None:
    first = site.page("image/0")
    assert (first.status, first.headers["Content-Type"], first.body) == (200, "image/png", tiny.picture(0))
    assert "max-age" in first.headers["Cache-Control"]
    bad = ["7", "-1", "00000000000", "0/", "../state", "%2e%2e/vote.css", "0.png", "", "٣", "0?x"]
    for name in [f"image/{number}".encode().decode("latin-1") for number in bad]:
        assert site.page(name.replace("Ù£", "%D9%A3")).status == 404, name


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1]", "0.0.0.0"])
def test_another_host_is_refused(site: Site, host: str) -> None:
    """A name that was made to mean this machine (DNS rebinding) is still another name."""
    for answer in (site.page("state", Host=host), site.page("vote", {"number": 0, "choice": 1}, Host=host)):
        assert answer.status in (400, 403)
        assert b"prompt" not in answer.body
    assert read_votes(site.votes) == []


def test_localhost_and_a_forwarded_port_are_this_machine(site: Site) -> None:
    assert site.page("state", Host="localhost:1234").status == 200
    there = {"Host": "localhost:1234", "Origin": "http://localhost:1234"}
    assert site.page("vote", {"number": 0, "choice": 1}, **there).status == 200


@pytest.mark.parametrize("origin", ["", "null", "http://evil.example", "http://127.0.0.1:1", "https://127.0.0.1"])
def test_another_page_of_this_machine_cannot_vote(site: Site, origin: str) -> None:
    assert site.page("vote", {"number": 0, "choice": 1}, Origin=origin).status == 403
    assert read_votes(site.votes) == []


def test_without_the_token_there_is_nothing(site: Site) -> None:
    token = site.server.page.token
    paths = ["/", "/state", "/x/state", f"/{token[:-1]}/state", f"/{token}x/state", f"/x/{token}/state", "/favicon.ico"]
    assert len(token) >= 32
    for path in [*paths, f"/{token}", f"/{token}?/", "*", f"{token}/state"]:
        assert site.ask(path).status == 404, path
        assert site.ask(path, {"number": 0, "choice": 1}).status == 404, path
    assert read_votes(site.votes) == []


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("vote", b"{", 400),
        ("vote", b"\xff", 400),
        ("vote", b"[" * 4000, 400),
        ("vote", [], 400),
        ("vote", {}, 400),
        ("vote", {"number": 0}, 400),
        ("vote", {"number": 0, "choice": 3}, 400),
        ("vote", {"number": 0, "choice": True}, 400),
        ("vote", {"number": 0, "choice": "1"}, 400),
        ("vote", {"number": "0", "choice": 1}, 400),
        ("vote", {"number": None, "choice": 1}, 400),
        ("vote", {"number": 3, "choice": 1}, 409),
        ("undo", {}, 409),
        ("undo", {"number": 0}, 409),
        ("undo", {"number": 0.0}, 400),
        ("finish", {}, 422),
        ("state", {}, 404),
        ("image/0", {}, 404),
        ("elsewhere", {}, 404),
    ],
    ids=repr,
)
def test_a_bad_request_is_a_status_and_changes_nothing(site: Site, name: str, body: Any, status: int) -> None:
    answer = site.page(name, body)
    assert answer.status == status
    assert answer.json["error"]
    assert read_votes(site.votes) == []
    assert not site.server.finished.is_set()
    assert site.page("state").json["number"] == 0


def test_what_is_large_or_of_another_kind_is_not_read(site: Site) -> None:
    large = {"number": 0, "choice": 1, "x": "x" * LARGEST_BODY}
    assert site.page("vote", large).status == 413
    good = {"number": 0, "choice": 1}
    assert site.page("vote", good, Content_Length="9" * 30).status == 413
    assert site.page("vote", good, Content_Length="-1").status == 411
    assert site.page("vote", good, Transfer_Encoding="chunked").status == 411
    assert site.page("vote", good, Content_Type="text/plain").status == 415
    assert site.page("state", method="PUT").status == 501
    assert site.page("state", method="OPTIONS").status == 501
    assert read_votes(site.votes) == []


def test_a_disk_that_is_full_is_said_on_the_page(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    answer = site.page("vote", {"number": 0, "choice": 1})
    assert answer.status == 507
    assert "No space left on device" in answer.json["error"]
    monkeypatch.undo()
    assert site.page("vote", {"number": 0, "choice": 1}).status == 200


def test_many_at_once_keep_one_answer_a_question(site: Site) -> None:
    statuses: list[int] = []

    def send() -> None:
        statuses.append(site.page("vote", {"number": 0, "choice": 1}).status)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, *[409] * 7]
    assert len(read_votes(site.votes)) == 1


def test_it_listens_on_this_machine_alone(site: Site) -> None:
    assert site.server.server_address[0] == "127.0.0.1"
    assert site.server.address.startswith(f"http://127.0.0.1:{site.server.server_port}/")


def test_finishing_ends_the_server_after_it_answered(tmp_path: Path) -> None:
    data = samples(tmp_path / "samples")
    with vote_data(open_candidates(str(data)), str(data)) as found, open_log(tmp_path / "votes") as log:
        ballot = Ballot(found, schedule(found.named(), seed=0), log, "me")
        server = VoteServer(VotePage(ballot, found.images, new_token(), lambda: ["all"]))
        got: list[Answer] = []
        browser = threading.Thread(target=lambda: got.append(Site(server, tmp_path, []).page("finish", {})))
        late = threading.Timer(60, server.finished.set)
        late.start()
        assert serve(server, lambda address: browser.start())
        assert late.is_alive()
        late.cancel()
        browser.join()
        assert got[0].json == {"written": ["all"]}


# --------------------------------------------------------------------------------------------------------- command


def test_write_writes_what_was_voted_so_far(main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    samples(tmp_path / "images")
    (tmp_path / "images-votes").mkdir()
    votes = [
        vote(sample_id("a cat", 0), sample_id("a cat", 2), 1),
        vote(sample_id("a cat", 1), sample_id("a cat", 0), 0),
    ]
    (tmp_path / "images-votes" / "votes.jsonl").write_bytes(lines(votes))
    result = main("vote", "images", "--write")
    assert result.code == 0, result
    assert "1 pairs (1 undecided are left out): images-votes/pairs" in result.out
    assert result.out.splitlines()[-1] == "next: mmpo train RECIPE data.path=images-votes/pairs"
    assert read_scores(tmp_path / "images-votes") == {
        sample_id("a cat", 0): 0.75,
        sample_id("a cat", 1): 0.5,
        sample_id("a cat", 2): 0.0,
    }
    assert main("vote", "images-votes/pairs", "--write").code == 2


def test_a_taken_port_is_said(main: Main, tmp_path: Path) -> None:
    samples(tmp_path / "images")
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = main("vote", tmp_path / "images", "--port", other.getsockname()[1])
    assert_refused(result, f"--port {other_port(result.err)} is taken; give another")
    assert not (tmp_path / "images-votes").exists()


def other_port(text: str) -> str:
    """The port that a message names."""
    return text.partition("--port ")[2].split()[0]


def test_what_cannot_be_voted_on_is_refused_and_leaves_nothing(main: Main, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(main("vote", tmp_path / "empty"), "empty", "no preference data in it")
    alone = samples(tmp_path / "alone", {"a cat": 1, "a dog": 1})
    assert_refused(main("vote", alone), "each of its 2 prompts has a single candidate")
    assert_refused(main("vote", tmp_path / "nowhere"), "no such file or folder")
    data = samples(tmp_path / "images")
    assert_refused(main("vote", data, "--write"), "votes.jsonl: no such file")
    assert_refused(main("vote", data, "--output", data / "votes"), "is or lies inside")
    assert_refused(main("vote", data, "--output", data / "shard-00000.parquet" / "x"), "is or lies inside")
    assert_refused(main("vote", data, "--voter", " "), "--voter: expected a name")
    assert_refused(main("vote", "some/name", "--write"), "--output: some/name is no single place on this machine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "empty", "images"]


def test_votes_of_other_data_are_refused(main: Main, tmp_path: Path) -> None:
    data = samples(tmp_path / "images")
    place = tmp_path / "images-votes"
    place.mkdir()
    (place / "votes.jsonl").write_bytes(lines([vote("x", "y", 1, prompt="a fish")]))
    for options in ((), ("--write",)):
        assert_refused(main("vote", data, *options), "1 of 1 are on candidates that are not in the data", "'a fish'")
    (place / "votes.jsonl").write_text("my own notes\n")
    assert_refused(main("vote", data), "votes.jsonl, line 1: is no vote")
    assert (place / "votes.jsonl").read_text() == "my own notes\n"
