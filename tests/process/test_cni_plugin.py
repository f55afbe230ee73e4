# SPDX-License-Identifier: Apache-2.0
"""The plugin as a runtime runs it: a process, its environment, standard input and output, and an agent's socket."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ciliumpy.cni import install
from ciliumpy.net import netns

RESULT = {
    "cniVersion": "1.1.0",
    "interfaces": [
        {"name": "lxc0123", "mac": "02:00:00:00:00:01", "mtu": 1450},
        {"name": "eth0", "mac": "02:00:00:00:00:02", "mtu": 1450, "sandbox": "/ns"},
    ],
    "ips": [
        {"address": "10.244.0.7/32", "gateway": "10.244.0.1", "interface": 1},
        {"address": "fd00::7/128", "gateway": "fd00::1", "interface": 1},
    ],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    "dns": {},
}


SOURCES = str(Path(install.__file__).parents[2])


class Agent:
    """An agent's end of cni.sock: answers every request alike and keeps what it was asked."""

    def __init__(self, path):
        self.path = str(path)
        self.answer = {"result": RESULT}
        self.requests = []
        self.namespaces = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.path)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            connection, _ = self._socket.accept()
            with connection:
                line, fds, _, _ = socket.recv_fds(connection, 65536, 4)
                if line == b"stop":
                    return
                self.requests.append(json.loads(line))
                for fd in fds:
                    self.namespaces.append(os.fstat(fd).st_ino)
                    os.close(fd)
                connection.sendall(json.dumps(self.answer).encode() + b"\n" if self.answer is not None else b"")

    def close(self):
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(self.path)
            last.sendall(b"stop")
        self._thread.join()
        self._socket.close()


@pytest.fixture
def agent(tmp_path):
    served = Agent(tmp_path / "cni.sock")
    yield served
    served.close()


@pytest.fixture
def sandbox(tmp_path):
    path = tmp_path / "sandbox"
    os.close(netns.new_namespace(path))
    yield path
    netns.remove_namespace(path)


