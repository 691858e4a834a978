"""A story reworded by a language model that the user runs: asked paragraph by paragraph, believed only where facts stay.

The model is reached by the chat completions that OpenAI's servers, llama.cpp, Ollama and vLLM speak, on this machine alone:
no other address is taken, no redirect followed, no proxy asked. What it answers is text to be judged, never an instruction.
"""

from __future__ import annotations

import ipaddress
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from storyxai.errors import InputError, StoryxaiError
from storyxai.evidence.record import as_record
from storyxai.proof.lexicon import Lexicon
from storyxai.proof.paraphrase import difference, plain_words
from storyxai.proof.rewording import PageRewording, Paragraph, reworded_story
from storyxai.provenance import sha256_bytes
from storyxai.story.audiences.patient import check_readability
from storyxai.story.audiences.registry import find_audience
from storyxai.story.citations import check_story
from storyxai.types import Evidence, Section, Story

PROMPT: Final = (
    "You reword numbered sentences of a medical imaging research page so that they read well together. Keep every name, "
    "number, unit, side and zone, in the same order. Keep every word of doubt and every negation. Add nothing, leave nothing "
    "out, give no advice. Answer with the same number of sentences, in the same language, each on its own line with its "
    "number, and with nothing else."
)
PROMPT_SHA256: Final = sha256_bytes(PROMPT.encode())
_LINE: Final = re.compile(r"\s*(\d+)[.)]\s+(\S.*?)\s*")
_QUOTED: Final = re.compile(r"[“”]|[0-9a-f]{12}")
"""Sentences that quote somebody, or that print a hash, are nobody's to reword."""


class _Silent(StoryxaiError):
    """The language model does not answer, or not as it should; `is_down` where it need not be asked again."""

    def __init__(self, why: str, *, is_down: bool = False) -> None:
        super().__init__(why)
        self.is_down = is_down


@dataclass(frozen=True)
class LanguageModel:
    """Where the model answers ("http://127.0.0.1:8080/v1"), its name there, and how long and how much it may answer."""

    address: str
    name: str = "default"
    seconds: float = 30.0
    seconds_in_all: float = 180.0
    most_bytes: int = 64 << 10

    def check(self) -> None:
        """Raise InputError for an address that is not one of this machine."""
        try:
            parts = urlsplit(self.address)
            host, _ = parts.hostname or "", parts.port
        except ValueError as error:
            raise InputError("rewrite-with", f"{self.address!r} is no address ({error})", mend=_ADDRESS) from error
        if parts.scheme not in ("http", "https") or not _is_here(host):
            raise InputError("rewrite-with", f"{self.address!r} is no address of this machine", mend=_ADDRESS)

    def answer(self, lines: Sequence[str], seconds: float) -> tuple[str, ...]:
        """The lines as the model rewords them, as many as were given. Raises: _Silent."""
        asked = "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))
        messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": asked}]
        body = {"model": self.name, "messages": messages, "temperature": 0, "seed": 0, "stream": False}
        content = _content(self._fetched(json.dumps(body).encode(), min(seconds, self.seconds)))
        found = [match for line in content.splitlines() if line.strip() and (match := _LINE.fullmatch(line))]
        if [int(match[1]) for match in found] != list(range(1, len(lines) + 1)):
            raise _Silent("the language model did not answer line by line")
        return tuple(match[2] for match in found)

    def _fetched(self, body: bytes, seconds: float) -> bytes:
        # Here, because loading what speaks HTTP takes longer than all else that only a rewording needs.
        import urllib.error
        import urllib.request

        class NoRedirect(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *args: Any, **kwargs: Any) -> None:
                return None

        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect)
        url, until = f"{self.address.rstrip('/')}/chat/completions", time.monotonic() + seconds
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with opener.open(request, timeout=max(0.1, seconds)) as response:
                return self._read(response, until)
        except TimeoutError as error:
            raise _Silent("the language model did not answer in time", is_down=True) from error
        except urllib.error.HTTPError as error:
            raise _Silent(f"the language model answered with status {error.code}", is_down=True) from error
        except (OSError, ValueError) as error:
            slow = isinstance(getattr(error, "reason", None), TimeoutError)
            why = "did not answer in time" if slow else "cannot be reached"
            raise _Silent(f"the language model {why}", is_down=True) from error

    def _read(self, response: Any, until: float) -> bytes:
        """What the server sends, in pieces, so that neither a long nor a slow answer goes on for ever."""
        parts, size = [], 0
        while part := response.read1(1 << 14):
            size += len(part)
            parts.append(part)
            if size > self.most_bytes:
                raise _Silent("the language model answered too much")
            if time.monotonic() > until:
                raise _Silent("the language model did not answer in time", is_down=True)
        return b"".join(parts)


