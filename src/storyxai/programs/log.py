"""What the programs write into the log, and the look at a log that `storyxai log verify` takes."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from storyxai.errors import ArchiveError, InputError
from storyxai.evidence.archive import read_archive
from storyxai.evidence.record import as_record, record_sha256
from storyxai.evidence.seal import read_key
from storyxai.logbook import Entry, Logbook, LogVerified, verify_log
from storyxai.programs.export import Exported
from storyxai.programs.release import Released
from storyxai.programs.tell import NotTold, Told
from storyxai.programs.verify import Verified
from storyxai.provenance import sha256_file
from storyxai.types import Evidence


@dataclass(frozen=True)
class LogChoice:
    """Where the log lies, None for no log, and the file of its key, None for a log without."""

    path: Path | None = None
    key: Path | None = None


def open_log(choice: LogChoice) -> Logbook | None:
    """The log that was chosen, looked at before any work is done.

    Raises: InputError for a key or a log that cannot be used, ArchiveError for a log that does not end as it should.
    """
    if choice.path is None:
        return None
    log = Logbook(choice.path, b"" if choice.key is None else read_key(choice.key))
    log.check()
    return log


def subject_of(study: Path) -> Entry:
    """An entry without an event that says what a study's folder holds: its id, its evidence and the model.

    Raises: ArchiveError for what is no study.
    """
    return subject_in(read_archive(study))


def subject_in(evidence: Evidence) -> Entry:
    """As `subject_of`, of a study's evidence."""
    model = evidence.model
    return Entry(
        "", study=evidence.prediction.study_id, evidence_sha256=record_sha256(as_record(evidence)),
        model=evidence.prediction.model_id or model.name, weights_sha256=model.weights_sha256,
        software=f"storyxai {evidence.provenance.get('version', 'unknown')}",
    )


def log_told(log: Logbook | None, answers: Sequence[Told | NotTold]) -> None:
    """One line for each study that was told, and for each image that was not: by its hash, its name may be a patient's."""
    for item in answers if log is not None else ():
        if isinstance(item, Told):
            _add(log, replace(subject_of(item.folder), event="told", outcome="ok", count=len(item.pages)))
        else:
            outcome = "refused by the gate" if item.exit_status == 3 else "not readable"
            _add(log, Entry("not_told", study=_image_id(Path(item.source)), outcome=outcome))


def log_verified(log: Logbook | None, found: Sequence[Verified]) -> None:
    """One line for each study that was looked at."""
    for one in found if log is not None else ():
        problems = len(one.problems)
        _add(log, replace(_subject(one.folder), event="verified", outcome="problems" if problems else "ok", count=problems))


def log_released(log: Logbook | None, done: Released) -> None:
    """One line that says who released the patient's page."""
    if log is not None:
        about = replace(subject_of(done.folder), event="released", outcome="ok")
        _add(log, replace(about, to="with picture" if done.release.with_picture else ""), by=done.release.by)


def log_exported(log: Logbook | None, study: Path, done: Exported, to: str) -> None:
    """One line that says in which form a study left."""
    if log is not None:
        _add(log, replace(subject_of(study), event="exported", outcome="ok", to=to, count=len(done.files)))


@contextmanager
def log_refusal(log: Logbook | None, study: Path, to: str) -> Iterator[None]:
    """Within the block, what stops a release or an export by an error is one line of its kind, without its words."""
    try:
        yield
    except InputError as error:
        if log is not None:
            _add(log, replace(_subject(study), event="refused", to=to, outcome=type(error).__name__))
        raise


def look_at_log(path: Path, *, key: Path | None = None, expect: str = "") -> LogVerified:
    """What is wrong with a log, as `logbook.verify_log` finds it. Raises: InputError."""
    return verify_log(path, key=b"" if key is None else read_key(key), expect=expect)


def _add(log: Logbook | None, entry: Entry, *, by: str = "") -> None:
    if log is not None:
        log.append(replace(entry, by=by or _user()), time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


def _subject(study: Path) -> Entry:
    try:
        return subject_of(study)
    except ArchiveError:
        return Entry("", outcome="unreadable")


def _image_id(path: Path) -> str:
    """What a study of this image would be called; "" where the file cannot be read."""
    try:
        return f"image-{sha256_file(path)[:12]}"
    except OSError:
        return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may have no name for its user
        return "unknown"
