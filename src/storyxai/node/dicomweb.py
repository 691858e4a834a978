"""A DICOMweb client: find (QIDO-RS), fetch (WADO-RS) and store (STOW-RS), with the standard library alone.

It speaks to loopback and to hosts that were allowed by name; it follows no redirect and reads no more than it was told to.
Source: PS3.18 8, 10.4, 10.5, 10.6.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from storyxai.errors import InputError, printable
from storyxai.files import replace_files

LOOPBACK = ("127.0.0.1", "::1", "localhost")
MOST_BYTES = 512 << 20
MOST_JSON_BYTES = 16 << 20
SECONDS, MOST_SECONDS = 60.0, 900.0
"""How long one read may take, and the whole answer."""
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_LOOK = "look at the service's own log"


@dataclass(frozen=True)
class DicomWeb:
    """A service at `url`, such as http://127.0.0.1:8042/dicom-web. Raises: InputError for a URL or host that is not allowed."""

    url: str
    allowed_hosts: Sequence[str] = ()
    authorities: Path | None = None
    most_bytes: int = MOST_BYTES

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise InputError("url", f"'{self.url}' is no address of a service", mend="write it as https://host:port/path")
        if parts.hostname not in (*LOOPBACK, *self.allowed_hosts):
            raise InputError("url", f"the host '{parts.hostname}' is not allowed", mend="add it to the allowed hosts")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise InputError("url", "is not encrypted", mend="use https for any host but this one")

    def find(self, matching: Mapping[str, str], *, level: str = "studies", most: int = 100) -> list[dict[str, object]]:
        """What matches, as DICOM JSON (QIDO-RS). `level` is studies, series or instances. Raises: InputError."""
        if level not in ("studies", "series", "instances"):
            raise InputError("level", f"'{level}' is not known", mend="name studies, series or instances")
        query = urlencode({**matching, "limit": str(most)})
        status, _, body = self._ask("GET", f"/{level}?{query}", {"Accept": "application/dicom+json"}, most=MOST_JSON_BYTES)
        if status == 204:
            return []
        found = _json(body) if status == 200 else None
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise self._refused("find", status)
        return found

    def fetch(self, study: str, series: str = "", instance: str = "") -> list[bytes]:
        """The DICOM files of a study, a series or an instance as they are stored (WADO-RS). Raises: InputError."""
        names = (("studies", study), ("series", series), ("instances", instance))
        path = "".join(f"/{kind}/{quote(_sound_uid(uid), safe='')}" for kind, uid in names if uid)
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        status, headers, body = self._ask("GET", path, {"Accept": accept}, most=self.most_bytes)
        if status != 200:
            raise self._refused("fetch", status)
        return multipart_parts(headers.get("content-type", ""), body)

    def store(self, objects: Sequence[Path]) -> None:
        """Store files, all in one request (STOW-RS). Raises: InputError where the service did not take every one."""
        boundary = uuid.uuid4().hex
        body = b"".join(_part(_bytes(path), boundary) for path in objects) + f"--{boundary}--\r\n".encode()
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
        status, _, answer = self._ask("POST", "/studies", headers, body, most=MOST_JSON_BYTES)
        if status not in (200, 202):
            raise self._refused("store", status)
        # The answer lists what failed; Orthanc lists nothing where nothing did. 202 says that something was amiss.
        told = _json(answer)
        failed = told.get("00081198", {}) if isinstance(told, dict) else {}
        if (isinstance(failed, dict) and failed.get("Value")) or (status == 202 and not isinstance(told, dict)):
            raise InputError(self._host, "did not take every object", mend=_LOOK)

    @property
    def _host(self) -> str:
        return str(urlsplit(self.url).hostname)

    def _refused(self, what: str, status: int) -> InputError:
        return InputError(self._host, f"did not let us {what} (HTTP status {status})", mend=_LOOK)

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None, *, most: int
    ) -> tuple[int, Mapping[str, str], bytes]:
        parts = urlsplit(self.url)
        try:
            with closing(self._connection()) as connection:
                connection.request(method, parts.path.rstrip("/") + path, body, dict(headers))
                answer = connection.getresponse()
                data = _read(answer, most + 1)
                told = {name.lower(): value for name, value in answer.getheaders()}
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = f"cannot be spoken to ({type(error).__name__})"
            raise InputError(self._host, why, mend="look whether it runs and at its address") from error
        if len(data) > most:
            raise InputError(self._host, f"sent more than {most >> 20} MiB", mend="ask for less at once")
        return answer.status, told, data

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        host = str(parts.hostname)
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, parts.port, timeout=SECONDS)
        context = ssl.create_default_context(cafile=str(self.authorities) if self.authorities else None)
        return http.client.HTTPSConnection(host, parts.port, timeout=SECONDS, context=context)


