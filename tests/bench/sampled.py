"""Runs the gateway and samples where its CPU time goes: `sampled.py FILE serve ...`.

SIGUSR1 starts the count, and SIGUSR2 writes the seconds of each stage to the file, as JSON. The
time of other threads than the event loop's is the ledger's.
"""

import json
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType

from campaign_gateway.cli import main

# Seconds of CPU between two samples.
INTERVAL = 0.001

# The innermost frame of one of these folders decides the stage of a sample.
STAGES = {
    "HTTP": ("campaign_gateway/web/server/", "/uvicorn/", "/starlette/"),
    "caller": ("campaign_gateway/web/callers/",),
    "GraphQL": ("campaign_gateway/web/", "campaign_gateway/api/", "/graphql/", "/strawberry/"),
    "attempt and connector": ("campaign_gateway/duplication/", "campaign_gateway/connectors/"),
    "ledger": ("campaign_gateway/ledger/", "/sqlite3/", "/psycopg/"),
    "call to the provider": ("campaign_gateway/accounts/", "/httpx/", "/httpcore/", "/anyio/"),
    "log and metrics": ("campaign_gateway/observe/", "/logging/", "/prometheus_client/"),
}
REST = "event loop"


class Samples:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._stages: dict[str, str] = {}
        self.start()

    def start(self, *_signal: object) -> None:
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._process = time.process_time()
        self._counted = self._loop = time.thread_time()

    def sample(self, _signal: int, frame: FrameType | None) -> None:
        """Assign the time since the last sample to the stage of this moment."""
        now = time.thread_time()
        while frame and not (stage := self._stage_of(frame.f_code.co_filename)):
            frame = frame.f_back
        self._spent[stage if frame else REST] += now - self._counted
        self._counted = now

    def _stage_of(self, path: str) -> str:
        if path not in self._stages:
            of_path = (stage for stage, parts in STAGES.items() if any(map(path.count, parts)))
            self._stages[path] = next(of_path, "")
        return self._stages[path]

    def write(self, *_signal: object) -> None:
        loop = time.thread_time() - self._loop
        self._spent["ledger"] += time.process_time() - self._process - loop
        # In one step, because the benchmark waits for the file.
        unfinished = self._file.with_suffix(".part")
        unfinished.write_text(json.dumps(self._spent))
        unfinished.rename(self._file)


if __name__ == "__main__":
    samples = Samples(Path(sys.argv.pop(1)))
    signal.signal(signal.SIGUSR1, samples.start)
    signal.signal(signal.SIGUSR2, samples.write)
    signal.signal(signal.SIGPROF, samples.sample)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
    main()
