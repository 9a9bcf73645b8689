"""The real command in a process of its own, in an empty home, on a pipe or on a terminal."""

from __future__ import annotations

import codecs
import contextlib
import errno
import fcntl
import http.client
import io
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from tests import starts
from tests.harness import PATIENCE_S
from tests.starts import ROOT, Process

LMK = starts.MODULE
WAIT_S = 90

REAL_KEY = "sk-proj-canary-Zq8vW2nK4xB7mT1yR5pL9dF3"
LOCAL_KEY = re.compile(r"sk-lmk-[a-z0-9]{10}-[0-9A-Za-z]{49}")
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(slots=True)
class Done:
    code: int
    out: str
    err: str = ""


@dataclass(slots=True)
class Lmk:
    """Runs `lmk` with nothing of the person who runs the tests."""

    folder: Path
    """Working folder."""
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder.parent / "data"

    @property
    def env_file(self) -> Path:
        return self.folder / "llamakey_local.env"

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        kept = ("PATH", "SYSTEMROOT", "TMPDIR")
        result = {name: os.environ[name] for name in kept if name in os.environ}
        result |= {n: v for n, v in os.environ.items() if n.startswith("COVERAGE_")}
        result |= {
            "HOME": str(self.folder.parent / "home"),
            "LLAMAKEY_HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
            "LOGNAME": "alice",
        }
        return {name: value for name, value in {**result, **self.environ, **extra}.items() if value}

    def __call__(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        command: Sequence[str] = LMK,
    ) -> Done:
        """Run to the end, on pipes."""
        done = starts.run(
            [*command, *arguments],
            cwd=self.folder,
            env=self.environment(env or {}),
            stdin=stdin or "",
            timeout_s=WAIT_S,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def here(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
    ) -> Done:
        """Run to the end within this process, on pipes: where the output is the point."""
        from llamakey_addon import cli

        out, err = io.StringIO(), io.StringIO()
        given = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, self.environment(env or {}), clear=True),
            mock.patch.object(sys, "stdin", given),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = cli.main(arguments)
        return Done(code, out.getvalue(), err.getvalue())

    def on_terminal(
        self,
        *arguments: str,
        columns: int = 100,
        env: Mapping[str, str] | None = None,
        until: str = "",
    ) -> Done:
        """Run on a terminal; with `until`, interrupt when that was printed. Both outputs in one."""
        main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        process = starts.start(
            [*LMK, *arguments],
            cwd=self.folder,
            env=self.environment({"TERM": "xterm-256color", **(env or {})}),
            stdin=side,
            stdout=side,
            stderr=side,
        )
        os.close(side)
        text = ""
        decoder = codecs.getincrementaldecoder("utf-8")()
        end_s = time.monotonic() + WAIT_S
        stopped = False
        try:
            while time.monotonic() < end_s:
                if not select.select([main], [], [], 1)[0]:
                    continue
                try:
                    data = os.read(main, 65536)
                except OSError as error:
                    if error.errno == errno.EIO:
                        break  # so Linux says that the other side has closed
                    raise
                if not data:
                    break
                text += decoder.decode(data)
                if until and until in text and not stopped:
                    stopped = True
                    process.send_signal(signal.SIGINT)
            return Done(process.wait(WAIT_S), text.replace("\r\n", "\n"))
        finally:
            os.close(main)
            if process.poll() is None:
                process.kill()
                process.wait()

    @contextlib.contextmanager
    def serving(self, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Serving]:
        """A proxy on a free port, until the end of the block at the latest."""
        files = [self.folder.parent / f"{name}.txt" for name in ("out", "err")]
        with files[0].open("wb") as out, files[1].open("wb") as err:
            process = starts.start(
                [*LMK, "serve", "--listen", "localhost:0", *arguments],
                cwd=self.folder,
                env=self.environment(env or {}),
                stdout=out,
                stderr=err,
            )
        serving = Serving(process, *files)
        try:
            serving.wait_for("Serving ")
            yield serving
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


@dataclass(slots=True)
class Serving:
    process: Process
    out_file: Path
    err_file: Path

    @property
    def out(self) -> str:
        return self.out_file.read_text()

    @property
    def err(self) -> str:
        return self.err_file.read_text()

    @property
    def port(self) -> int:
        found = re.search(r"on http://localhost:(\d+)", self.out)
        assert found, self.out
        return int(found[1])

    def wait_for(self, text: str) -> None:
        """Until standard output has `text`."""
        for _ in ticks():
            if text in self.out:
                return
            if self.process.poll() is not None and text not in self.out:
                raise AssertionError(f"ended with {self.process.returncode}: {self.out}{self.err}")
        raise AssertionError(f"{text!r} was not printed: {self.out}{self.err}")

    def get(self, path: str, key: str = "") -> tuple[int, str]:
        """Status and body."""
        connection = http.client.HTTPConnection("localhost", self.port, timeout=45)
        try:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Exit code after a signal."""
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)


def ticks(timeout_s: float = WAIT_S) -> Iterator[None]:
    """Turns of a wait, 20 ms apart (never sooner over than `harness.PATIENCE_S`)."""
    end_s = time.monotonic() + max(timeout_s, PATIENCE_S)
    while time.monotonic() < end_s:
        yield
        time.sleep(0.02)