def plugin(config, *, stdin=None, **environment):
    """Run the plugin; return (exit status, decoded standard output or None, standard error)."""
    variables = {
        "CNI_CONTAINERID": "c0ffee",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=api-1;K8S_POD_UID=u-1",
    } | {f"CNI_{k.upper()}": str(v) for k, v in environment.items()}
    done = subprocess.run(
        install.command(),
        input=json.dumps(config).encode() if stdin is None else stdin,
        env={k: v for k, v in os.environ.items() if not k.startswith("CNI_")} | variables,
        capture_output=True,
        check=False,
        timeout=20,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr.decode()


def config(tmp_path, **more):
    return {
        "cniVersion": "1.1.0",
        "name": "lab",
        "type": "ciliumpy-cni",
        "agentSocket": str(tmp_path / "cni.sock"),
    } | more


def test_version_lists_what_is_supported(tmp_path):
    status, answer, _ = plugin({"cniVersion": "1.0.0"}, command="VERSION")
    assert (status, answer) == (
        0,
        {"cniVersion": "1.0.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]},
    )
    assert plugin({"cniVersion": "9.9.9"}, command="VERSION")[1]["cniVersion"] == "1.1.0"


def test_without_a_command_it_says_what_it_is():
    status, answer, stderr = plugin({})
    assert (status, answer) == (0, None)
    assert "CNI versions supported: 0.3.1" in stderr


@pytest.mark.root
def test_add_hands_request_and_namespace_to_the_agent(agent, sandbox, tmp_path):
    status, answer, stderr = plugin(config(tmp_path, logFile=str(tmp_path / "log")), command="ADD", netns=sandbox)
    assert (status, answer, stderr) == (0, RESULT, "")
    assert agent.requests == [
        {
            "command": "ADD",
            "containerID": "c0ffee",
            "ifname": "eth0",
            "netns": str(sandbox),
            "podNamespace": "shop",
            "podName": "api-1",
            "podUID": "u-1",
            "network": "lab",
        }
    ]
    assert agent.namespaces == [sandbox.stat().st_ino]
    log = tmp_path / "log"
    assert log.read_text().endswith("ADD c0ffee eth0: done\n")
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.root
@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
def test_an_older_version_gets_its_own_result(agent, sandbox, tmp_path, version):
    status, answer, _ = plugin(config(tmp_path, cniVersion=version), command="ADD", netns=sandbox)
    assert (status, answer["cniVersion"]) == (0, version), answer
    assert all("mtu" not in i for i in answer["interfaces"])
    assert [ip.get("version") for ip in answer["ips"]] == (["4", "6"] if version < "1" else [None, None])


@pytest.mark.root
def test_the_agents_error_is_the_answer(agent, sandbox, tmp_path):
    agent.answer = {"error": {"code": 100, "msg": "no address is free", "details": "10.244.0.0/24"}}
    status, answer, _ = plugin(config(tmp_path), command="ADD", netns=sandbox)
    assert status == 1
    assert answer == {"cniVersion": "1.1.0", "code": 100, "msg": "no address is free", "details": "10.244.0.0/24"}


@pytest.mark.root
@pytest.mark.parametrize(("answer", "code"), [(None, 11), ("?", 100), ({"result": 7}, 100), ({"error": {}}, 100)])
def test_an_answer_that_cannot_be_read_is_an_error(agent, sandbox, tmp_path, answer, code):
    agent.answer = answer
    given = plugin(config(tmp_path), command="ADD", netns=sandbox)[1]
    assert given["code"] == code, given


@pytest.mark.root
def test_add_with_the_agent_down_says_try_again(sandbox, tmp_path):
    status, answer, _ = plugin(config(tmp_path), command="ADD", netns=sandbox)
    assert (status, answer["code"]) == (1, 11)
    assert "start the agent" in answer["details"]
    assert not (tmp_path / "cni-deletes").exists()


@pytest.mark.root
def test_del_hands_over_the_namespace_if_it_is_there(agent, sandbox, tmp_path):
    agent.answer = {"result": {}}
    assert plugin(config(tmp_path, prevResult=RESULT), command="DEL", netns=sandbox)[:2] == (0, None)
    assert plugin(config(tmp_path), command="DEL", netns="/no/such/namespace")[:2] == (0, None)
    assert plugin(config(tmp_path), command="DEL")[:2] == (0, None)
    assert [r["command"] for r in agent.requests] == ["DEL"] * 3
    assert agent.namespaces == [sandbox.stat().st_ino]


def test_del_with_the_agent_down_is_queued(tmp_path):
    assert plugin(config(tmp_path), command="DEL")[:2] == (0, None)
    assert plugin(config(tmp_path), command="DEL")[:2] == (0, None)
    (queued,) = (tmp_path / "cni-deletes").iterdir()
    assert queued.name == "c0ffee-eth0.json"
    assert queued.stat().st_mode & 0o777 == 0o600
    assert json.loads(queued.read_text())["podName"] == "api-1"


@pytest.mark.root
def test_where_many_wait_to_be_heard_it_waits_too(sandbox, tmp_path):
    """A full backlog is no agent that is down: a node's pods may all come at once."""
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as first:
        listening.bind(str(tmp_path / "cni.sock"))
        listening.listen(0)
        first.connect(str(tmp_path / "cni.sock"))
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(plugin, config(tmp_path), command="ADD", netns=sandbox)
            with pytest.raises(TimeoutError):
                waiting.result(0.5)
            listening.accept()[0].close()
            with listening.accept()[0] as connection:
                assert json.loads(connection.recv(65536))["command"] == "ADD"
                connection.sendall(json.dumps({"result": RESULT}).encode() + b"\n")
            assert waiting.result()[:2] == (0, RESULT)


def test_del_that_an_agent_worked_off_meanwhile_is_done(tmp_path):
    """It was starting: not there when it was asked first, and it has read the queue when it is asked again."""
    with socket.socket(socket.AF_UNIX) as listening, ThreadPoolExecutor(1) as thread:
        listening.bind(str(tmp_path / "cni.sock"))
        listening.listen()
        done = thread.submit(plugin, config(tmp_path), command="DEL")
        listening.accept()[0].close()
        with listening.accept()[0] as connection:
            connection.recv(65536)
            (queued,) = (tmp_path / "cni-deletes").iterdir()
            queued.unlink()
            connection.sendall(b'{"result": {}}\n')
        assert done.result()[:2] == (0, None)


def test_del_of_which_half_was_written_is_not_queued(tmp_path):
    """A disk that fills in the middle of it. Half a message would be dropped, the pod with it never removed."""
    done = subprocess.run(
        ["prlimit", "--fsize=100", "--", *install.command()],
        input=json.dumps(config(tmp_path)).encode(),
        env=dict(os.environ) | {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c0ffee", "CNI_IFNAME": "eth0"},
        capture_output=True,
        check=False,
        timeout=20,
    )
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, 5)
    assert list((tmp_path / "cni-deletes").iterdir()) == []


def test_del_that_cannot_be_queued_fails(tmp_path):
    (tmp_path / "cni-deletes").write_text("in the way")
    status, answer, _ = plugin(config(tmp_path), command="DEL")
    assert (status, answer["code"]) == (1, 5)


@pytest.mark.parametrize("stdin", [b"", b"garbage", b"\xff\xfe\x00", b"[]", b'{"cniVersion"', b"[" * 100_000])
@pytest.mark.parametrize("command", ["ADD", "DEL", "VERSION"])
def test_garbage_on_standard_input(stdin, command):
    status, answer, stderr = plugin(None, stdin=stdin, command=command, netns="/x")
    assert (status, answer["code"], stderr) == (1, 6, "")


@pytest.mark.parametrize("version", ["9.9.9", "0.1.0", 1, None, ["1.1.0"], {}])
def test_an_unknown_version(tmp_path, version):
    status, answer, _ = plugin(config(tmp_path, cniVersion=version), command="ADD", netns="/x")
    assert (status, answer["code"]) == (1, 1)
    assert answer["cniVersion"] == "1.1.0"
    assert "1.1.0" in answer["details"]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"mtu": 9000}, 2),
        ({"ipam": {"type": "host-local"}}, 2),
        ({"prevResult": "x"}, 7),
        ({"prevResult": {"cniVersion": "9.9.9"}}, 1),
        ({"name": ""}, 7),
        ({"name": "../x"}, 7),
        ({"type": 7}, 7),
        ({"agentSocket": "cni.sock"}, 7),
        ({"agentSocket": 7}, 7),
    ],
)
def test_a_configuration_that_is_refused(tmp_path, more, code):
    status, answer, _ = plugin(config(tmp_path, **more), command="ADD", netns="/x")
    assert (status, answer["code"]) == (1, code)
    assert next(iter(more)) in answer["msg"]


