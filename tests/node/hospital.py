"""`make hospital`: a film goes from dcmtk to Orthanc and on to a node, and the answer comes back; look at it there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from node_films import filmed
from orthanc import ABSENT, PLUGIN, PROGRAM, free_port, orthanc

from storyxai.node.serve import running_node
from storyxai.node.settings import AnswerSettings, DicomPlace, QueueSettings, ReceiveSettings, Settings, TellSettings

FILM = Path(__file__).resolve().parents[2] / "src" / "storyxai" / "examples" / "nih_00006004_000.jpg"


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    if PROGRAM is None or PLUGIN is None or shutil.which("storescu") is None:
        say(f"{ABSENT}; and dcmtk")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        return _show(Path(folder), stay="--once" not in sys.argv)


def _show(home: Path, *, stay: bool) -> int:
    port = free_port()
    with orthanc(home / "orthanc", node_port=port) as archive:
        settings = Settings(
            ReceiveSettings(("ORTHANC",), port=port, complete_after_seconds=1.0), QueueSettings(), TellSettings(samples=300),
            AnswerSettings("dicom", DicomPlace("ORTHANC", "127.0.0.1", archive.dicom)), home=home,
        )
        (home / "film.dcm").write_bytes(filmed(FILM, 1))
        command = ["storescu", "-aec", "ORTHANC", "127.0.0.1", str(archive.dicom), str(home / "film.dcm")]
        subprocess.run(command, check=True)
        say("storescu: the film is in Orthanc")
        with running_node(settings, say) as running:
            archive.ask("/modalities/storyxai/store", archive.ask("/instances"))
            while not running.queue.counts()["answered"] and not running.node.stopped:
                time.sleep(0.2)
            for modality, data in sorted(archive.instances().values()):
                say(f"  in Orthanc: {modality:<4} {len(data):>9} bytes")
            if stay:
                say(f"look at http://127.0.0.1:{archive.http}/app/explorer.html ; Ctrl-C ends it")
                try:
                    while True:
                        time.sleep(1)
                except KeyboardInterrupt:
                    pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
