"""Answers: the objects of a told study on their way to the place that the settings name."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydicom.filereader import read_file_meta_info
from pynetdicom import AE, _config

from storyxai.errors import InputError
from storyxai.node.dicomweb import DicomWeb
from storyxai.node.receive import quiet_pynetdicom
from storyxai.node.settings import AnswerSettings, DicomPlace, Settings
from storyxai.node.tls import client_context

Sender = Callable[[Sequence[Path]], None]
"""Delivers objects, all of them. Raises: NotDelivered; it may then be asked again, for the same objects have the same UIDs."""
MOST_CONTEXTS = 128
SECONDS = 60.0


class NotDelivered(InputError):
    """The place did not take all objects."""


def sender_of(settings: Settings) -> tuple[str, Sender | None]:
    """What the place is called in the log, and what delivers there; None where answers stay in the queue's folder."""
    answer: AnswerSettings = settings.answer
    if answer.to == "dicom" and answer.dicom is not None:
        place = answer.dicom
        context = None if place.tls is None else client_context(settings, place.tls)
        return f"dicom {place.title}", lambda objects: send_objects(place, objects, tls=context)
    if answer.to == "dicomweb" and answer.dicomweb is not None:
        service = DicomWeb(
            answer.dicomweb.url, allowed_hosts=answer.dicomweb.allowed_hosts,
            authorities=settings.place(answer.dicomweb.authorities) if answer.dicomweb.authorities else None,
        )
        return "dicomweb", lambda objects: _stow(service, objects)
    return "nowhere", None


def _stow(service: DicomWeb, objects: Sequence[Path]) -> None:
    try:
        service.store(objects)
    except InputError as error:
        raise NotDelivered(error.what, error.why, mend=error.mend) from error


def send_objects(place: DicomPlace, objects: Sequence[Path], *, tls: ssl.SSLContext | None = None) -> None:
    """Send files by C-STORE, all in one association. Raises: NotDelivered naming the place and what it said."""
    quiet_pynetdicom()
    _config.STORE_SEND_CHUNKED_DATASET = True  # the data set's own bytes, not pydicom's reading of them
    entity = AE(ae_title=place.calling_title)
    entity.network_timeout = entity.acse_timeout = entity.dimse_timeout = entity.connection_timeout = SECONDS
    for sop_class, syntax in _kinds(objects):
        entity.add_requested_context(sop_class, syntax)
    secured = None if tls is None else (tls, place.host)
    association = entity.associate(place.host, place.port, ae_title=place.title, tls_args=secured)
    if not association.is_established:
        raise NotDelivered(place.title, "did not accept an association", mend="look at its address, title and allow-list")
    try:
        for path in objects:
            _send(association, path, place)
    finally:
        with suppress(RuntimeError):
            association.release()


def _send(association: Any, path: Path, place: DicomPlace) -> None:
    try:
        status = association.send_c_store(path)
    except (ValueError, RuntimeError) as error:
        raise NotDelivered(place.title, f"takes no objects such as {path.name} ({error})", mend="let it accept them") from error
    code = status.get("Status") if status else None
    # Warnings (PS3.4 B.2.3: coerced, elements discarded) mean that it was stored.
    if code is None or not (code == 0x0000 or 0xB000 <= code <= 0xBFFF):
        said = "did not answer" if code is None else f"answered with status 0x{code:04X}"
        raise NotDelivered(place.title, f"{said} for {path.name}", mend="look at that node's own log")


def _kinds(objects: Iterable[Path]) -> list[tuple[str, str]]:
    found: dict[tuple[str, str], None] = {}
    for path in objects:
        meta = read_file_meta_info(path)
        found[str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)] = None
    return list(found)[:MOST_CONTEXTS]