_ADDRESS: Final = "run the model on this machine and name it as http://127.0.0.1:PORT/v1"


def reword(story: Story, evidence: Evidence, model: LanguageModel) -> tuple[Story, PageRewording]:
    """The story with the paragraphs in which the model kept every fact, and what was kept and refused.

    Raises: InputError where nothing can be reworded in the story's language.
    """
    record = as_record(evidence)
    lexicon = Lexicon.of(story.language, record)
    if plain_words(story.language) is None or "rewording" not in lexicon.file.templates:
        raise InputError("rewrite-with", f"nothing can be reworded in '{story.language}'", mend="tell in en, or without it")
    until, refused, paragraphs = time.monotonic() + model.seconds_in_all, "", []
    for section in story.sections:
        if not section.sentences or any(_QUOTED.search(sentence.text) for sentence in section.sentences):
            continue
        told = tuple(sentence.text for sentence in section.sentences)
        silent = (Paragraph(told, refused=refused), True)
        paragraph, is_down = silent if refused else _asked(model, story, section, lexicon, until)
        refused = paragraph.refused if is_down else ""
        paragraphs.append(paragraph)
    page = PageRewording(story.language, model.name, PROMPT_SHA256, tuple(paragraphs))
    if why := _hard_to_read(reworded_story(story, page, lexicon)):
        page = msgspec.structs.replace(page, paragraphs=tuple(Paragraph(p.told, refused=p.refused or why) for p in paragraphs))
    return reworded_story(story, page, lexicon), page


def _asked(model: LanguageModel, story: Story, section: Section, lexicon: Lexicon, until: float) -> tuple[Paragraph, bool]:
    """What came of one paragraph, and whether the model need not be asked again."""
    told = tuple(sentence.text for sentence in section.sentences)
    left = until - time.monotonic()
    try:
        if left <= 0:
            raise _Silent("the language model did not answer in time", is_down=True)
        new = model.answer(told, left)
    except _Silent as error:
        return Paragraph(told, refused=str(error)), error.is_down
    for before, after in zip(told, new, strict=True):
        if why := difference(before, after, lexicon):
            return Paragraph(told, refused=f"what was reworded {why}"), False
    sentences = tuple(replace(one, text=text) for one, text in zip(section.sentences, new, strict=True))
    try:
        check_story(replace(story, sections=(replace(section, sentences=sentences),)), lexicon.record)
    except StoryxaiError:
        return Paragraph(told, refused="what was reworded is not backed by its citations"), False
    return Paragraph(told, new), False


def _hard_to_read(story: Story) -> str:
    """Why the story is too hard for its reader, "" where it is not."""
    reader = find_audience(story.audience)
    try:
        check_readability(story, grade=reader.grade if story.language == "en" else None, words=reader.sentence_words)
    except StoryxaiError as error:
        return str(error)
    return ""


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _content(answer: bytes) -> str:
    try:
        content = json.loads(answer)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise _Silent("the language model did not answer as chat completions do") from error
    if not isinstance(content, str):
        raise _Silent("the language model did not answer with text")
    return content
