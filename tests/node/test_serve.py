"""A node from its settings: a folder watched, TLS, the status page; and the command that waits for a signal."""

from __future__ import annotations

import http.client
import signal
import ssl
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from node_films import dataset, file_bytes
from node_tellers import FakeTeller
from node_tools import NO_OPENSSL, associate, has_openssl, make_certificate, wait_for

from storyxai.errors import InputError
from storyxai.node.serve import running_node
from storyxai.node.settings import (
    QueueSettings,
    ReceiveSettings,
    Settings,
    StatusSettings,
    TellSettings,
    TlsSettings,
    WatchSettings,
)
from storyxai.node.watch import Watcher

CR, EXPLICIT = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.1.2.1"


def settings(home: Path, **receive: object) -> Settings:
    given = {"calling_titles": ("SENDER",), "port": 0, "complete_after_seconds": 0.2, **receive}
    return Settings(ReceiveSettings(**given), QueueSettings(least_free_mib=0), home=home)  # type: ignore[arg-type]


def page(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_the_status_page_and_the_metrics_count_and_name_nobody(tmp_path: Path, lines: list[str]) -> None:
    with_status = replace(settings(tmp_path), status=StatusSettings(free_port()))
    with running_node(with_status, lines.append, teller=FakeTeller()) as running:
        association = associate(running.port, [(CR, EXPLICIT)])
        assert association.send_c_store(dataset(1)).Status == 0x0000
        association.release()
        wait_for(lambda: running.queue.counts()["answered"])
        wait_for(lambda: running.reports.counted("studies_answered"))
        code, text = page(running.status_port, "/")
        assert code == 200 and "answered   1" in text and "studies told: 1" in text
        code, metrics = page(running.status_port, "/metrics")
        assert 'storyxai_queue_studies{state="answered"} 1' in metrics and "storyxai_studies_told_total 1" in metrics
        for line in metrics.splitlines():  # each line of the text format is a comment, or a name, labels and a number
            assert line.startswith("# ") or float(line.split()[-1]) >= 0
        assert page(running.status_port, "/etc/passwd")[0] == 404
        assert not any("PLANTED" in told for told in (*lines, text, metrics))


def test_a_folder_is_watched_and_each_file_told_once(tmp_path: Path, lines: list[str]) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "PLANTED^NAME.dcm").write_bytes(file_bytes(1))
    (inbox / "again.dcm").write_bytes(file_bytes(1))
    (inbox / "picture.png").write_bytes(b"\x89PNG")
    (inbox / "broken.dcm").write_bytes(file_bytes(2)[:200])
    watched = replace(settings(tmp_path), receive=None, watch=WatchSettings(0.1))
    with running_node(watched, lines.append, folder=inbox, teller=FakeTeller()) as running:
        wait_for(lambda: running.queue.counts()["answered"] == 2)
        wait_for(lambda: running.reports.counted("objects_refused") == {"unfit": 1})
    assert running.reports.counted("objects_known") == {"": 1}
    assert len(list(inbox.iterdir())) == 4 and not any("PLANTED" in line for line in lines)
    with running_node(watched, lines.append, folder=inbox, teller=FakeTeller()) as running:
        wait_for(lambda: running.reports.counted("objects_known") == {"": 3})
        assert running.queue.counts()["answered"] == 2


def test_a_file_that_still_grows_is_left_alone(tmp_path: Path, queue: object, reports: object) -> None:
    watcher = Watcher(tmp_path, queue, reports)  # type: ignore[arg-type]
    film = tmp_path / "film.dcm"
    for part in (300, 400):
        film.write_bytes(file_bytes(1)[:part])
        assert watcher.look() == 0
    film.write_bytes(file_bytes(1))
    assert (watcher.look(), watcher.look(), watcher.look()) == (0, 1, 0)
    with pytest.raises(InputError, match="is no folder"):
        Watcher(film, queue, reports)  # type: ignore[arg-type]


@pytest.mark.skipif(not has_openssl(), reason=NO_OPENSSL)
def test_tls_asks_for_a_certificate_and_a_peer_that_does_not_shake_hands_holds_nobody_up(
    tmp_path: Path, lines: list[str]
) -> None:
    make_certificate(tmp_path)
    tls = TlsSettings("cert.pem", "key.pem", "cert.pem")
    with running_node(settings(tmp_path, tls=tls, peer_timeout_seconds=2.0), lines.append, teller=FakeTeller()) as running:
        assert associate(running.port, [(CR, EXPLICIT)]).is_established is False
        context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        assert associate(running.port, [(CR, EXPLICIT)], tls_args=(context, "127.0.0.1")).is_established is False
        context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
        association = associate(running.port, [(CR, EXPLICIT)], tls_args=(context, "127.0.0.1"))
        assert association.send_c_store(dataset(1, Rows=900, Columns=900, PixelData=b"\1" * 810_000)).Status == 0x0000
        association.release()
        wait_for(lambda: running.queue.counts()["answered"])


def test_a_model_that_cannot_be_used_is_said_before_anything_is_received(tmp_path: Path, lines: list[str]) -> None:
    wrong = replace(settings(tmp_path), tell=TellSettings(model="nowhere"))
    with pytest.raises(InputError, match="nowhere"), running_node(wrong, lines.append):
        raise AssertionError("it started")
    assert lines == [] and not (tmp_path / "queue").exists()


def test_two_nodes_do_not_share_a_queue(tmp_path: Path, lines: list[str]) -> None:
    with (
        running_node(settings(tmp_path), lines.append, teller=FakeTeller()),
        pytest.raises(InputError, match="is used by another node"),
        running_node(settings(tmp_path), lines.append, teller=FakeTeller()),
    ):
        raise AssertionError("the second one started")


def test_the_command_starts_serves_and_stops_at_a_signal(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(
        f'[receive]\ncalling_titles = ["SENDER"]\nport = {free_port()}\n[queue]\nleast_free_mib = 0\n', encoding="utf-8"
    )
    command = [sys.executable, "-m", "storyxai", "serve-dicom", str(tmp_path / "node.toml")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr is not None
        first = started.stderr.readline()
        assert " ready title=STORYXAI " in first, first
        started.send_signal(signal.SIGTERM)
        rest = started.stderr.read()
        assert started.wait(30) == 0 and "stopping" in rest and len(rest.splitlines()) == 1