@pytest.mark.root
@pytest.mark.parametrize("version", ["0.3.1", "1.1.0"])
def test_what_plugins_before_us_made_is_handed_over_and_answered_unchanged(agent, sandbox, tmp_path, version):
    agent.answer = {"result": {}}
    previous = {"cniVersion": version, "interfaces": [{"name": "eth0", "sandbox": str(sandbox)}], "x": [1]}
    given = config(tmp_path, cniVersion=version, prevResult=previous)
    assert plugin(given, command="ADD", netns=sandbox)[:2] == (0, previous)
    assert agent.requests[0]["prevResult"] == previous


@pytest.mark.root
def test_check_hands_over_the_result(agent, sandbox, tmp_path):
    agent.answer = {"result": {}}
    given = config(tmp_path, prevResult=RESULT)
    assert plugin(given, command="CHECK", netns=sandbox)[:2] == (0, None)
    assert (agent.requests[0]["command"], agent.requests[0]["prevResult"]) == ("CHECK", RESULT)
    assert agent.namespaces == [sandbox.stat().st_ino]
    assert plugin(config(tmp_path), command="CHECK", netns=sandbox)[1]["code"] == 7
    assert plugin(given, command="CHECK", netns=tmp_path / "gone")[1]["code"] == 3
    assert plugin(given | {"mtu": 9000}, command="CHECK", netns=sandbox)[1]["code"] == 2


KEEP = [{"containerID": "c1", "ifname": "eth0"}]


@pytest.mark.parametrize("key", ["cni.dev/valid-attachments", "cni.dev/attachments"])
@pytest.mark.parametrize("keep", [KEEP, []])
def test_gc_says_what_to_keep(agent, tmp_path, key, keep):
    agent.answer = {"result": {}}
    given = config(tmp_path, **{key: keep})
    assert plugin(given, command="GC", containerid="", ifname="")[:2] == (0, None)
    assert (agent.requests[0]["command"], agent.requests[0]["network"]) == ("GC", "lab")
    assert agent.requests[0]["attachments"] == keep


@pytest.mark.parametrize(
    "keep",
    [
        {},
        {"cni.dev/valid-attachments": None},
        {"cni.dev/valid-attachments": [{"containerID": "a"}]},
        {"cni.dev/valid-attachments": {}},
        {"cni.dev/attachments": ["c1"]},
    ],
)
def test_gc_without_a_whole_list_removes_nothing(agent, tmp_path, keep):
    status, answer, _ = plugin(config(tmp_path, **keep), command="GC")
    assert (status, answer["code"], agent.requests) == (1, 7, [])


