"""A keyed seal over the files of a study: who does not hold the key cannot alter them, draw them anew and go unseen.

The hashes inside a study find an edited file, but anyone can write new evidence and new pages that agree with each other.
`seal.json` holds the SHA-256 of every file and an HMAC-SHA256 (RFC 2104) of that list under a key that is not in the folder.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storyxai.errors import InputError
from storyxai.provenance import canonical_json, sha256_bytes, sha256_file

SEAL_NAME, FORMAT = "seal.json", "storyxai-seal/1"
FEWEST_KEY_BYTES = 32
_KEY_ID = b"storyxai seal key id"
_MEND = "seal the study again with `storyxai tell --seal-key`, if it is yours"


def read_key(path: Path) -> bytes:
    """The key in `path`, its bytes as they are. Raises: InputError for a file that cannot be read or is too short."""
    try:
        key = path.read_bytes()
    except OSError as error:
        why = f"cannot be read ({error.strerror or type(error).__name__})"
        raise InputError(str(path), why, mend="name the file that holds the seal's key") from error
    if len(key) < FEWEST_KEY_BYTES:
        why = f"holds {len(key)} bytes, too few for a key"
        raise InputError(str(path), why, mend=f"write {FEWEST_KEY_BYTES} random bytes or more into it")
    return key


def seal_of(files: Mapping[str, bytes], key: bytes) -> bytes:
    """The content of seal.json for these files, by name. The same files and key, the same bytes."""
    listed = {name: sha256_bytes(content) for name, content in files.items() if name != SEAL_NAME}
    body = {"format": FORMAT, "algorithm": "HMAC-SHA256", "key_id": _key_id(key), "files": listed}
    return canonical_json({**body, "mac": _mac(body, key)})


def check_seal(folder: Path, key: bytes) -> list[str]:
    """What is wrong with the sealed files in `folder`, one sentence each; empty when the seal holds.

    A page or a file of evidence that the seal does not name is wrong too; other files are nobody's business here.
    """
    seal = _read_seal(folder / SEAL_NAME)
    if isinstance(seal, str):
        return [f"{SEAL_NAME}: {seal} — {_MEND}"]
    body = {name: value for name, value in seal.items() if name != "mac"}
    if seal.get("key_id") != _key_id(key):
        return [f"{SEAL_NAME}: was made with another key — name the key that `tell` was given"]
    if not hmac.compare_digest(str(seal.get("mac")), _mac(body, key)):
        return [f"{SEAL_NAME}: was altered: its HMAC does not hold — {_MEND}"]
    problems = [problem for name, digest in sorted(seal["files"].items()) if (problem := _file_problem(folder / name, digest))]
    added = sorted(path.name for path in folder.glob("*.html") if path.name not in seal["files"])
    return problems + [f"{name}: is not under the seal — {_MEND}" for name in added]


def _file_problem(path: Path, digest: str) -> str:
    if not path.is_file():
        return f"{path.name}: is under the seal and missing"
    return "" if sha256_file(path) == digest else f"{path.name}: was changed after it was sealed"


def _read_seal(path: Path) -> dict[str, Any] | str:
    """The seal, or what is wrong with it."""
    try:
        seal = json.loads(path.read_bytes())
    except FileNotFoundError:
        return "is missing"
    except (OSError, ValueError, RecursionError):
        return "cannot be read"
    sound = isinstance(seal, dict) and seal.get("format") == FORMAT and isinstance(seal.get("files"), dict)
    return seal if sound else f"is not of format {FORMAT}"


def _mac(body: Mapping[str, object], key: bytes) -> str:
    return hmac.new(key, canonical_json(body), hashlib.sha256).hexdigest()


def _key_id(key: bytes) -> str:
    """Which key it was, without saying anything of the key."""
    return hmac.new(key, _KEY_ID, hashlib.sha256).hexdigest()[:16]
