"""How the node fares: a page in plain text and metrics for Prometheus, on loopback alone. Counts, nothing of a patient."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from storyxai.errors import InputError
from storyxai.node.queue import DiskQueue
from storyxai.node.reports import HELP, Reports, utc


def status_text(reports: Reports, queue: DiskQueue) -> str:
    """The page for people."""
    counts = queue.counts()
    lines = ["storyxai node - research use only, not for diagnostic use", f"running since {utc(reports.started)}", ""]
    lines.append("studies")
    lines += [f"  {state:<10} {count}" for state, count in counts.items()]
    lines += ["", "since the start"]
    for name in HELP:
        values = reports.counted(name)
        lines += [f"  {name.replace('_', ' ')}{f' ({label})' if label else ''}: {value}" for label, value in values.items()]
    return "\n".join(lines) + "\n"


def metrics_text(reports: Reports, queue: DiskQueue) -> str:
    """The same for Prometheus, in its text format 0.0.4."""
    return "\n".join(_metrics(reports, queue)) + "\n"


def _metrics(reports: Reports, queue: DiskQueue) -> Iterator[str]:
    yield from ("# HELP storyxai_queue_studies Studies in the queue, by state.", "# TYPE storyxai_queue_studies gauge")
    yield from (f'storyxai_queue_studies{{state="{state}"}} {count}' for state, count in queue.counts().items())
    yield from ("# HELP storyxai_uptime_seconds Seconds since the start.", "# TYPE storyxai_uptime_seconds gauge")
    yield f"storyxai_uptime_seconds {time.time() - reports.started:.0f}"
    for name, words in HELP.items():
        yield from (f"# HELP storyxai_{name}_total {words}", f"# TYPE storyxai_{name}_total counter")
        for label, value in (reports.counted(name) or {"": 0}).items():
            yield f"storyxai_{name}_total" + (f'{{kind="{label}"}} ' if label else " ") + str(value)


class StatusServer:
    """Serves / and /metrics at 127.0.0.1 from `start` to `stop`."""

    def __init__(self, port: int, reports: Reports, queue: DiskQueue) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 10
            server_version, sys_version = "storyxai", ""

            def do_GET(self) -> None:
                texts = {"/": status_text, "/metrics": metrics_text}
                write = texts.get(self.path)
                body = write(reports, queue).encode() if write else b"look at / or /metrics\n"
                self.send_response(200 if write else 404)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (as http.server names it)
                """Nothing: only our own lines reach the console."""

        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except OSError as error:
            why = f"cannot be listened at ({error.strerror})"
            raise InputError(f"127.0.0.1:{port}", why, mend="name another port in [status]") from error
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to serve."""
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="status", daemon=True).start()

    def stop(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
