"""The node's settings: what is wrong names its key and the mend, before anything starts."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from storyxai.errors import InputError
from storyxai.node.settings import Settings, read_settings

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "run-a-node.md"
RECEIVE = '[receive]\ncalling_titles = ["A"]\n'


@pytest.mark.parametrize(("text", "why"), [
    ("[recieve]\n", "recieve is no setting — did you mean 'receive'"), ("[receive]\n", "receive.calling_titles is missing"),
    ("x = [", "is not readable TOML"), (RECEIVE + "port = 70000", "receive.port cannot be used"),
    ('[receive]\ncalling_titles = ["A\\\\B"]', r"calling_titles\[0\] cannot be used .*without a backslash"),
    ("[receive]\ncalling_titles = []", "calling_titles is empty"), ('[answer]\nto = "dicom"', "answer.dicom is missing"),
    ('[answer]\nto = "dicomweb"', "answer.dicomweb is missing"), ('[answer]\nto = "fax"', "answer.to cannot be used"),
    ("queue = 3", "queue cannot be used"), ('[[peers]]\ntitle = "A"\nhost = "x"\nprot = 1', "peers.prot is no setting"),
    (RECEIVE + "[receive.tls]\n", "receive.tls lacks certificate or key"),
    (RECEIVE + '[receive.tls]\ncertificate = "no.pem"\nkey = "no.pem"', "which is not there"),
    (RECEIVE + "most_memory_mib = 1", "most_memory_mib is less"), ("[queue]\nmost_studies = 0", "queue.most_studies cannot"),
])
def test_what_is_wrong_is_one_sentence_with_its_key(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "node.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=why) as raised:
        read_settings(path)
    assert raised.value.mend


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_settings(tmp_path / "nowhere.toml")


def test_the_example_of_the_docs_can_be_read_and_names_every_setting(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", HOW_TO.read_text(encoding="utf-8"), re.DOTALL)
    for name in ("node.pem", "node.key", "hospital.pem"):
        (tmp_path / name).write_text("", encoding="utf-8")
    path = tmp_path / "node.toml"
    path.write_text(example, encoding="utf-8")
    settings = read_settings(path)
    assert settings.place("queue") == tmp_path / "queue"
    told = {line.split("=")[0].strip() for line in example.splitlines() if "=" in line}
    named = {"url", "allowed_hosts", "authorities", "title", "host"}
    for part in dataclasses.fields(Settings):
        value = getattr(settings, part.name)
        if dataclasses.is_dataclass(value):
            named |= {one.name for one in dataclasses.fields(value) if not dataclasses.is_dataclass(getattr(value, one.name))}
    assert named - {"dicom", "dicomweb", "tls"} <= told