def test_status_is_the_agents(agent, tmp_path):
    agent.answer = {"result": {}}
    assert plugin(config(tmp_path), command="STATUS", containerid="", ifname="")[:2] == (0, None)
    agent.answer = {"error": {"code": 51, "msg": "the store cannot be read", "details": ""}}
    assert plugin(config(tmp_path), command="STATUS")[1]["code"] == 51


def test_status_and_gc_with_the_agent_down(tmp_path):
    assert plugin(config(tmp_path), command="STATUS")[1]["code"] == 50
    assert plugin(config(tmp_path, **{"cni.dev/valid-attachments": []}), command="GC")[1]["code"] == 11


@pytest.mark.parametrize(
    ("command", "version"), [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0"), ("STATUS", "0.3.1")]
)
def test_a_version_from_before_the_command(tmp_path, command, version):
    status, answer, _ = plugin(config(tmp_path, cniVersion=version, prevResult=RESULT), command=command, netns="/x")
    assert (status, answer["code"], answer["cniVersion"]) == (1, 1, "1.1.0")


@pytest.mark.root
def test_a_socket_path_that_is_too_long(sandbox, tmp_path):
    answer = plugin(config(tmp_path, agentSocket="/" + "a" * 200), command="ADD", netns=sandbox)[1]
    assert answer["code"] == 7


def test_every_wrong_variable_is_named(tmp_path):
    answer = plugin(config(tmp_path), command="ADD", containerid="../../etc", ifname="a/b", args="novalue")[1]
    assert answer["code"] == 4
    assert answer["msg"].endswith("CNI_CONTAINERID, CNI_IFNAME, CNI_NETNS, CNI_ARGS")


def test_a_command_that_is_not_there(tmp_path):
    assert plugin(config(tmp_path), command="FROBNICATE")[1]["code"] == 4


def test_no_such_namespace(tmp_path):
    answer = plugin(config(tmp_path), command="ADD", netns=tmp_path / "missing")[1]
    assert answer["code"] == 3
    (tmp_path / "file").touch()
    answer = plugin(config(tmp_path), command="ADD", netns=tmp_path / "file")[1]
    assert (answer["code"], "is not a namespace" in answer["msg"]) == (4, True)
    answer = plugin(config(tmp_path), command="ADD", netns="/proc/self/ns/uts")[1]
    assert "is not a network namespace" in answer["msg"]
    answer = plugin(config(tmp_path), command="ADD", netns="/proc/self/ns/net")[1]
    assert "own network namespace" in answer["msg"]


@pytest.mark.parametrize("folder", ["bin", "x" * 140])
def test_it_installs_itself(tmp_path, folder):
    """The second with an interpreter whose path the kernel does not take in a first line."""
    code = f"import sys; from ciliumpy.cni import install; sys.exit(install.main(['install', {str(tmp_path)!r}]))"
    python = sys.executable
    if folder != "bin":
        (tmp_path / folder).mkdir()
        python = str(tmp_path / folder / "python")
        Path(python).symlink_to(Path(sys.executable).resolve())
        code = f"import sys; sys.executable = {python!r}; " + code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    path = tmp_path / "ciliumpy-cni"
    assert done.stdout == f"{path}\n"
    assert path.stat().st_mode & 0o777 == 0o755
    answer = subprocess.run(
        [path],
        input=b'{"cniVersion": "1.0.0"}',
        env={"CNI_COMMAND": "VERSION", "PATH": "/nowhere"},
        capture_output=True,
        check=False,
    )
    assert json.loads(answer.stdout)["cniVersion"] == "1.0.0", answer.stderr


def test_a_user_who_asks_for_something_else_is_told():
    said = subprocess.run([*install.command(), "uninstall"], capture_output=True, text=True, env={}, check=False)
    assert (said.returncode, said.stdout) == (2, "")
    assert "install [FOLDER]" in said.stderr
    said = subprocess.run(
        [*install.command(), "install", "/proc/nowhere"], capture_output=True, text=True, env={}, check=False
    )
    assert (said.returncode, said.stdout) == (1, "")
    assert "/proc/nowhere" in said.stderr


def modules(code):
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import sys; sys.path.insert(0, {SOURCES!r}); {code}; print(*sys.modules)",
    ]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_the_plugin_loads_no_more_than_it_needs():
    heavy = {"asyncio", "msgspec", "numpy", "pyroute2", "typer", "yaml", "grpc", "pathlib", "dataclasses", "inspect"}
    heavy |= {"json", "re", "enum", "typing", "socket"}  # two thirds of its run
    assert not modules("import ciliumpy.cni.__main__") & heavy
