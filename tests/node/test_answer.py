"""Answers on their way: over TLS, to a place that hangs, refuses, or is not there; and by STOW-RS to a real archive."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
from node_films import file_bytes
from node_hospital import place
from node_tellers import FakeTeller
from node_tools import NO_OPENSSL, has_openssl, make_certificate, wait_for
from orthanc import free_port

from storyxai.node import answer, dicomweb
from storyxai.node.answer import NotDelivered, sender_of
from storyxai.node.serve import running_node
from storyxai.node.settings import AnswerSettings, DicomPlace, QueueSettings, Settings, TlsSettings, WatchSettings, WebPlace


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.dcm"
    path.write_bytes(file_bytes(1))
    return path


def told_to(port: int, home: Path, tls: TlsSettings | None = None) -> Settings:
    there = DicomPlace("PLACE", "127.0.0.1", port, tls=tls)
    queue, watch = QueueSettings(least_free_mib=0), WatchSettings(0.1)
    return Settings(queue=queue, watch=watch, answer=AnswerSettings("dicom", there, retry_seconds=0.2), home=home)


@pytest.mark.skipif(not has_openssl(), reason=NO_OPENSSL)
def test_answers_go_over_tls_to_a_place_that_shows_the_right_certificate_and_wants_ours(film: Path, lines: list[str]) -> None:
    home = film.parent
    for name in ("", "other-"):
        make_certificate(home, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(home / "cert.pem", home / "key.pem")
    context.load_verify_locations(home / "cert.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    tls = TlsSettings("cert.pem", "key.pem", "cert.pem")
    with place(tls=context) as there:
        for wrong in (None, TlsSettings("", "", "cert.pem"), TlsSettings("other-cert.pem", "other-key.pem", "cert.pem"),
                      TlsSettings("cert.pem", "key.pem", "other-cert.pem")):  # fmt: skip
            _, send = sender_of(told_to(there.port, home, wrong))
            assert send is not None
            with pytest.raises(NotDelivered, match="PLACE: did not accept an association"):
                send([film])
        assert there.came == {}
        (home / "inbox").mkdir()
        film.rename(home / "inbox" / "film.dcm")
        with running_node(told_to(there.port, home, tls), lines.append, folder=home / "inbox", teller=FakeTeller()) as running:
            wait_for(lambda: running.queue.counts()["answered"])
        assert there.came == {"1.2.3.1.1": 1}


def test_a_place_that_hangs_is_given_up_and_asked_again(
    film: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the connection and says nothing; then a node takes its place, and gets the answer."""
    monkeypatch.setattr(answer, "SECONDS", 0.5)
    home, port = film.parent, free_port()
    (home / "inbox").mkdir()
    film.rename(home / "inbox" / "film.dcm")
    with socket.create_server(("127.0.0.1", port)) as silent:
        running_at = running_node(told_to(port, home), lines.append, folder=home / "inbox", teller=FakeTeller())
        with running_at as running:
            wait_for(lambda: any("answer_failed" in line for line in lines))
            assert running.queue.counts()["told"] == 1  # nothing is lost
            silent.close()
            with place(port=port) as there:
                wait_for(lambda: running.queue.counts()["answered"])
                assert there.came == {"1.2.3.1.1": 1}


@pytest.mark.parametrize(("status", "said"), [(0xA700, "answered with status 0xA700 for film.dcm"), (0xB000, "")])
def test_a_refusal_is_said_and_a_warning_is_none(film: Path, status: int, said: str) -> None:
    with place(status=status) as there:
        _, send = sender_of(told_to(there.port, film.parent))
        assert send is not None
        if said:
            with pytest.raises(NotDelivered, match=said):
                send([film])
        else:
            send([film])


def test_a_dicomweb_service_that_hangs_or_is_not_there_is_said(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicomweb, "SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        _, send = sender_of(Settings(answer=AnswerSettings("dicomweb", dicomweb=WebPlace(f"http://127.0.0.1:{port}/x"))))
        assert send is not None
        with pytest.raises(NotDelivered, match="cannot be spoken to"):
            send([film])
    with pytest.raises(NotDelivered, match="cannot be spoken to"):
        send([film])


def test_a_node_without_a_place_keeps_its_answers(tmp_path: Path) -> None:
    assert sender_of(Settings(home=tmp_path)) == ("nowhere", None)
