"""What any renderer of pages must keep to: run `check_renderer(render, story, evidence)` on your own.

A renderer is a function (story, evidence) -> bytes of one HTML page.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from storyxai.errors import CitationError
from storyxai.evidence.record import as_record
from storyxai.evidence.story_record import story_as_record
from storyxai.story.citations import check_page, story_of_page
from storyxai.types import RESEARCH_USE, Evidence, Section, Story

Renderer = Callable[[Story, Evidence], bytes]
VOID = {"meta", "img", "br", "line", "rect", "circle", "link", "input", "hr"}


class PageFacts(HTMLParser):
    """What a page is made of: images and drawings with their alt texts, links, ids, and whether its tags close in order."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.drawings: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.crossed: list[str] = []
        self.language: str | None = None
        self.feed(page.decode("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "html":
            self.language = given.get("lang")
        if tag == "img":
            self.images.append(given)
        if tag == "svg" and given.get("role") == "img":
            self.drawings.append(given)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.crossed.append(tag)


def check_policy(text: str) -> None:
    """Nothing, when the page's policy lets in its own style sheet and script, by their hashes, and pictures that it holds."""
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in html.unescape(policy[1]).split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        held = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in held]
        assert [f"'sha256-{digest}'" for digest in digests] == rules.get(rule, "").split()


def check_renderer(render: Renderer, story: Story, evidence: Evidence) -> None:
    """Nothing, when `render` keeps to every rule for this story; an assertion error names the rule it breaks."""
    page = render(story, evidence)
    assert page == render(story, evidence), "same story, same bytes"
    facts = PageFacts(page)
    text = page.decode("utf-8")
    assert facts.language == story.language
    assert not facts.crossed and not facts.open, "tags close in order"
    assert len(facts.ids) == len(set(facts.ids)), "an id stands once"
    outside = [link for link in facts.links if not link.startswith(("#", "data:image/png;base64,"))]
    assert not outside, "a page needs nothing from outside"
    outward = r"@import|url\((?!#)|<link|<iframe|javascript:|\son\w+=|\sstyle="
    assert not re.search(outward, text), "no way out by style or script"
    check_policy(text)
    assert {link[1:] for link in facts.links if link.startswith("#")} <= set(facts.ids), "every link has its target"
    assert all(image.get("alt") is not None for image in facts.images)
    assert all(drawing.get("aria-label") for drawing in facts.drawings)
    assert text.count(RESEARCH_USE) >= 4, "banner at top and bottom, on screen and on every printed page"
    assert check_page(page, as_record(evidence)) == []
    assert story_as_record(story_of_page(page)) == story_as_record(story), "the page holds its story"
    for heatmap in evidence.heatmaps:
        if not heatmap.shown:
            hidden = Section("x", (), (f"map/{heatmap.finding}/{heatmap.method}",))
            with pytest.raises(CitationError):
                render(dataclasses.replace(story, sections=(*story.sections, hidden)), evidence)
