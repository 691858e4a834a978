"""The DICOMweb client against a service of the test's own: what it sends, what it takes, and what it does not believe."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from storyxai import cli
from storyxai.errors import InputError
from storyxai.node.dicomweb import DicomWeb, multipart_parts

MULTIPART = 'multipart/related; type="application/dicom"; boundary="b0"'


class Service(BaseHTTPRequestHandler):
    answer: tuple[int, str, bytes] = (200, "application/dicom+json", b"[]")
    asked: ClassVar[list[tuple[str, str, bytes]]] = []

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.asked.append((f"{self.command} {self.path}", self.headers.get("Content-Type") or "", self.rfile.read(length)))
        status, kind, body = self.answer
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), ("Location", "http://127.0.0.1:1/")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[DicomWeb]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    Service.asked = []
    yield DicomWeb(f"http://127.0.0.1:{server.server_address[1]}/dicom-web/", most_bytes=1 << 20)
    server.shutdown()
    server.server_close()


def test_find_asks_by_qido(service: DicomWeb) -> None:
    Service.answer = (200, "application/dicom+json", json.dumps([{"0020000D": {"vr": "UI", "Value": ["1.2"]}}]).encode())
    assert service.find({"ModalitiesInStudy": "DX"}, most=5)[0]["0020000D"]["Value"] == ["1.2"]
    assert Service.asked[0][0] == "GET /dicom-web/studies?ModalitiesInStudy=DX&limit=5"
    Service.answer = (204, "", b"")
    assert service.find({}) == []


def test_fetch_returns_the_parts_as_they_are(service: DicomWeb) -> None:
    body = b"--b0\r\nContent-Type: application/dicom\r\n\r\nA\r\n\0B\r\n--b0\r\nX: y\r\n\r\n--\r\n--b0--\r\n"
    Service.answer = (200, MULTIPART, body)
    assert service.fetch("1.2", "1.3") == [b"A\r\n\0B", b"--"]
    assert Service.asked[0][0] == "GET /dicom-web/studies/1.2/series/1.3"


def test_store_sends_every_file_in_one_body_that_its_own_reader_reads(service: DicomWeb, tmp_path: Path) -> None:
    files = [tmp_path / "a.dcm", tmp_path / "b.dcm"]
    for number, path in enumerate(files):
        path.write_bytes(b"DICM\r\n--" + bytes([number]))
    Service.answer = (200, "application/dicom+json", b"{}")
    service.store(files)
    asked, kind, body = Service.asked[0]
    assert asked == "POST /dicom-web/studies" and multipart_parts(kind, body) == [path.read_bytes() for path in files]
    Service.answer = (200, "application/dicom+json", b'{"00081198":{"vr":"SQ"}}')  # as Orthanc says that nothing failed
    service.store(files)
    for answer in (b'{"00081198":{"vr":"SQ","Value":[{"00081155":{"vr":"UI","Value":["1.2"]}}]}}', b"<xml>"):
        Service.answer = (202, "application/dicom+json", answer)
        with pytest.raises(InputError, match="did not take every object"):
            service.store(files)


@pytest.mark.parametrize("answer", [
    (500, "text/plain", b"no"), (302, "text/plain", b""), (200, "application/dicom+json", b"{"), (200, "x", b"[1]"),
    (200, "x", b"[" * 100_000), (200, "x", b"{}"),
])
def test_an_answer_that_is_none_is_one_sentence(service: DicomWeb, answer: tuple[int, str, bytes]) -> None:
    Service.answer = answer
    with pytest.raises(InputError, match="did not let us find"):
        service.find({})


@pytest.mark.parametrize(("kind", "body", "why"), [
    ("text/html", b"", "is no multipart"), (MULTIPART, b"--b0\r\n\r\nA", "is cut short"), (MULTIPART, b"", "is cut short"),
    (MULTIPART, b"--b0\r\nno header\r\n--b0--", "without a header"), (MULTIPART, b"x" * (2 << 20), "more than 1 MiB"),
])
def test_a_body_that_does_not_hold_together_is_refused(service: DicomWeb, kind: str, body: bytes, why: str) -> None:
    Service.answer = (200, kind, body)
    with pytest.raises(InputError, match=why):
        service.fetch("1.2")


@pytest.mark.parametrize(("url", "allowed", "why"), [
    ("http://pacs.example/x", (), "is not allowed"), ("http://pacs.example/x", ("pacs.example",), "is not encrypted"),
    ("ftp://127.0.0.1", (), "is no address"), ("http://u:p@127.0.0.1", (), "is no address"), ("http://", (), "is no address"),
    ("http://127.0.0.1.evil.example/", (), "is not allowed"),
])
def test_only_loopback_and_allowed_hosts_are_spoken_to(url: str, allowed: tuple[str, ...], why: str) -> None:
    with pytest.raises(InputError, match=why):
        DicomWeb(url, allowed_hosts=allowed)


def test_a_uid_of_ones_own_making_is_refused_before_anything_is_asked(service: DicomWeb) -> None:
    with pytest.raises(InputError, match="is no UID"):
        service.fetch("1.2/../../x")
    assert Service.asked == []


def test_the_command_finds_fetches_and_stores(
    service: DicomWeb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["storyxai", "dicomweb", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return int(left.value.code or 0), capsys.readouterr().out

    Service.answer = (200, "x", b'[{"0020000D": {"Value": ["1.2"]}, "00080020": {"Value": ["20260101"]}, "00080061": {}}]')
    assert call("find", service.url, "--match", "PatientID=17") == (0, "1.2  20260101\n")
    assert call("find", service.url, "--match", "17")[0] == 2
    Service.answer = (200, MULTIPART, b"--b0\r\nX: y\r\n\r\nDICM\r\n--b0--\r\n")
    assert call("fetch", service.url, "1.2", "--out", str(tmp_path / "films"))[0] == 0
    assert (tmp_path / "films" / "object-1.dcm").read_bytes() == b"DICM"
    Service.answer = (200, "x", b"{}")
    assert call("store", service.url, str(tmp_path / "films" / "object-1.dcm"))[0] == 0
    assert call("store", service.url, str(tmp_path / "nowhere.dcm"))[0] == 2
    assert call("find", "http://pacs.example", "--match", "PatientID=17")[0] == 2
