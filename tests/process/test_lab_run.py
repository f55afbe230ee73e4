# SPDX-License-Identifier: Apache-2.0
"""`lab run` and `lab logs` as users have them: exit codes, a terminal, signals, and nothing left of a pod with --rm."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

from .lab_support import COMMAND, LabUnderTest, eventually, leftovers

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def lab():
    made = LabUnderTest(f"cptrun{os.getpid()}")
    try:
        made.lab("up")
        yield made
    finally:
        made.lab("down", check=False)
    assert leftovers(made.name) == []


def run(lab, *arguments, **more):
    return lab.lab("run", *arguments, **more)


class Terminal:
    """A command line with a terminal of its own, as a user's."""

    def __init__(self, lab, *arguments: str) -> None:
        self.master, slave = os.openpty()
        self.seen = ""
        self.size(30, 100)
        # The command gets the terminal as a shell's foreground job would have it.
        self.process = subprocess.Popen(
            [*COMMAND, "lab", "run", "--lab", lab.name, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - there are no threads
            env={**os.environ, "TERM": "dumb"},
        )
        self.before = termios.tcgetattr(slave)
        self.slave = slave

    def size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str, timeout_s: float = 20.0) -> None:
        """Read on until the text is there; what was before it is done with."""
        deadline = time.monotonic() + timeout_s
        while text not in self.seen:
            left = deadline - time.monotonic()
            if left < 0 or not select.select([self.master], [], [], left)[0]:
                raise AssertionError(f"no {text!r} in {self.seen!r}")
            self.seen += os.read(self.master, 65536).decode()
        self.seen = self.seen[self.seen.index(text) + len(text) :]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
        os.close(self.slave)
        os.close(self.master)


@pytest.fixture
def terminal(lab):
    made = []

    def make(*arguments):
        made.append(Terminal(lab, *arguments))
        return made[-1]

    try:
        yield make
    finally:
        for each in made:
            each.close()


def test_the_commands_output_input_and_exit_code_are_passed_and_the_pod_is_gone(lab):
    done = run(lab, "--rm", "one", "--", "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\nPod/default/one deleted\n")
    done = run(lab, "--rm", "one", "--", "sh", "-c", "kill -9 $$", check=False)
    assert done.returncode == 137
    assert run(lab, "--rm", "one", "--", "nosuch", check=False).returncode == 127
    assert run(lab, "-i", "--rm", "one", "--", "cat", stdin="through\n").stdout == "through\n"
    assert run(lab, "--rm", "one", "--", "cat", stdin="not passed\n").stdout == ""
    assert run(lab, "-it", "--rm", "one", "--", "true").stderr.startswith("standard input is no terminal")
    assert lab.pods() == {}


def test_a_pod_is_made_as_it_was_asked_for_and_stays_without_rm(lab):
    flags = ("-n", "default", "--node", "n2", "-l", "app=x,tier=y", "--env", "A=b=c")
    done = run(lab, "-i", "two", *flags, "--", "sh", "-c", "echo $A; hostname")
    assert done.stdout == "b=c\ntwo\n"
    try:
        assert "Pod/default/two runs on" in done.stderr
        assert lab.pods()["two"]["node"] == "n2"
        endpoints = lab.run("endpoint", "list", "--lab", lab.name, "-o", "json").stdout
        assert "k8s:app=x" in endpoints
        assert "k8s:tier=y" in endpoints
        again = run(lab, "two", "--", "true", check=False)
        assert (again.returncode, "Pod/default/two is there already" in again.stderr) == (1, True)
        assert lab.pods()["two"]["phase"] == "Running", "the one that was there is not touched"
    finally:
        lab.lab("delete", "pod", "two")


