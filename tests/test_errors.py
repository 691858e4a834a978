"""What goes wrong is told in one line of printable text, whatever a file is called."""

from __future__ import annotations

import pytest

from storyxai.errors import GateRefusal, InputError, UnknownNameError


@pytest.mark.parametrize("name", ["a\nb.png", "a\x1b[31mred.png", "a\r.png", "a\u202egnp.png", "a\udcff.png"])
def test_a_name_cannot_break_the_line_or_colour_the_terminal(name: str) -> None:
    told = (InputError(name, f"is {name}", mend=f"mend {name}"), GateRefusal(name, name, mend=name),
            UnknownNameError("finding", name, ["Mass"]))
    for error in told:
        text = str(error)
        assert text.isprintable() and "a?" in text
        text.encode("utf-8")  # a name of undecodable bytes must not make the message itself fail
    assert told[0].what == name  # programs get what it was
