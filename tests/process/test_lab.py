# SPDX-License-Identifier: Apache-2.0
"""A lab as users have it: by the command line, with real agents, pods and packets."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
from pathlib import Path

import pytest

from .lab_support import APPS, POLICY, LabUnderTest, eventually, leftovers

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def lab():
    made = LabUnderTest(f"cpt{os.getpid()}")
    try:
        made.lab("up")
        made.apply(APPS)
        yield made
    finally:
        made.lab("down", check=False)
    assert leftovers(made.name) == []


def fetch(lab, pod, host, port=8080):
    return lab.exec(pod, "curl", "-sS", "-g", "--max-time", "1", f"http://{host}:{port}/")


def test_status_tells_of_nodes_and_pods(lab):
    found = lab.status()
    assert (found["apiVersion"], found["kind"], found["errors"]) == ("ciliumpy/v1", "LabStatus", [])
    assert found["store"] == str(lab.path / "store")
    assert [(n["name"], n["state"], n["addresses"]) for n in found["nodes"]] == [
        ("n1", "ok", ["172.30.0.11", "fd00:172:30::11"]),
        ("n2", "ok", ["172.30.0.12", "fd00:172:30::12"]),
    ]
    for node in found["nodes"]:
        command = Path(f"/proc/{node['pid']}/cmdline").read_text()
        assert f"labs/{lab.name}/{node['name']}/agent.yaml" in command
    pods = {p["name"]: p for p in found["pods"]}
    assert pods["frontend"]["node"] == "n1"
    assert pods["visitor"]["node"] == "n2"
    assert sorted(p["node"] for name, p in pods.items() if name.startswith("api-")) == ["n1", "n2"]
    for pod in pods.values():
        assert pod["phase"] == "Running"
        assert [ipaddress.ip_address(a).version for a in pod["addresses"]] == [4, 6]
        inodes = {Path(f"/proc/{pid}/ns/net").stat().st_ino for pid in pod["pids"]}
        assert len(inodes) == 1
        assert inodes != {Path("/proc/self/ns/net").stat().st_ino}
    text = lab.lab("status").stdout
    assert all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.parametrize("family", [0, 1])
def test_pods_reach_each_other_on_both_nodes_and_the_world(lab, family):
    for name, pod in lab.pods("api").items():
        address = pod["addresses"][family]
        for source in ("shop/frontend", "guest/visitor"):
            done = fetch(lab, source, f"[{address}]" if family else address)
            assert (done.returncode, done.stdout) == (0, f"{name}\n"), done.stderr
    assert fetch(lab, "guest/visitor", ("192.0.2.10", "[2001:db8::10]")[family]).stdout == "world\n"


def test_names_of_the_lab(lab):
    apis = set(lab.pods("api"))
    assert fetch(lab, "shop/frontend", "api").stdout.strip() in apis
    assert fetch(lab, "guest/visitor", "api.shop.svc.cluster.local").stdout.strip() in apis
    assert fetch(lab, "guest/visitor", next(iter(apis)) + ".shop").stdout.strip() in apis
    assert fetch(lab, "guest/visitor", "world", 80).stdout == "world\n"
    assert "Could not resolve" in fetch(lab, "guest/visitor", "api").stderr


def test_exec_returns_the_commands_exit_code(lab):
    assert lab.exec("shop/frontend", "sh", "-c", "exit 7").returncode == 7
    assert lab.exec("shop/frontend", "sh", "-c", "kill -9 $$").returncode == 137
    assert lab.exec("shop/frontend", "no-such-command").returncode == 127
    assert lab.exec("shop/frontend", "/etc/hosts").returncode == 126
    assert lab.exec("shop/api", "hostname").stdout.strip() in lab.pods("api")
    unknown = lab.exec("shop/nobody", "true")
    assert (unknown.returncode, "there is no pod or Deployment 'shop/nobody'" in unknown.stderr) == (1, True)
    passed = lab.lab("exec", "guest/visitor", "--", "cat", stdin="through\n")
    assert passed.stdout == "through\n"


def test_exec_is_in_all_namespaces_of_the_pod_and_in_its_cgroup(lab):
    pod = lab.pods("frontend")["frontend"]
    links = ("net", "mnt", "pid", "uts", "ipc", "cgroup")
    inside = lab.exec("shop/frontend", "sh", "-c", " ".join(f"readlink /proc/self/ns/{n};" for n in links))
    assert inside.stdout.split() == [str(Path(f"/proc/{pod['pids'][0]}/ns/{n}").readlink()) for n in links]
    assert lab.exec("shop/frontend", "cat", "/proc/self/cgroup").stdout.splitlines()[-1] == "0::/"
    assert lab.exec("shop/frontend", "sh", "-c", "ps -e | wc -l").stdout.strip().isdigit()


@pytest.mark.parametrize(
    "script",
    [
        'test -z "$(ls /run)"',
        "test ! -e /run/ciliumpy",
        'test -z "$(ls /sys/fs/bpf)"',
        'test -z "$(ls /sys/fs/cgroup)"',
        "! grep -E ' (bpf|cgroup|cgroup2|nsfs|debugfs|tracefs) ' /proc/mounts",
        "! mount -t bpf bpf /run",
        "! mount -t cgroup2 none /run",
        "! umount /run",
        "! unshare -Urm umount /run",
        "! mknod /tmp/cpt-$$ b 8 0",
        "! sh -c 'echo x > /proc/sys/kernel/core_pattern'",
        "! sh -c 'echo x > /etc/cpt'",
        "! ls /proc/1/root/run/ciliumpy",
        "test $(ls -d /proc/[0-9]* | wc -l) -lt 10",
        "! nsenter -t 1 -m true",
        "test ! -e /dev/vda -a ! -e /dev/kmsg -a ! -e /dev/mem",
        "grep -q '^NoNewPrivs:.1' /proc/self/status",
        "grep -q '^CapBnd:.00000000a00425fb' /proc/self/status",
        "grep -q '^CapEff:.00000000a00425fb' /proc/1/status",
        "test -w /tmp -a -w /var/tmp -a -w /run -a -w /dev/shm",
        'test -z "$(ls /tmp /var/tmp | grep -v :)"',
        "! head -c 1 /proc/1/environ",
        'test -z "$(readlink /proc/1/fd/*)"',
        'test "$(hostname)" = frontend',
    ],
)
def test_a_pod_cannot_see_or_reach_what_is_not_its_own(lab, script):
    done = lab.exec("shop/frontend", "sh", "-c", script)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_pod_has_nothing_open_that_is_not_its_own(lab):
    pod = lab.pods("frontend")["frontend"]
    for pid in pod["pids"]:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            goal = str(fd.readlink())
            allowed = ("pipe:", "/dev/null", "anon_inode:", str(lab.path / "pods"))
            assert goal.startswith(allowed), (pid, goal)
            if goal.startswith("/run"):
                assert goal.endswith(("/log", "/state"))
                assert pid == pod["pids"][0]


def test_logs(lab):
    assert sorted(lab.lab("logs", "shop/frontend").stdout.splitlines()) == ["hello", "trouble"]


def test_apply_refuses_all_or_takes_all(lab):
    bad = (
        POLICY.replace('"8080"', '"70000"').replace("name: api", "name: bad")
        + "---\n"
        + APPS.replace("name: visitor", "name: other")
    )
    done = lab.apply(bad, check=False)
    assert done.returncode == 2
    assert "standard input:9: spec.ingress[0].toPorts[0].ports[0].port:" in done.stderr
    assert "other" not in lab.pods()
    assert not (lab.path / "store/ciliumnetworkpolicies").exists()
    for manifest, said in (
        ("kind: Pod\n  x: [", "standard input:2"),
        ("a: 1\na: 2\n", "standard input:2: the key a stands here twice"),
        (POLICY.replace("toPorts", "toPort"), "spec.ingress[0].toPort: unknown field"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", "a lab takes"),
        ("apiVersion: v1\nkind: CiliumIdentity\nmetadata: {name: '1'}\n", "a lab takes"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: ../../x}\n", "metadata.name"),
        ("", "no objects"),
    ):
        done = lab.apply(manifest, check=False)
        assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr


def test_a_policy_cuts_and_the_drop_is_seen(lab):
    try:
        lab.apply(POLICY)
        name, pod = next(iter(lab.pods("api").items()))
        address = pod["addresses"][0]
        assert fetch(lab, "guest/visitor", address).returncode == 28, "apply waits until the policy is in force"
        assert fetch(lab, "shop/frontend", address).stdout == f"{name}\n"
        observe = ("observe", "--lab", lab.name, "--from-pod", "guest/visitor", "--verdict", "DROPPED", "-o", "jsonpb")
        flows = eventually(lambda: lab.run(*observe).stdout, 1.0).splitlines()
        flow = json.loads(flows[-1])["flow"]
        assert flow["drop_reason_desc"] == "POLICY_DENIED"
        assert (flow["source"]["pod_name"], flow["destination"]["pod_name"]) == ("visitor", name)
        assert flow["l4"]["TCP"]["destination_port"] == 8080
    finally:
        lab.lab("delete", "cnp", "shop/api", check=False)
    assert eventually(lambda: fetch(lab, "guest/visitor", address).returncode == 0)


def test_the_agents_log_tells_of_start_readiness_and_refusals(lab):
    log, bad = lab.path / "n1/agent.log", lab.path / "store/bad.yaml"
    assert f": node n1, store {lab.path}/store" in log.read_text()
    assert ": ready: " in log.read_text()
    try:
        bad.write_text(POLICY.replace("8080", "70000").replace("name: api,", "name: bad,"))
        refused = eventually(lambda: [line for line in log.read_text().splitlines() if f"{bad}:" in line])
        assert len(refused) == 1
        assert " WARNING " in refused[0]
        assert "CiliumNetworkPolicy/shop/bad: spec.ingress[0].toPorts[0].ports[0].port: " in refused[0]
    finally:
        bad.unlink()
    assert eventually(lambda: "no more: " in log.read_text())
    assert eventually(lambda: lab.status()["errors"] == [])


def test_a_store_that_cannot_be_read_changes_nothing(lab):
    before = {name: pod["pids"] for name, pod in lab.pods().items()}
    store = lab.path / "store"
    store.rename(lab.path / "elsewhere")
    try:
        assert eventually(lambda: [e for e in lab.status()["errors"] if "store" in e])
        assert fetch(lab, "shop/frontend", "api").returncode == 0
        assert lab.apply(POLICY, check=False).returncode == 1
    finally:
        (lab.path / "elsewhere").rename(store)
    assert eventually(lambda: lab.status()["errors"] == [])
    assert {name: pod["pids"] for name, pod in lab.pods().items()} == before


def test_a_pod_whose_file_became_bad_runs_on(lab):
    file = lab.path / "store/pods/guest/visitor.yaml"
    before, good = lab.pods("visitor")["visitor"]["pids"], file.read_text()
    for bad in ("kind: Pod\n x: [", good.replace("name: c", "name: 7")):
        file.write_text(bad)
        assert eventually(lambda: any("visitor.yaml" in e for e in lab.status()["errors"]))
        assert lab.pods("visitor")["visitor"]["pids"] == before
    file.write_text(good)
    assert eventually(lambda: lab.status()["errors"] == [])


def test_a_deployment_is_scaled_and_deleted(lab):
    one = APPS.split("---\n")[2].replace("name: api", "name: extra").replace("tier: api", "tier: extra")
    assert "Deployment/shop/extra created" in lab.apply(one).stdout
    assert len(lab.pods("extra")) == 2
    before = set(lab.pods("extra"))
    lab.apply(one.replace("replicas: 2", "replicas: 3"))
    assert before < set(lab.pods("extra"))
    lab.apply(one.replace("replicas: 2", "replicas: 1").replace("8080", "8081"))
    after = set(lab.pods("extra"))
    assert len(after) == 1
    assert not after & before
    assert "unchanged" in lab.apply(one.replace("replicas: 2", "replicas: 1").replace("8080", "8081")).stdout
    lab.lab("delete", "deploy", "extra", "-n", "shop")
    assert lab.pods("extra") == {}
    assert "not found" in lab.lab("delete", "deploy", "extra", "-n", "shop", check=False).stdout


def test_a_rollout_that_crashes_leaves_the_old_pods(lab):
    one = APPS.split("---\n")[2].replace("name: api", "name: kept").replace("tier: api", "tier: kept")
    crash = one.replace("ports:", 'command: ["false"], ports:')
    try:
        lab.apply(one)
        before = set(lab.pods("kept"))
        assert lab.apply(crash, check=False).returncode == 1
        assert before < set(lab.pods("kept"))
        lab.apply(one)
        assert set(lab.pods("kept")) == before
    finally:
        lab.lab("delete", "deploy", "kept", "-n", "shop")


def test_a_pod_that_no_node_fits_waits_and_says_so(lab):
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: lonely}\nspec: {nodeName: n9, containers: [{name: c}]}\n"
    try:
        lab.apply(pod, "--no-wait")
        found = eventually(lambda: lab.pods("lonely").get("lonely"))
        assert (found["phase"], found["message"]) == ("Pending", "there is no node 'n9'")
        said = lab.lab("status", check=False)
        assert (said.returncode, said.stderr) == (1, "Error: pod default/lonely: Pending: there is no node 'n9'\n")
        waited = lab.apply(pod, "--timeout", "0.1", check=False)
        assert (waited.returncode, "there is no node 'n9'" in waited.stderr) == (1, True)
    finally:
        lab.lab("delete", "pod", "lonely")


def test_fields_without_effect_are_named_once(lab):
    pod = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: probed}\n"
        "spec: {hostNetwork: true, containers: [{name: c, image: x, livenessProbe: {}}]}\n"
    )
    try:
        done = lab.apply(pod, "--no-wait")
        assert done.stderr == "Pod/default/probed: without effect in a lab: containers[].livenessProbe, hostNetwork\n"
    finally:
        lab.lab("delete", "pod", "probed")


def test_a_killed_pod_is_started_anew(lab):
    before = lab.pods("visitor")["visitor"]
    os.kill(before["pids"][0], signal.SIGKILL)
    after = eventually(
        lambda: (p := lab.pods("visitor").get("visitor")) and p["pids"] and p["pids"] != before["pids"] and p
    )
    eventually(lambda: lab.pods("visitor")["visitor"]["phase"] == "Running")
    assert after["node"] == before["node"]
    assert eventually(lambda: fetch(lab, "guest/visitor", "api.shop").returncode == 0)


def test_pods_outlive_the_controller_and_are_adopted(lab):
    before = {name: pod["pids"] for name, pod in lab.pods().items()}
    pid = int((lab.path / "controller.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: any("controller does not run" in e for e in lab.status()["errors"]))
    assert fetch(lab, "shop/frontend", "api").returncode == 0
    lab.lab("up")
    eventually(lambda: lab.status()["errors"] == [])
    assert {name: pod["pids"] for name, pod in lab.pods().items()} == before
    lab.apply(APPS)


def test_agents_stop_and_start_and_up_starts_what_is_missing(lab):
    lab.lab("stop", "n1")
    found = lab.status()
    assert [n["state"] for n in found["nodes"]] == ["stopped", "ok"]
    assert any("lab start n1" in e for e in found["errors"])
    assert fetch(lab, "shop/frontend", "api").returncode == 0
    lab.lab("up")
    assert [n["state"] for n in lab.status()["nodes"]] == ["ok", "ok"]
    assert lab.lab("stop", "n9", check=False).returncode == 2
    assert lab.lab("stop", "n2", "n1").stderr.count(": stopped\n") == 2
    assert lab.lab("stop").stderr == "agent n1: does not run\nagent n2: does not run\n"
    assert lab.lab("start", "n2", "n1").stderr.count(": ok after ") == 2
    again = lab.lab("start").stderr.splitlines()
    assert [line.partition(" (pid")[0] for line in again] == ["agent n1: runs already", "agent n2: runs already"]


def test_a_lab_is_not_changed_by_two_at_once(lab):
    lock = Path(f"/run/ciliumpy/labs/.{lab.name}.lock")
    with lock.open("w") as file:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("`ciliumpy lab up x` (pid 1)\n")
        file.flush()
        done = lab.lab("up", check=False)
        lock.unlink()
    assert done.returncode == 1
    assert f"lab '{lab.name}' is being changed by `ciliumpy lab up x` (pid 1)" in done.stderr


def test_a_lab_that_is_made_differently_is_refused(lab, tmp_path):
    (tmp_path / "lab.yaml").write_text("nodes: [one]\n")
    done = lab.lab("up", "-f", str(tmp_path / "lab.yaml"), check=False)
    assert (done.returncode, "is made differently" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        ("policy: {enforcment: always}", "lab.yaml:3: agent: there is no setting policy.enforcment"),
        ("policy: {enforcement: sometimes}", "lab.yaml:3: agent: policy.enforcement: Invalid enum value 'sometimes'"),
        ("hubble: {ringBytes: 5000}", "lab.yaml:3: agent: hubble.ringBytes wants a power of two"),
        ("log: 7", "lab.yaml:3: agent: log must be a mapping"),
        ("paths: {run: /tmp}", "lab.yaml:3: agent: paths.run is set by the lab itself"),
    ],
)
def test_a_bad_setting_of_the_agents_is_found_before_anything_is_made(tmp_path, agent, said):
    (tmp_path / "lab.yaml").write_text(f"nodes: [one]\nagent:\n  {agent}\n")
    tool = LabUnderTest(f"cptbad{os.getpid()}")
    done = tool.lab("up", "-f", str(tmp_path / "lab.yaml"), check=False)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert leftovers(tool.name) == []


def test_a_lab_is_named_by_argument_or_flag():
    name = f"cptno{os.getpid()}"
    tool = LabUnderTest(name)
    for said in ((name,), ("--lab", name), (name, "--lab", name)):
        assert tool.run("lab", "down", *said).stderr == f"there is no lab {name!r}: nothing to do\n"
    for verb in ("up", "down"):
        done = tool.run("lab", verb, name, "--lab", "other", check=False)
        assert (done.returncode, f"two labs are named: {name} and --lab other" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("restart", "command", "phase", "message"),
    [
        ("Always", "[nosuchbinary]", "CrashLoopBackOff", "cannot be started: nosuchbinary: No such file or directory"),
        ("Always", "['false']", "CrashLoopBackOff", "container c ends with exit code 1, 3 times in a row"),
        ("Never", "[sh, -c, exit 3]", "Error", "container c ended with exit code 3"),
    ],
)
def test_a_pod_that_does_not_get_well_fails_apply_and_status(lab, restart, command, phase, message):
    pod = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: sick}\n"
        f"spec: {{restartPolicy: {restart}, containers: [{{name: c, command: {command}}}]}}\n"
    )
    try:
        applied = lab.apply(pod, check=False)
        assert applied.returncode == 1
        assert "default/sick: container c" in applied.stderr
        assert message in applied.stderr
        status = lab.lab("status", check=False)
        assert status.returncode == 1
        line = next(text for text in status.stderr.splitlines() if "sick" in text)
        assert line.startswith(f"Error: pod default/sick: {phase}: ")
        assert message.removesuffix(", 3 times in a row") in line
        assert phase in status.stdout
    finally:
        lab.lab("delete", "pod", "sick")
    assert lab.status()["errors"] == []


def test_a_pod_that_has_done_its_work_is_no_error(lab):
    pod = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: done}\n"
        "spec: {restartPolicy: OnFailure, containers: [{name: c, command: ['true']}]}\n"
    )
    try:
        lab.apply(pod)
        assert lab.pods("done")["done"]["phase"] == "Completed"
        assert lab.lab("status").stderr == ""
    finally:
        lab.lab("delete", "pod", "done")
