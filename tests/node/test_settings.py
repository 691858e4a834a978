"""The node's settings: what is wrong names its key and the mend, before anything starts."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import replace
from pathlib import Path

import pytest

from storyxai.errors import InputError
from storyxai.node.serve import tell_options, threads_each
from storyxai.node.settings import Settings, read_settings
from storyxai.programs.models import SHIPPED_MODEL
from storyxai.programs.tell import TellOptions

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


@pytest.mark.parametrize(("line", "samples"), [("", None), ('samples = "auto"', None), ("samples = 300", 300)])
def test_the_node_samples_as_tell_does_unless_a_number_is_named(tmp_path: Path, line: str, samples: int | None) -> None:
    path = tmp_path / "node.toml"
    path.write_text(f"[tell]\n{line}\n", encoding="utf-8")
    options = tell_options(read_settings(path))
    assert options.samples == samples
    assert samples is not None or replace(options, model=SHIPPED_MODEL) == TellOptions(audiences=options.audiences)


@pytest.mark.parametrize("samples", ["0", "-3", '"many"'])
def test_samples_that_are_no_number_are_refused(tmp_path: Path, samples: str) -> None:
    path = tmp_path / "node.toml"
    path.write_text(f"[tell]\nsamples = {samples}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"tell\.samples cannot be used"):
        read_settings(path)


@pytest.mark.parametrize(("cores", "workers", "each"), [(2, 1, 2), (2, 2, 1), (2, 3, 1), (16, 3, 5), (None, 2, 1)])
def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch, cores: int | None, workers: int, each: int) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert threads_each(workers) == each


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
