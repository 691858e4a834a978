"""The DICOM side: C-ECHO, C-STORE and storage commitment for those who are allowed to call.

What a peer can make us hold is bounded before pynetdicom sees it: a connection reads no PDU that is longer than the length we
negotiated, none that takes longer than the timeout, and no more bytes of unanswered messages than one object may have.
"""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.dsutils import create_file_meta
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from storyxai.errors import InputError
from storyxai.node.intake import SOP_CLASSES, SYNTAXES, Unfit, film_of_object
from storyxai.node.queue import Conflict, DiskQueue, NoRoom, Received
from storyxai.node.reports import Reports
from storyxai.node.settings import ReceiveSettings

PDU_BYTES = 1 << 18
"""The longest PDU that we negotiate, in bytes; negotiation itself stays far below it."""
_SLACK = 1 << 20
SUCCESS, NO_RESOURCES, DUPLICATE = 0x0000, 0xA700, 0xC111
Committer = Callable[[str, Any], int]
"""What asks for a commitment: the calling title and the action's information; returns a DIMSE status."""


def quiet_pynetdicom() -> None:
    """pynetdicom logs nothing of its messages: they hold what patients are called."""
    _config.LOG_HANDLER_LEVEL = "none"


class _Refused(ConnectionError):
    """The peer went beyond what we take: the connection ends."""


class _Guard:
    """Counts what a connection has sent and not yet been answered for, and where in a PDU it stands."""

    def __init__(self, most_bytes: int, seconds: float, total: _Total, refuse: Callable[[str], None]) -> None:
        self._most, self._seconds, self._total, self._refuse = most_bytes, seconds, total, refuse
        self._head, self._left, self._began = b"", 0, 0.0
        self.pending = 0

    def take(self, data: bytes) -> bytes:
        """The bytes as they came. Raises: _Refused."""
        self.pending += len(data)
        if self.pending > self._most:
            self._stop("object_too_large")
        if not self._total.add(len(data)):
            self._stop("memory")
        at, now = 0, time.monotonic()
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left, at = self._left - step, at + step
            else:
                self._began = now if not self._head else self._began
                step = min(6 - len(self._head), len(data) - at)
                self._head, at = self._head + data[at : at + step], at + step
                if len(self._head) == 6:
                    self._left = int.from_bytes(self._head[2:6], "big")
                    self._head = b""
                    if self._left > PDU_BYTES + 6:
                        self._stop("pdu_too_long")
        if (self._left or self._head) and now - self._began > self._seconds:
            self._stop("too_slow")
        return data

    def answered(self) -> None:
        """What was sent so far is dealt with."""
        self._total.add(-self.pending)
        self.pending = 0

    def _stop(self, reason: str) -> None:
        self._refuse(reason)
        raise _Refused(reason)


class _Total:
    """The bytes of unanswered messages of all connections together."""

    def __init__(self, most: int) -> None:
        self._most, self._held, self._lock = most, 0, threading.Lock()

    def add(self, count: int) -> bool:
        with self._lock:
            self._held += count
            return self._held <= self._most


class _PlainSocket(socket.socket):
    guard: _Guard | None = None

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        data = super().recv(bufsize, flags)
        return data if self.guard is None else self.guard.take(data)

    def shutdown(self, how: int, /) -> None:
        _release(self.guard)
        super().shutdown(how)


class _TlsSocket(ssl.SSLSocket):
    guard: _Guard | None = None

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        data = super().recv(buflen, flags)
        return data if self.guard is None else self.guard.take(data)

    def shutdown(self, how: int) -> None:
        _release(self.guard)
        super().shutdown(how)


def _release(guard: _Guard | None) -> None:
    if guard is not None:
        guard.answered()


class _Handler(RequestHandler):
    """pynetdicom's handler of a connection, whose threads end it in order when a broken message makes them fail."""

    server: _Server

    def _create_association(self) -> Association:
        association = super()._create_association()
        for thread in (association, association.dul):
            thread.run = self._guarded(thread.run, association)  # type: ignore[method-assign]
        return association

    def _guarded(self, run: Callable[[], None], association: Association) -> Callable[[], None]:
        def guarded() -> None:
            try:
                run()
            except Exception:  # what a broken command set makes pynetdicom raise is no short list
                self.server.receiver.refuse_connection("broken_message")
                with suppress(OSError):
                    self.request.shutdown(socket.SHUT_RDWR)
                self.request.close()
                if threading.current_thread() is association:
                    association.kill()

        return guarded


