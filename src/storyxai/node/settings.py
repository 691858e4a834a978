"""The node's settings: one TOML file read into frozen dataclasses; what is wrong names its key and how to mend it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec

from storyxai.errors import InputError, nearest_name

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
# An application entity's title (PS3.5 6.2): printable ASCII without a backslash, no space at either end.
_SIGN, _INNER = r"[\x21-\x5b\x5d-\x7e]", r"[\x20-\x5b\x5d-\x7e]"
Title = Annotated[str, msgspec.Meta(min_length=1, max_length=16, pattern=f"^{_SIGN}({_INNER}*{_SIGN})?$")]


@dataclass(frozen=True)
class TlsSettings:
    """Files in PEM: our certificate and its key; `authorities` sign the certificates of our peers, who must then show one."""

    certificate: str = ""
    key: str = ""
    authorities: str = ""


@dataclass(frozen=True)
class ReceiveSettings:
    """The DICOM side: who may call us, where we listen, and how much we take.

    A study is complete after `complete_after_seconds` without a new object, or, with `complete_on_release`, when the sender
    releases the association. Units: seconds, MiB (2^20 bytes), objects a minute of one calling title.
    """

    calling_titles: tuple[Title, ...]
    called_title: Title = "STORYXAI"
    host: str = "127.0.0.1"
    port: Port = 11112
    complete_after_seconds: Seconds = 10.0
    complete_on_release: bool = False
    most_associations: Count = 8
    most_object_mib: Count = 64
    most_memory_mib: Count = 512
    most_objects_per_minute: Count = 1200
    peer_timeout_seconds: Seconds = 30.0
    tls: TlsSettings | None = None


@dataclass(frozen=True)
class QueueSettings:
    """Where studies wait on the disk, how many may be on their way at once, how much of the disk stays free, and for how many
    days what was answered is kept."""

    folder: str = "queue"
    most_studies: Count = 1000
    least_free_mib: Annotated[int, msgspec.Meta(ge=0)] = 1024
    keep_days: Annotated[float, msgspec.Meta(ge=0)] = 30.0


@dataclass(frozen=True)
class TellSettings:
    """How studies are told; what takes longer than `most_seconds`, or whose process dies, is tried anew."""

    audiences: tuple[str, ...] = ("clinician", "practitioner", "patient", "auditor")
    language: str = "en"
    model: str = ""
    samples: Count | Literal["auto"] = "auto"
    workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    most_seconds: Seconds = 300.0
    most_attempts: Count = 3
    studies_per_process: Count = 200


@dataclass(frozen=True)
class DicomPlace:
    """A DICOM node that the objects are sent to by C-STORE."""

    title: Title
    host: str
    port: Port
    calling_title: Title = "STORYXAI"
    tls: TlsSettings | None = None


@dataclass(frozen=True)
class WebPlace:
    """A DICOMweb service that the objects are sent to by STOW-RS; its host must be loopback or stand in `allowed_hosts`."""

    url: str
    allowed_hosts: tuple[str, ...] = ()
    authorities: str = ""


@dataclass(frozen=True)
class AnswerSettings:
    """Where answers go: to nowhere (they stay in the queue's folder), to a DICOM node, or to a DICOMweb service; and whether
    the clinician's page is printed as PDF among them, which needs a browser and its time."""

    to: Literal["nowhere", "dicom", "dicomweb"] = "nowhere"
    dicom: DicomPlace | None = None
    dicomweb: WebPlace | None = None
    pdf: bool = True
    retry_seconds: Seconds = 5.0
    most_retry_seconds: Seconds = 300.0


@dataclass(frozen=True)
class Peer:
    """A node that may ask for storage commitment, and where it wants to be told."""

    title: Title
    host: str
    port: Port


@dataclass(frozen=True)
class WatchSettings:
    """How `watch-folder` looks: how often, in seconds; a file is taken when it has not changed between two looks."""

    every_seconds: Seconds = 2.0


@dataclass(frozen=True)
class StatusSettings:
    """The port on 127.0.0.1 of the status page (/) and of Prometheus metrics (/metrics); 0 for none."""

    port: Port = 0


@dataclass(frozen=True)
class LogSettings:
    """The hash-chained log and, where it is keyed, the file of its key."""

    file: str = "storyxai.log"
    key: str = ""


@dataclass(frozen=True)
class Settings:
    """All of the node's settings. Paths are as typed; `place` reads them from the settings file's folder."""

    receive: ReceiveSettings | None = None
    queue: QueueSettings = QueueSettings()
    tell: TellSettings = TellSettings()
    answer: AnswerSettings = AnswerSettings()
    watch: WatchSettings = WatchSettings()
    peers: tuple[Peer, ...] = ()
    status: StatusSettings = StatusSettings()
    log: LogSettings = LogSettings()
    home: Path = field(default=Path())

    def place(self, typed: str) -> Path:
        """A path of the settings, from the settings file's folder on."""
        return self.home / typed


def read_settings(path: Path) -> Settings:
    """The settings in the TOML file `path`. Raises: InputError naming the key and how to mend it."""
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(str(path), f"cannot be read ({error.strerror})", mend="name a TOML file of settings") from error
    except (ValueError, RecursionError) as error:
        raise InputError(str(path), f"is not readable TOML ({error})", mend="mend that line") from error
    _require_known(told, Settings, str(path), "")
    try:
        settings = msgspec.convert({**told, "home": str(path.parent)}, Settings, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise _told_plainly(path, str(error)) from error
    _require_sound(path, settings)
    return settings


def _path(kind: type, value: Any) -> Any:
    return kind(value)


def _require_known(told: Mapping[str, object], kind: type, path: str, above: str) -> None:
    """Raise InputError for a key that no setting has."""
    hints = {one.name: one.type for one in fields(kind) if one.name != "home"}
    types = get_type_hints(kind)
    for key, value in told.items():
        where = f"{above}{key}"
        if key not in hints:
            near = nearest_name(key, hints)
            mend = f"did you mean '{near}'?" if near else f"known here: {', '.join(sorted(hints))}"
            raise InputError(path, f"{where} is no setting", mend=mend)
        below = next((one for one in _parts(types[key]) if is_dataclass(one) and isinstance(one, type)), None)
        for one in value if isinstance(value, list) else [value]:
            if below is not None and isinstance(one, dict):
                _require_known(one, below, path, f"{where}.")


def _parts(kind: Any) -> tuple[Any, ...]:
    return (kind, *getattr(kind, "__args__", ()))


def _told_plainly(path: Path, message: str) -> InputError:
    """msgspec's message as a sentence that names the key."""
    why, _, where = message.partition(" - at ")
    key = where.strip("`").removeprefix("$.").removeprefix("$")
    missing = re.search(r"missing required field `(\w+)`", why)
    if missing:
        return InputError(str(path), f"{'.'.join(filter(None, (key, missing[1])))} is missing", mend="add a line for it")
    why = re.sub(r" matching regex .*", " of 1 to 16 printable signs without a backslash", why)
    return InputError(str(path), f"{key or 'a setting'} cannot be used ({why[:1].lower()}{why[1:]})", mend="mend that value")


def _require_sound(path: Path, settings: Settings) -> None:
    """Raise InputError where settings do not fit together."""
    receive, answer = settings.receive, settings.answer
    if receive is not None and not receive.calling_titles:
        raise InputError(str(path), "receive.calling_titles is empty", mend="list the AE titles that may send to this node")
    if receive is not None and receive.most_object_mib > receive.most_memory_mib:
        raise InputError(str(path), "receive.most_memory_mib is less than most_object_mib", mend="raise it")
    if answer.to == "dicom" and answer.dicom is None:
        raise InputError(str(path), "answer.dicom is missing", mend="add a table [answer.dicom] with title, host and port")
    if answer.to == "dicomweb" and answer.dicomweb is None:
        raise InputError(str(path), "answer.dicomweb is missing", mend="add a table [answer.dicomweb] with url")
    if receive is not None and receive.tls is not None:
        _require_files(path, "receive.tls", settings, receive.tls)
    if answer.dicom is not None and answer.dicom.tls is not None:
        _require_files(path, "answer.dicom.tls", settings, answer.dicom.tls)


def _require_files(path: Path, key: str, settings: Settings, tls: TlsSettings) -> None:
    if key.startswith("receive") and not (tls.certificate and tls.key):
        raise InputError(str(path), f"{key} lacks certificate or key", mend="name both, files in PEM")
    for name in ("certificate", "key", "authorities"):
        typed = str(getattr(tls, name))
        if typed and not settings.place(typed).is_file():
            raise InputError(str(path), f"{key}.{name} names '{typed}', which is not there", mend="name a file in PEM")
