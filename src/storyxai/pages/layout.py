"""Views become bytes: one template environment, one style sheet, one script. The same view, the same bytes.

The environment is frozen: no extensions, every value escaped, a name that a view lacks is an error, templates from this
package alone. A page loads nothing: its policy allows the style sheet and the script that it holds, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from importlib.machinery import SourceFileLoader
from types import CodeType
from typing import Any, Final

import jinja2
import msgspec
from jinja2.bccache import Bucket, BytecodeCache
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from storyxai.catalogue.page_words import PageWords, page_words
from storyxai.errors import InputError
from storyxai.pages.views import Document
from storyxai.story.words import Words, load_words
from storyxai.types import RESEARCH_USE


@dataclass(frozen=True)
class _Assets:
    """What every page holds: the style sheet, the script and the policy that allows these two and nothing else."""

    style: Markup
    script: Markup
    policy: str


def render_template(name: str, view: object, labels: Labels, *, script: str = "", beside: bool = False) -> bytes:
    """The page that the template called `name` makes of `view`, as UTF-8.

    `script` is the file of its script, "" for none; a page with pictures in files `beside` it may load these, and no others.
    """
    assets = _assets(script, beside, labels.research_use)
    text = _environment().get_template(name).render(view=view, labels=labels, assets=assets)
    return text.encode("utf-8")


def render_document(document: Document) -> bytes:
    """A page of text, tables and charts, without a script."""
    return render_template("document.html", document, labels_of(document.language))


def render_fragment(name: str, view: object, language: str = "en") -> str:
    """HTML to stand within another page, such as a notebook's."""
    labels = labels_of(language)
    return _environment().get_template(name).render(view=view, labels=labels, assets=_assets())


def data_uri(data: bytes, kind: str = "image/png") -> str:
    """`data` as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


class Labels(PageWords, frozen=True, kw_only=True):
    """The words of a page around its story, and those that tell values: `words`."""

    words: Words


def labels_of(language: str, record: Mapping[str, object] | None = None) -> Labels:
    """The words of a page: ours, and in another language what we or its file (under "page") have of it.

    `record` says which modality's words go before them. Raises: UnknownNameError naming the nearest language; InputError for a
    modality's word that pages do not have.
    """
    words = load_words(language, record)
    try:
        return Labels(words=words, **msgspec.structs.asdict(page_words(language, words.file.page, words.own)))
    except msgspec.ValidationError as error:
        what, mend = f"the modality's words in '{language}'", "spell it as our own templates/en.json does"
        raise InputError(what, f"name a text of pages wrongly ({error})", mend=mend) from error


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, which looks at what a template may read once for each kind of value, not at each of 30,000 readings."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        value = getattr(obj, attribute, None)
        # Only functions need the sandbox's second look, and what is not there its error.
        return value if type(value) in _PLAIN and _safe.get((type(obj), attribute)) else super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        key = (type(obj), attr)
        if key not in _safe:
            _safe[key] = super().is_safe_attribute(obj, attr, value)
        return _safe[key]


_PLAIN = frozenset({str, int, float, bool, tuple, Markup})
_safe: dict[tuple[type, str], bool] = {}
_SYNTAX: Final = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}


class _Compiler(SourceFileLoader):
    """Compiles a template once: its bytecode is kept where Python keeps that of modules, and as long as what it is made of."""

    def __init__(self, environment: jinja2.Environment, name: str, path: str) -> None:
        super().__init__(name, path)
        self._environment = environment

    def source_to_code(self, data: Any, path: Any, **_: Any) -> CodeType:  # type: ignore[override]
        """The template's code."""
        return self._environment.compile(bytes(data).decode("utf-8"), self.name, path)

    def path_stats(self, path: Any) -> Mapping[str, int]:
        """What bytecode must have been made of to be used: the template, and the jinja2 and the syntax that read it."""
        source = self.get_data(path)
        made_of = f"{jinja2.__version__} {sorted(_SYNTAX.items())}".encode()
        return {"mtime": zlib.crc32(source, zlib.crc32(made_of)), "size": len(source)}


class _Kept(BytecodeCache):
    """Templates compiled in an earlier run, or now."""

    def get_bucket(self, environment: jinja2.Environment, name: str, filename: str | None, source: str) -> Bucket:
        """The template's code: what jinja2 keeps itself, it would read back by pickle."""
        bucket = Bucket(environment, name, "")
        bucket.code = _Compiler(environment, name, str(filename)).get_code(name)
        return bucket


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    environment = _Environment(
        loader=jinja2.PackageLoader("storyxai.pages"), bytecode_cache=_Kept(), undefined=jinja2.StrictUndefined,
        auto_reload=False, **_SYNTAX,
    )
    environment.globals.clear()
    return environment


@lru_cache(maxsize=16)
def _assets(script_name: str = "", beside: bool = False, notice: str = "") -> _Assets:
    style = _package_text("page.css")
    # A sheet's margins cannot take words from the page: what stands there is put into the style sheet, in the page's language.
    style = style.replace(RESEARCH_USE, _css_text(notice)) if notice else style
    script = _package_text(script_name) if script_name else ""
    pictures = "'self' data:" if beside else "data:"
    policy = f"default-src 'none'; img-src {pictures}; style-src '{_source_hash(style)}'; base-uri 'none'; form-action 'none'"
    policy += f"; script-src '{_source_hash(script)}'" if script_name else ""
    return _Assets(Markup(style), Markup(script), policy)


def _css_text(text: str) -> str:
    """`text` as the inside of a string in a style sheet: what could end it is escaped."""
    return re.sub(r"[^\w .,;:()-]", lambda mark: f"\\{ord(mark[0]):x} ", text)


def _source_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _package_text(name: str) -> str:
    return (resources.files("storyxai.pages") / "templates" / name).read_text(encoding="utf-8")