class _Server(ThreadedAssociationServer):
    """pynetdicom's server with guarded connections; the TLS handshake holds up no other peer."""

    daemon_threads = True
    receiver: Receiver
    tls: ssl.SSLContext | None = None

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        assert self.socket is not None
        plain, address = self.socket.accept()
        guarded = _PlainSocket(plain.family, plain.type, plain.proto, fileno=plain.detach())
        guarded.settimeout(self.receiver.settings.peer_timeout_seconds)
        return guarded, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether the connection is taken: beyond twice the associations we take nobody is even heard."""
        if len(self.active_associations) < 2 * self.receiver.settings.most_associations + 2:
            return True
        self.receiver.refuse_connection("too_many_connections")
        return False

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.tls is not None:
            try:
                request = self.tls.wrap_socket(request, server_side=True)
            except OSError:
                self.receiver.refuse_connection("no_tls")
                request.close()
                return
        request.guard = self.receiver.guard()
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.receiver.refuse_connection("broken_connection")


@dataclass(frozen=True)
class _Refusal:
    status: int
    reason: str
    comment: str


class Receiver:
    """The service at a port, from `start` to `stop`; what it takes goes into the queue."""

    def __init__(
        self, settings: ReceiveSettings, queue: DiskQueue, reports: Reports, *, tls: ssl.SSLContext | None = None,
        commit: Committer | None = None,
    ) -> None:
        self.settings, self._queue, self._reports, self._tls, self._commit = settings, queue, reports, tls, commit
        self._total = _Total(settings.most_memory_mib << 20)
        self._recent: dict[str, deque[float]] = defaultdict(deque)
        self._studies: dict[Any, set[str]] = defaultdict(set)
        self._lock = threading.Lock()
        self._server: _Server | None = None
        if tls is not None:
            tls.sslsocket_class = _TlsSocket

    @property
    def port(self) -> int:
        """The port that is listened at."""
        assert self._server is not None
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Listen. Raises: InputError where the port cannot be had."""
        quiet_pynetdicom()
        entity = AE(ae_title=self.settings.called_title)
        entity.require_calling_aet = list(self.settings.calling_titles)
        entity.require_called_aet = True
        entity.maximum_associations = self.settings.most_associations
        entity.maximum_pdu_size = PDU_BYTES
        entity.network_timeout = entity.acse_timeout = entity.dimse_timeout = self.settings.peer_timeout_seconds
        entity.add_supported_context(Verification)
        for sop_class in SOP_CLASSES:
            entity.add_supported_context(sop_class, list(SYNTAXES))
        if self._commit is not None:
            entity.add_supported_context(StorageCommitmentPushModel)
        handlers: list[Any] = [
            (evt.EVT_C_ECHO, self._echo), (evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._action),
            (evt.EVT_ACCEPTED, self._accepted), (evt.EVT_REJECTED, self._rejected), (evt.EVT_RELEASED, self._released),
            (evt.EVT_ABORTED, self._aborted), (evt.EVT_CONN_CLOSE, self._closed),
        ]
        where = (self.settings.host, self.settings.port)
        try:
            server = _Server(
                entity, where, self.settings.called_title, entity.supported_contexts, evt_handlers=handlers,
                request_handler=_Handler,
            )
        except OSError as error:
            mend = "name another port in [receive], or stop what listens there"
            raise InputError(f"{where[0]}:{where[1]}", f"cannot be listened at ({error.strerror})", mend=mend) from error
        server.receiver, server.tls = self, self._tls
        entity._servers.append(server)
        self._server = server
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="dicom", daemon=True).start()

    def stop(self) -> None:
        """Stop listening and end the associations that are open."""
        if self._server is not None:
            server, self._server = self._server, None
            server.shutdown()
            for association in server.active_associations:
                association.abort()

    def guard(self) -> _Guard:
        """A guard for a new connection."""
        most = (self.settings.most_object_mib << 20) + _SLACK
        return _Guard(most, self.settings.peer_timeout_seconds, self._total, self.refuse_connection)

    def refuse_connection(self, reason: str) -> None:
        """Count and tell of a connection that was ended."""
        self._reports.count("associations", reason)
        self._reports.line("connection_ended", reason=reason)

    def _echo(self, event: Any) -> int:
        self._answered(event)
        return SUCCESS

    def _store(self, event: Any) -> Any:
        caller = event.assoc.requestor.ae_title
        try:
            refusal = self._too_fast(caller) or self._taken(event)
        finally:
            self._answered(event)
        if refusal is None:
            return SUCCESS
        self._reports.count("objects_refused", refusal.reason)
        self._reports.line("object_refused", caller=caller, reason=refusal.reason, why=refusal.comment)
        return _status(refusal)

    def _taken(self, event: Any) -> _Refusal | None:
        """Take the object in; why not, where it cannot be."""
        request = event.request
        sop_class, instance = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
        try:
            with request.DataSet.getbuffer() as view:
                meta = _meta(sop_class, instance, str(event.context.transfer_syntax))
                film = film_of_object(meta, view, sop_class=sop_class, instance=instance)
                received = self._queue.receive(film)
                study = film.study
                del film
        except NoRoom as error:
            return _Refusal(NO_RESOURCES, "no_room", error.why)
        except Conflict as error:
            return _Refusal(DUPLICATE, "conflict", error.why)
        except Unfit as error:
            return _Refusal(error.status, "unfit", error.why)
        kept = received is Received.KEPT
        self._reports.count("objects_received" if kept else "objects_known")
        with self._lock:
            self._studies[event.assoc].add(study)
        return None

    def _too_fast(self, caller: str) -> _Refusal | None:
        now = time.monotonic()
        with self._lock:
            recent = self._recent[caller]
            while recent and now - recent[0] > 60:
                recent.popleft()
            if len(recent) >= self.settings.most_objects_per_minute:
                return _Refusal(NO_RESOURCES, "too_fast", "too many objects a minute")
            recent.append(now)
        return None

    def _action(self, event: Any) -> Any:
        caller = event.assoc.requestor.ae_title
        try:
            if self._commit is None:
                return 0x0112, None
            return self._commit(caller, event), None
        finally:
            self._answered(event)

    def _answered(self, event: Any) -> None:
        if event.assoc.dimse.msg_queue.empty():
            _release(getattr(getattr(event.assoc.dul.socket, "socket", None), "guard", None))

    def _accepted(self, event: Any) -> None:
        self._reports.count("associations", "accepted")
        if refused := len(event.assoc.rejected_contexts):  # objects or transfer syntaxes that are not taken
            self._reports.count("contexts_refused", by=refused)
            self._reports.line("contexts_refused", caller=event.assoc.requestor.ae_title, count=refused)

    def _rejected(self, event: Any) -> None:
        # The title is the peer's own word: it is not repeated, whatever it holds.
        self.refuse_connection("rejected")

    def _released(self, event: Any) -> None:
        with self._lock:
            studies = self._studies.pop(event.assoc, set())
        if self.settings.complete_on_release:
            self._queue.complete(studies)

    def _aborted(self, event: Any) -> None:
        self._reports.count("associations", "aborted")

    def _closed(self, event: Any) -> None:
        with self._lock:
            self._studies.pop(event.assoc, None)


def _meta(sop_class: str, instance: str, syntax: str) -> bytes:
    """Preamble and file meta information (PS3.10 7.1)."""
    stream = io.BytesIO()
    stream.write(b"\0" * 128 + b"DICM")
    meta = create_file_meta(sop_class_uid=UID(sop_class), sop_instance_uid=UID(instance), transfer_syntax=UID(syntax))
    write_file_meta_info(stream, meta)
    return stream.getvalue()


def _status(refusal: _Refusal) -> Dataset:
    status = Dataset()
    status.Status = refusal.status
    status.ErrorComment = refusal.comment[:64]
    return status
