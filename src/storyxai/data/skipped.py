"""What was left out of a table, an evaluation or a training: told in few lines, and each thing named in a file."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from storyxai.data.table import Skipped
from storyxai.files import write_whole

MOST_REASONS = 5
MOST_NAMES = 3


def skipped_lines(skipped: Sequence[Skipped], *, named_in: str = "") -> tuple[str, ...]:
    """How much was left out, the five commonest reasons and the first names of each; nothing where nothing was.

    `named_in` is the file or page that names them all.
    """
    if not skipped:
        return ()
    place = f", each named in {named_in}" if named_in else ""
    lines = [f"left out: {len(skipped)}{place}"]
    for why, count in Counter(item.why for item in skipped).most_common(MOST_REASONS):
        names = [item.what for item in skipped if item.why == why]
        more = ", ..." if count > MOST_NAMES else ""
        lines.append(f"  {count} x {why}: {', '.join(names[:MOST_NAMES])}{more}")
    return tuple(lines)


def write_skipped(skipped: Sequence[Skipped], path: Path) -> Path | None:
    """Write what was left out to `path` as CSV (what, why, mend), and give the path; None, and no file, where nothing was.

    Raises: OutputError when the place cannot be written.
    """
    if not skipped:
        path.unlink(missing_ok=True)
        return None
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("what", "why", "mend"))
    writer.writerows((item.what, item.why, item.mend) for item in skipped)
    write_whole(text.getvalue().encode("utf-8", errors="backslashreplace"), path)  # a name need not be text
    return path
