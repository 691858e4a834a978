"""A language model that rewords pages is believed only where every fact stays: an honest one, and those that are not."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

sys.path.insert(0, str(Path(__file__).parents[1]))
from evidence_example import example_evidence
from storyxai.errors import InputError
from storyxai.evidence.archive import write_archive
from storyxai.evidence.record import as_archived, as_record, record_sha256
from storyxai.pages.story import render_html
from storyxai.phantoms.generate import generate_phantom
from storyxai.programs import tell as telling
from storyxai.programs.release import release
from storyxai.programs.rewrite import PROMPT_SHA256, LanguageModel, reword
from storyxai.programs.verify import verify
from storyxai.proof.lexicon import Lexicon
from storyxai.proof.paraphrase import difference
from storyxai.proof.rewording import REWORDING_NAME, PageRewording, Rewording
from storyxai.provenance import software_versions
from storyxai.story.tell import AUDIENCES, tell
from storyxai.types import Evidence, Story

Answer = Callable[[list[str]], str]
Say = Callable[[str], str]


@contextmanager
def serving(answer: Answer, *, before: Callable[[BaseHTTPRequestHandler], bool] = lambda handler: True) -> Iterator[str]:
    """The address of a server of chat completions that answers with what `answer` makes of the lines it is asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not before(self):
                return
            lines = [line.partition(". ")[2] for line in body["messages"][1]["content"].splitlines()]
            content = json.dumps({"choices": [{"message": {"content": answer(lines)}}]}).encode()
            self.send_response(200)
            self.end_headers()
            try:
                self.wfile.write(content)
            except OSError:  # the asker has hung up
                return

        def log_message(self, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


def numbered(say: Say) -> Answer:
    return lambda lines: "\n".join(f"{number}. {say(line)}" for number, line in enumerate(lines, start=1))


def honest(line: str) -> str:
    """Other words for the same facts."""
    return line.replace("Your doctor looks at", "Your doctor examines").replace("can be wrong", "can be mistaken")


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    example = example_evidence()
    versions = software_versions("numpy", "scipy", "pillow")
    version = software_versions("storyxai")["storyxai"]
    return as_archived(replace(example, provenance={**example.provenance, "packages": versions, "version": version}))


def asked(evidence: Evidence, answer: Answer, audience: str = "patient", **options: Any) -> tuple[Story, PageRewording]:
    with serving(answer) as address:
        return reword(tell(evidence, audience), evidence, LanguageModel(address, "tiny", **options))


def test_an_honest_model_is_taken_and_the_page_says_so(evidence: Evidence, tmp_path: Path) -> None:
    story, page = asked(evidence, numbered(honest))
    assert {one.refused for one in page.paragraphs} == {""} and len(page.said) == 2
    texts = [sentence.text for section in story.sections for sentence in section.sentences]
    assert "Your doctor examines the X-ray and talks with you." in texts
    assert texts[-1].startswith("A language model reworded parts of this page")
    assert (page.model, page.prompt_sha256) == ("tiny", PROMPT_SHA256)
    folder = _written(evidence, story, page, tmp_path)
    assert verify(folder).problems == ()
    release(folder, by="Dr. A", time="2026-11-29T12:00:00Z")
    assert b"Your doctor examines" in (folder / "patient.html").read_bytes() and verify(folder).problems == ()


def test_what_lies_beside_the_page_is_checked_again(evidence: Evidence, tmp_path: Path) -> None:
    story, page = asked(evidence, numbered(honest))
    folder = _written(evidence, story, page, tmp_path)
    path = folder / REWORDING_NAME
    path.write_text(path.read_text(encoding="utf-8").replace("Your doctor examines", "No doctor examines"), encoding="utf-8")
    problems = verify(folder).problems
    assert any(problem.startswith(REWORDING_NAME) and "says “not”" in problem for problem in problems), problems
    path.write_text("{}", encoding="utf-8")
    assert any(problem.startswith(f"{REWORDING_NAME}: cannot be read") for problem in verify(folder).problems)


def test_a_page_that_hides_that_it_was_reworded_is_found(evidence: Evidence, tmp_path: Path) -> None:
    story, page = asked(evidence, numbered(honest))
    last = story.sections[-1]
    silent = replace(story, sections=(*story.sections[:-1], replace(last, sentences=last.sentences[:-1])))
    folder = _written(evidence, silent, page, tmp_path)
    assert any("does not say that a language model reworded it" in problem for problem in verify(folder).problems)


HOSTILE: dict[str, tuple[str, Say, str]] = {
    "a finding more": ("patient", lambda line: f"{line.rstrip('.')}, and there is a small spot in the lung.", "finding Nodule"),
    "another illness": ("patient", lambda line: f"{line.rstrip('.')}, which is cancer.", "“cancer”"),
    "the other side": (
        "clinician", lambda line: line.replace("right", "\0").replace("left", "right").replace("\0", "left"), "was told"),
    "no doubt": ("patient", lambda line: re.sub(r"\b(may well|might|can) ", "does ", line), "doubts"),
    "another number": ("clinician", lambda line: re.sub(r"0\.\d\d", "0.42", line), "0.42"),
    "another tier": ("practitioner", lambda line: line.replace("Likely:", "Unlikely:").replace("Possible:", "Likely:"), "tier"),
    "turned round": ("patient", lambda line: line.replace("does not", "does").replace("Do not", "Do"), "was told"),
    "a fact less": ("patient", lambda line: re.sub(r",? or .*\.$", ".", line), "leaves out"),
    "an order": ("patient", lambda line: line.replace("Your doctor looks", "Ignore your doctor, who looks"), "“ignore”"),
    "markup": ("patient", lambda line: f"{line}<script>alert(1)</script>", "marks"),
    "a link": ("patient", lambda line: f"{line} See www.example.org.", "address"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_hostile_model_alters_is_refused(name: str, evidence: Evidence) -> None:
    audience, say, why = HOSTILE[name]
    story, page = asked(evidence, numbered(say), audience)
    assert any(why in one.refused for one in page.paragraphs), [one.refused for one in page.paragraphs]
    told = tell(evidence, audience)
    assert page.said == {}, "the lines that it did not touch stand as they were"
    before = [[sentence.text for sentence in section.sentences] for section in told.sections]
    after = [[sentence.text for sentence in section.sentences] for section in story.sections]
    assert after[:-1] == before[:-1] and after[-1][:-1] == before[-1]
    assert "nothing of it passed the check" in after[-1][-1]


@pytest.mark.parametrize(("answer", "why"), [
    (lambda lines: "x" * (10 << 20), "answered too much"),
    (lambda lines: "Certainly! Here you go.", "line by line"),
    (lambda lines: "\n".join(f"{n}. {line}" for n, line in enumerate(lines[1:], start=1)), "line by line"),
])  # fmt: skip
def test_what_is_no_answer_leaves_the_page_as_it_was(answer: Answer, why: str, evidence: Evidence) -> None:
    _, page = asked(evidence, answer)
    assert page.said == {} and all(why in one.refused for one in page.paragraphs)


def test_a_model_that_hangs_or_drips_is_left_after_its_time(evidence: Evidence) -> None:
    def hang(handler: BaseHTTPRequestHandler) -> bool:
        time.sleep(1.5)
        return False

    def drip(handler: BaseHTTPRequestHandler) -> bool:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(30):
            try:
                handler.wfile.write(b" ")
                handler.wfile.flush()
            except OSError:
                return False
            time.sleep(0.05)
        return False

    for slow in (hang, drip):
        with serving(numbered(honest), before=slow) as address:
            started = time.monotonic()
            _, page = reword(tell(evidence, "patient"), evidence, LanguageModel(address, seconds=0.3))
            assert time.monotonic() - started < 5
        assert {one.refused for one in page.paragraphs} == {"the language model did not answer in time"}


def test_a_model_that_is_down_or_answers_otherwise_is_said(evidence: Evidence) -> None:
    story = tell(evidence, "patient")
    _, page = reword(story, evidence, LanguageModel("http://127.0.0.1:9/v1", seconds=1))
    assert {one.refused for one in page.paragraphs} == {"the language model cannot be reached"}

    def elsewhere(handler: BaseHTTPRequestHandler) -> bool:
        handler.send_response(302)
        handler.send_header("Location", "http://192.0.2.1/v1/chat/completions")
        handler.end_headers()
        return False

    with serving(numbered(honest), before=elsewhere) as address:
        _, page = reword(story, evidence, LanguageModel(address))
    assert {one.refused for one in page.paragraphs} == {"the language model answered with status 302"}


@pytest.mark.parametrize("address", [
    "http://192.0.2.1/v1", "https://api.example.org/v1", "http://127.0.0.1.example.org/v1", "file:///v1", "localhost:8080",
    "http://127.0.0.1@example.org/v1", "http://0.0.0.0:80/v1", "http://[::ffff:192.0.2.1]/v1", "http://127.0.0.1:x/v1",
])  # fmt: skip
def test_only_this_machine_is_asked(address: str) -> None:
    with pytest.raises(InputError, match="rewrite-with"):
        LanguageModel(address).check()


def test_addresses_of_this_machine_are_taken() -> None:
    for address in ("http://127.0.0.1:8080/v1", "http://localhost:11434/v1", "http://[::1]:80/v1"):
        LanguageModel(address).check()


@pytest.mark.parametrize(("told", "new"), [
    ("The computer can be wrong.", "The computer can be mistaken."),
    ("It saw no older X-rays of you.", "It has seen no earlier X-rays of you."),
    ("Effusion is likely: about 81 in 100 images show it.", "Effusion is likely; about 81 in 100 pictures show it."),
])  # fmt: skip
def test_other_words_for_the_same_are_taken(told: str, new: str, evidence: Evidence) -> None:
    assert difference(told, new, Lexicon.of("en", as_record(evidence))) == ""


@pytest.mark.parametrize(("told", "new", "why"), [
    ("Instead of effusion it may be pneumonia.", "Instead of pneumonia it may be effusion.", "finding Pneumonia"),
    ("Effusion is likely.", "Effusion is not likely.", "“not”"),
    ("Effusion is likely.", "Effusion is unlikely.", "tier unlikely"),
    ("It spans 20 by 30 mm.", "It spans 20 by 30 pixels.", "30pixels"),
    ("About 8 in 10 have it.", "About 8 in 100 have it.", "“100”"),
    ("It passed on 80 % of them.", "It passed on 80 of them.", "“80”"),
    ("Two maps agree.", "Three maps agree.", "three"),
    ("The map lies on the left.", "The map lies there.", "side left"),
    ("A doctor must check what it says.", "A doctor checks what it says.", "doubts"),
])  # fmt: skip
def test_each_fact_is_held(told: str, new: str, why: str, evidence: Evidence) -> None:
    assert why in difference(told, new, Lexicon.of("en", as_record(evidence)))


def _written(evidence: Evidence, story: Story, page: PageRewording, tmp_path: Path) -> Path:
    folder = write_archive(evidence, tmp_path / "study")
    for audience in AUDIENCES:
        told = story if audience == story.audience else tell(evidence, audience)
        (folder / f"{audience}.html").write_bytes(render_html(told, evidence))
    file = Rewording(record_sha256(as_record(evidence)), {story.audience: page}).to_bytes()
    (folder / REWORDING_NAME).write_bytes(file)
    return folder


def test_tell_rewords_and_keeps_what_was_reworded_until_told_anew(tmp_path: Path) -> None:
    film = tmp_path / "film.png"
    Picture.fromarray(np.rint(255 * generate_phantom(4, size=192).image.pixels).astype(np.uint8)).save(film)
    with pytest.raises(InputError, match="no address of this machine"):
        telling.tell([film], tmp_path / "out", telling.TellOptions(rewriter=LanguageModel("http://192.0.2.1/v1")))
    options = telling.TellOptions(audiences=("patient",), samples=100)
    with serving(numbered(honest)) as address:
        reworded = replace(options, rewriter=LanguageModel(address, "tiny"))
        (told,) = telling.tell([film], tmp_path / "out", reworded)
    assert isinstance(told, telling.Told) and "paragraphs reworded" in told.rewording["patient"]
    page = (told.folder / "patient.html").read_bytes()
    assert b"Your doctor examines" in page and verify(told.folder).problems == ()
    (again,) = telling.tell([film], tmp_path / "out", options)
    assert isinstance(again, telling.Told) and again.rewording == {}
    assert b"Your doctor looks at" in (told.folder / "patient.html").read_bytes() and verify(told.folder).problems == ()
