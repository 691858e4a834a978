"""Write the approved stories anew; read the difference before committing it."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "story")]

from test_tell import as_lines  # noqa: E402

from evidence_example import example_evidence  # noqa: E402
from storyxai.story.tell import AUDIENCES, tell  # noqa: E402

for audience in AUDIENCES:
    (HERE / f"{audience}.txt").write_text(as_lines(tell(example_evidence(), audience)), encoding="utf-8")