def _read(answer: http.client.HTTPResponse, most: int) -> bytes:
    """No more than `most` bytes of the answer. Raises: TimeoutError where they drip."""
    ends, blocks, held = time.monotonic() + MOST_SECONDS, [], 0
    while held < most and (block := answer.read1(min(1 << 20, most - held))):
        blocks.append(block)
        held += len(block)
        if time.monotonic() > ends:
            raise TimeoutError
    return b"".join(blocks)


def find_lines(service: DicomWeb, match: Sequence[str], *, most: int = 100) -> list[str]:
    """A line for each study that matches: its UID, date and modalities, as far as the service tells. Raises: InputError."""
    pairs = [one.partition("=") for one in match]
    if odd := next((key for key, sign, _ in pairs if not sign or not key), None):
        raise InputError("match", f"'{odd}' is not understood", mend="write it as PatientID=17")
    found = service.find({key: value for key, _, value in pairs}, most=most)
    return ["  ".join(filter(None, (_values(one, tag) for tag in ("0020000D", "00080020", "00080061")))) for one in found]


def _values(found: Mapping[str, object], tag: str) -> str:
    element = found.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return printable(",".join(str(one) for one in values)) if isinstance(values, list) else ""


def fetch_into(service: DicomWeb, out: Path, study: str, series: str = "") -> list[Path]:
    """The files of a study or a series, now in `out` as object-1.dcm and so on. Raises: InputError; nothing is written then."""
    files = {f"object-{number}.dcm": data for number, data in enumerate(service.fetch(study, series), start=1)}
    replace_files(out, files)
    return [out / name for name in files]


def multipart_parts(content_type: str, body: bytes) -> list[bytes]:
    """The parts of a multipart/related body (RFC 2046 5.1) without their headers. Raises: InputError for what is none."""
    found = re.search(r'boundary="?([^";,\s]{1,70})"?', content_type, re.IGNORECASE)
    if not content_type.lower().startswith("multipart/related") or found is None:
        raise InputError("answer", "is no multipart/related body", mend=_LOOK)
    mark = b"--" + found[1].encode("latin-1", "replace")
    pieces = (b"\r\n" + body).split(b"\r\n" + mark)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise InputError("answer", "is cut short: its last boundary is missing", mend="ask again")
    return list(_contents(pieces[1:-1]))


def _contents(pieces: Iterable[bytes]) -> Iterable[bytes]:
    for piece in pieces:
        head, line, content = piece.partition(b"\r\n\r\n")
        if not line or len(head) > 1 << 14:
            raise InputError("answer", "has a part without a header", mend=_LOOK)
        yield content


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(str(path), f"cannot be read ({error.strerror})", mend="name DICOM files") from error


def _part(data: bytes, boundary: str) -> bytes:
    return f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + data + b"\r\n"


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _sound_uid(uid: str) -> str:
    if len(uid) > 64 or not _UID.fullmatch(uid):
        raise InputError("uid", f"'{uid[:70]}' is no UID", mend="give digits and dots, 64 at most")
    return uid