def test_a_pod_of_its_own_answers_and_runs_on(lab):
    try:
        assert run(lab, "web", "--port", "8080", "--port", "53/udp").stdout == "Pod/default/web created\n"
        assert run(lab, "--rm", "client", "--", "curl", "-sS", "--max-time", "3", "http://web:8080/").stdout == "web\n"
        run(lab, "talks", "--restart", "Never", "--", "sh", "-c", "echo said; exec sleep 1000")
        assert eventually(lambda: lab.lab("logs", "talks").stdout) == "said\n"
        failed = run(lab, "fails", "--restart", "Never", "--", "nosuch", check=False)
        assert (failed.returncode, "nosuch: No such file" in failed.stderr) == (1, True), failed.stderr
    finally:
        lab.lab("delete", "pod", "web", "talks", "fails", check=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("Bad_Name",), "'Bad_Name'"),
        (("x", "--node", "n9"), "has no node 'n9'"),
        (("x", "-n", "nosuch"), "there is no namespace 'nosuch' (there are: default)"),
        (("x", "-l", "novalue"), "--labels 'novalue': must be NAME=VALUE"),
        (("x", "-l", "-a=b"), "labels"),
        (("x", "--port", "http"), "--port 'http': must be like 8080"),
        (("x", "--port", "70000"), "port"),
        (("x", "--port", "80", "--", "true"), "--port is for a pod without a command"),
        (("x", "--restart", "Sometimes", "--", "true"), "must be one of Always, OnFailure, Never"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(lab, arguments, said):
    done = run(lab, *arguments, check=False)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert lab.pods() == {}


def test_a_shell_has_job_control_a_size_and_its_interrupts(lab, terminal):
    shell = terminal("-it", "--rm", "shell", "--", "bash", "--norc")
    shell.expect("# ")
    shell.type("stty size; tty\n")
    shell.expect("30 100")
    shell.expect("/dev/pts/0")
    shell.size(40, 120)
    shell.type("stty size\n")
    shell.expect("40 120")
    shell.type("sleep 1000\n")
    eventually(lambda: "sleep 1000" in _commands(lab))
    shell.type("\x03")
    shell.expect("^C")
    shell.type("sleep 2000\n")
    eventually(lambda: "sleep 2000" in _commands(lab))
    shell.type("\x1a")
    shell.expect("Stopped")
    shell.type("kill -9 %1\n")
    eventually(lambda: "sleep 2000" not in _commands(lab))
    shell.type("wait; exit 5\n")
    assert shell.process.wait(20) == 5
    shell.expect("Pod/default/shell deleted")
    assert termios.tcgetattr(shell.slave) == shell.before, "the terminal is as it was"
    assert lab.pods() == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("flags", [("-it",), ("-i",)])
def test_who_is_ended_takes_the_pod_along(lab, terminal, number, flags):
    shell = terminal(*flags, "--rm", "ended", "--", "sleep", "3000")
    eventually(lambda: "sleep 3000" in _commands(lab))
    shell.process.send_signal(number)
    assert shell.process.wait(20) == 128 + number
    assert lab.pods() == {}
    assert termios.tcgetattr(shell.slave) == shell.before


def test_an_interrupt_while_the_pod_starts_leaves_nothing(lab):
    lab.lab("stop", "n1")
    try:
        waiting = subprocess.Popen(
            [*COMMAND, "lab", "run", "--lab", lab.name, "--rm", "--node", "n1", "never", "--", "true"],
            stderr=subprocess.PIPE,
        )
        eventually(lambda: "never" in lab.pods())
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=30)
        assert (waiting.returncode, said) == (130, b"Pod/default/never deleted\n")
    finally:
        lab.lab("start", "n1")
    assert lab.pods() == {}


def test_logs_of_nodes_and_their_last_lines(lab):
    whole = lab.lab("logs", "n1").stdout
    assert f": node n1, store {lab.path}/store" in whole
    lines = whole.splitlines(keepends=True)
    assert lab.lab("logs", "n1", "--tail", "2").stdout == "".join(lines[-2:])
    assert lab.lab("logs", "n1", "--tail", "0").stdout == ""
    assert lab.lab("logs", "n1", "--tail", "100000").stdout == whole
    assert "the controller runs" in lab.lab("logs", "controller").stdout
    unknown = lab.lab("logs", "n7", check=False)
    assert (unknown.returncode, "no node of that name (n1, n2)" in unknown.stderr) == (1, True)


def test_logs_are_followed(lab):
    reading = subprocess.Popen(
        [*COMMAND, "lab", "logs", "--lab", lab.name, "n2", "-f", "--tail", "1"], stdout=subprocess.PIPE, text=True
    )
    assert reading.stdout
    try:
        assert reading.stdout.readline() == lab.lab("logs", "n2").stdout.splitlines(keepends=True)[-1]
        (lab.path / "store/bad.yaml").write_text("kind: Pod\n x: [")
        while "bad.yaml" not in (line := reading.stdout.readline()):
            assert line
    finally:
        (lab.path / "store/bad.yaml").unlink(missing_ok=True)
        reading.send_signal(signal.SIGINT)
        assert reading.wait(20) == 130
        reading.stdout.close()


def _commands(lab) -> str:
    """Return the command lines of all pods' processes."""
    found = []
    for pod in lab.pods().values():
        for pid in pod["pids"]:
            path = Path(f"/proc/{pid}/cmdline")
            if path.exists():
                found.append(path.read_bytes().replace(b"\0", b" ").decode().strip())
    return "\n".join(found)
