# SPDX-License-Identifier: Apache-2.0
"""The verbs that read pinned maps, on the real object's maps with rows written by hand."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ciliumpy.bpf import build
from ciliumpy.bpf import sys as bpf_sys
from ciliumpy.bpf.maps import Map
from ciliumpy.bpf.names import CONNTRACK_MAPS
from ciliumpy.bpf.programs import load_object
from ciliumpy.cli.__main__ import main
from ciliumpy.cli.bpf.ct_rows import read_clock
from tests.golden.agents import Lab, lab
from tests.golden.kernel_maps import Maps, addr, row

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not (build.OBJECTS / "datapath.o").exists(), reason="the objects are not built"),
]
SMALL = dict.fromkeys(CONNTRACK_MAPS, 64) | {"cp_counter_v3": 64, "cp_ipcidr_v1": 64, "cp_iphost_v1": 64}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    bpffs = Path(f"/sys/fs/bpf/cpt-{os.getpid()}-verbs")
    try:
        (bpffs / "maps").mkdir(parents=True)
        load_object(build.OBJECTS / "datapath.o", max_entries=SMALL, pin_dir=bpffs / "maps").close()
        maps = Maps(bpffs / "maps")
        fill(maps)
        with lab(tmp_path_factory.mktemp("run")) as running:
            running.announce("n1", bpffs=str(bpffs))
            running.announce("n2", bpffs=str(bpffs / "none"))
            yield running
    finally:
        shutil.rmtree(bpffs, ignore_errors=True)


def fill(maps: Maps) -> None:
    pod = {"ifindex": 13, "generation": 2, "identity": 21001, "policy_set": 5, "flags": 1}
    pod |= {
        "mac": b"\x0a\0\0\0\0\x03",
        "host_mac": b"\x0e\0\0\0\0\x03",
        "ip4": addr("10.244.1.3"),
        "ip6": addr("fd00::3"),
    }
    maps.put("cp_endpoint_v1", 3, pod)
    pod |= {"ifindex": 14, "identity": 21002, "policy_set": 7, "flags": 3, "ip4": addr("10.244.1.4"), "ip6": bytes(16)}
    maps.put("cp_endpoint_v1", 4, pod)
    maps.put("cp_iphost_v1", {"b": addr("10.244.1.4")}, {"identity": 21002})
    maps.put("cp_iphost_v1", {"b": addr("192.168.0.2")}, {"identity": 6, "flags": 4})
    behind = {"identity": 21003, "flags": 1, "tunnel": addr("192.168.0.2")}
    maps.put("cp_iphost_v1", {"b": addr("fd00:2::4")}, behind)
    maps.put("cp_ipcidr_v1", {"prefixlen": 96 + 8, "addr": addr("10.0.0.0")}, {"identity": 2})
    maps.put("cp_set_v2", 5, {})
    maps.put("cp_set_v2", 7, {"default_class": [0, 0], "has_exact": [1, 0], "denied_stat": [8, 0]})
    maps.put("cp_rulebase_v2", 6, {"packets": 4, "bytes": 400})
    with Map.open_pinned(maps.folder / "cp_rulestat_v2") as stats:
        summed = np.zeros((2, stats.cpus), stats.value_dtype)
        summed["packets"][:, 0], summed["bytes"][:, -1] = (10, 2), (1000, 120)
        stats.update_batch(np.array([6, 8], "u4"), summed)
    maps.put("cp_port_v1", {"set": 7, "direction": 0, "protocol": 6, "port": 8080}, 1)
    allow = np.zeros(16, maps.dtype("cp_class_v2", "level"))
    allow["verdict"][:3] = (1, 2, 2)
    allow["mask"][0, 0] = 1 << 9  # a selector that the agent does not know
    allow["mask"][1, 0] = 1
    allow["flags"][2] = 1
    allow["stat"][:3] = (5, 6, 0)
    maps.put("cp_class_v2", 1, {"level": allow})
    maps.put("cp_vector_v1", 21001, {"words": [1 | 1 << 9, *[0] * 15]})
    with Map.open_pinned(maps.folder / "cp_metrics_v1") as metrics:
        for index, packets, octets in ((1, 5, 500), (133 * 2, 2, 120)):
            sums = np.zeros((1, metrics.cpus), metrics.value_dtype)
            sums["packets"][0, 0], sums["bytes"][0, -1] = packets, octets
            metrics.update_batch(np.array([index], "u4"), sums)
    now = read_clock().now
    tcp = {
        "addr": [0x0301F40A, 0x0401F40A],
        "port": [0x3930, 0x901F],
        "protocol": 6,
    }  # 10.244.1.3:12345, 10.244.1.4:8080
    half = np.zeros(2, maps.dtype("cp_ct4_v1", "half"))
    half["source_slot"] = (3, 4)
    half["target_slot"] = (4, 3)
    half["target"] = (1, 1)
    flow = {"half": half, "src_identity": 21001, "dst_identity": 21002, "counter": 9, "flow": 77, "seen": [2, 2]}
    flow |= {"expires": now + 500, "reported": [now, now]}
    maps.put("cp_ct4_v1", tcp, flow)
    maps.put("cp_ct4_v1", tcp | {"protocol": 17}, flow | {"expires": (now - 5) & 0xFFFFFFFF})
    with Map.open_pinned(maps.folder / "cp_counter_v3") as counters:
        packets = np.zeros((1, counters.cpus), counters.value_dtype)
        packets["flow"] = 77
        packets["stat"] = (6, 0)
        packets["packets"][0, 0] = (3, 2)
        packets["bytes"][0, 0] = (300, 200)
        counters.update_batch(np.array([9], "u4"), packets)


@pytest.fixture
def say(filled: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("CILIUMPY_RUN_DIR", str(filled.run_dir))

    def run(*arguments: str, code: int = 0) -> str:
        assert main(["bpf", *arguments, "--node", "n1"]) == code
        return capsys.readouterr().out

    return run


def test_endpoint_list(say) -> None:
    assert say("endpoint", "list").splitlines() == [
        "IP ADDRESS   LOCAL ENDPOINT INFO",
        "10.244.1.3   id=3 sec_id=21001 set=5 flags=0x0001 ifindex=13",
        "fd00::3      mac=0a:00:00:00:00:03 nodemac=0e:00:00:00:00:03",
        "10.244.1.4   id=4 sec_id=21002 set=7 flags=0x0003 ifindex=14",
        "             mac=0a:00:00:00:00:03 nodemac=0e:00:00:00:00:03",
    ]


def test_ipcache_list(say) -> None:
    assert say("ipcache", "list").splitlines() == [
        "IP PREFIX/ADDRESS   IDENTITY",
        "10.0.0.0/8          identity=2 encryptkey=0 tunnelendpoint=0.0.0.0 flags=<none>",
        "10.244.1.4/32       identity=21002 encryptkey=0 tunnelendpoint=0.0.0.0 flags=<none>",
        "192.168.0.2/32      identity=6 encryptkey=0 tunnelendpoint=0.0.0.0 flags=node",
        "fd00:2::4/128       identity=21003 encryptkey=0 tunnelendpoint=192.168.0.2 flags=hastunnel",
    ]


def test_policy_list(say) -> None:
    assert (
        say("policy", "list")
        == """\
ENDPOINT   POLICY   DIRECTION   LABELS (source:key[=value])            PORT/PROTO   PACKETS   BYTES   FROM
3          Allow    Egress      ANY (not enforced)                     ANY                -       -   -
3          Allow    Ingress     ANY (not enforced)                     ANY                -       -   -
4          Allow    Egress      ANY (not enforced)                     ANY                -       -   -
4          Deny     Ingress     selector 9                             8080/TCP           0       0   cnp shop/api
4          Allow    Ingress     k8s:io.kubernetes.pod.namespace=shop   8080/TCP           9     900   -
                                  & k8s:tier=frontend
4          Allow    Ingress     ANY                                    8080/TCP           -       -   -
4          Deny     Ingress     ANY (default deny)                     ANY                2     120   -
"""
    )
    items = json.loads(say("policy", "list", "4", "-o", "json"))["items"]
    assert {tuple(item["endpoints"]) for item in items} == {(4,)}
    keys = {"node", "set", "direction", "endpoints", "verdict", "decidedBy", "peers", "port", "proxyPort"}
    assert {frozenset(item) for item in items} == {
        frozenset(keys | {"class", "level", "packets", "bytes", "stat", "rules"})
    }
    told = [(item["peers"][0], item["decidedBy"], item["packets"], item["bytes"], item["rules"]) for item in items]
    assert told == [
        ("ANY (not enforced)", "not-enforced", None, None, []),
        ("selector 9", "rule", 0, 0, ["CiliumNetworkPolicy/shop/api#spec.ingress[0]"]),
        ("k8s:io.kubernetes.pod.namespace=shop,k8s:tier=frontend", "rule", 9, 900, []),
        ("ANY", "rule", None, None, []),
        ("ANY (default deny)", "default", 2, 120, []),
    ]
    assert say("policy", "list", "4", "-o", "name").splitlines() == [
        "bpfpolicy/7/egress/not-enforced",
        "bpfpolicy/7/ingress/8080/TCP/0",
        "bpfpolicy/7/ingress/8080/TCP/1",
        "bpfpolicy/7/ingress/8080/TCP/2",
        "bpfpolicy/7/ingress/default",
    ]


def test_policy_list_wide_has_the_rule_and_where_it_stands(say) -> None:
    head, *rows = say("policy", "list", "4", "-o", "wide").splitlines()
    assert re.split("   +", head) == [
        "ENDPOINT",
        "POLICY",
        "DIRECTION",
        "LABELS (source:key[=value])",
        "PORT/PROTO",
        "PROXY PORT",
        "PACKETS",
        "BYTES",
        "FROM",
        "SET",
        "CLASS",
        "LEVEL",
    ]
    assert rows[1].split()[-7:] == ["NONE", "0", "0", "CiliumNetworkPolicy/shop/api#spec.ingress[0]", "7", "1", "0"]


def test_a_class_that_decides_of_everybody_leaves_nothing_to_the_default(filled: Lab, say) -> None:
    folder = Path(json.loads((filled.folder("n1") / "agent.json").read_text())["bpffs"]) / "maps"
    maps = Maps(folder)
    deny, proxied = (np.zeros(16, maps.dtype("cp_class_v2", "level")) for _ in range(2))
    deny["verdict"][0], deny["flags"][0] = 1, 1
    proxied["verdict"][0], proxied["flags"][0], proxied["proxy_port"][0] = 3, 1, 15000
    try:
        maps.put("cp_set_v2", 12, {"default_class": [2, 0], "has_exact": [1, 0], "denied_stat": [8, 0]})
        maps.put("cp_port_v1", {"set": 12, "direction": 0, "protocol": 6, "port": 80}, 3)
        maps.put("cp_class_v2", 2, {"level": deny})
        maps.put("cp_class_v2", 3, {"level": proxied})
        assert (
            say("policy", "list", "set:12")
            == """\
ENDPOINT   POLICY     DIRECTION   LABELS (source:key[=value])   PORT/PROTO   PROXY PORT   PACKETS   BYTES   FROM
-          Deny       Egress      ANY (default deny)            ANY          NONE               -       -   -
-          Redirect   Ingress     ANY                           80/TCP       15000              -       -   -
-          Deny       Ingress     ANY                           ANY          NONE               -       -   -
"""
        )
    finally:
        with Map.open_pinned(folder / "cp_set_v2") as sets:
            sets.delete((12).to_bytes(4, "little"))
        with Map.open_pinned(folder / "cp_class_v2") as classes:
            for number in (2, 3):
                classes.delete(number.to_bytes(4, "little"))
        with Map.open_pinned(folder / "cp_port_v1") as ports:
            key = row(ports.key_dtype, {"set": 12, "direction": 0, "protocol": 6, "port": 80})
            ports.delete(key.tobytes())


@pytest.mark.usefixtures("say")
def test_policy_list_of_a_set_or_a_pod(filled: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> list[int]:
        assert main(["bpf", "policy", "list", *arguments, "-o", "json"]) == 0
        return sorted({number for item in json.loads(capsys.readouterr().out)["items"] for number in item["endpoints"]})

    assert said("set:7", "--node", "n1") == said("n1:set:7") == [4]
    assert said("set:5", "--node", "n1") == [3]
    assert said("shop/api-1") == said("n1:shop/api-1") == said("shop/api-1", "--node", "n1") == [4]
    for wrong, code, error in (
        ("set:99", 1, "the datapath has no policy set 99"),
        ("n2:set:7", 2, "'n2:set:7' is not on node 'n1'"),
        ("set:", 2, "'set:' is no endpoint"),
        ("shop/nobody", 1, "there is no endpoint 'shop/nobody'"),
        ("host", 1, "there is no endpoint 'host'"),
    ):
        assert main(["bpf", "policy", "list", wrong, "--node", "n1"]) == code
        assert capsys.readouterr().err.startswith(f"Error: {error}"), wrong


def test_policy_list_of_an_endpoint_as_others_name_it(filled: Lab, say, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bpf", "policy", "list", "n1:4"]) == 0
    assert capsys.readouterr().out == say("policy", "list", "4")
    for wrong in ("n2:4", "four", "n1:"):
        assert main(["bpf", "policy", "list", wrong, "--node", "n1"]) == 2
        assert capsys.readouterr().err.startswith(f"Error: {wrong!r} is no")


@pytest.mark.usefixtures("say")
def test_no_policy_is_told_of_an_endpoint_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("get", "list"):
        assert main(["bpf", "policy", verb, "77", "--node", "n1"]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith(
            "Error: the datapath has no policy of endpoint 77\nhint: `ciliumpy bpf endpoint list`"
        )


def test_ct_list(say) -> None:
    now = read_clock().now
    (line,) = say("ct", "list", "-d").splitlines()
    assert line.startswith("TCP OUT 10.244.1.3:12345 -> 10.244.1.4:8080 expires=")
    assert "sec(s)) Packets=5 Bytes=500 RxFlagsSeen=0x02 LastRxReport=" in line
    assert "Flags=0x0010 [ SeenNonSyn ] RevNAT=0 SourceSecurityID=21001 BackendID=0 DestSecurityID=21002" in line
    (item,) = json.loads(say("ct", "list", "-o", "json"))["items"]
    assert 480 <= item["expires"] - now <= 500
    assert item["packets"] == [3, 2]
    assert item["destination"] == {"ip": "10.244.1.4", "port": 8080}


def test_map_list_and_dump(say) -> None:
    shown = {line.split()[0]: line.split() for line in say("map", "list").splitlines()}
    assert shown["cp_ct4_v1"][1:4] == ["lru_hash", "2", "64"]
    assert shown["cp_iphost_v1"][2] == "3"
    wide = {line.split()[0]: line.split() for line in say("map", "list", "-o", "wide").splitlines()}
    assert wide["cp_ct4_v1"][1:6] == ["lru_hash", "16", wide["cp_ct4_v1"][3], "2", "64"]
    dumped = say("map", "dump", "cp_iphost_v1")
    assert "10.244.1.4    identity=21002\n" in dumped
    assert len(say("map", "dump", "cp_endpoint_v1").splitlines()) == 3
    items = json.loads(say("map", "dump", "cp_endpoint_v1", "-o", "json"))["items"]
    assert len(items) == 4096
    assert items[3]["value"]["identity"] == 21001
    counter = say("map", "dump", "cp_counter_v3").splitlines()
    assert "cpu0: packets=[3 2] flow=77 stat=[6 0] bytes=[300 200]" in counter[1]


def test_dump_of_flows(say) -> None:
    _, *lines = say("map", "dump", "cp_ct4_v1").splitlines()
    key, value = lines[1].split("   ", 1)
    assert key == "addr=[10.244.1.3 10.244.1.4] port=[12345 8080] protocol=6 kind=0 zone=0"
    assert value.strip().startswith(
        "half=[{target=1 source_slot=3 target_slot=4} {target=1 source_slot=4 target_slot=3}] "
        "src_identity=21001 dst_identity=21002 counter=9 "
        "flow=77 expires="
    )
    assert value.endswith(" seen=0202")
    rows = json.loads(say("map", "dump", "cp_ct4_v1", "-o", "json"))["items"]
    assert rows[1]["key"]["addr"] == ["10.244.1.3", "10.244.1.4"]
    assert rows[1]["key"]["port"] == [12345, 8080]
    assert {"from_pod", "from_tunnel", "to_route"} < rows[1]["value"]["half"][1].keys()
    assert {"half", "only", "rewrite", "proxy_port"} < rows[1]["value"].keys()
    assert len(say("map", "dump", "cp_set_v2").splitlines()) == 3


def test_get_verbs(say, capsys: pytest.CaptureFixture[str]) -> None:
    assert say("endpoint", "get", "4").splitlines()[1].split()[:3] == ["10.244.1.4", "id=4", "sec_id=21002"]
    assert say("endpoint", "get", "fd00::3", "-o", "name") == "bpfendpoint/3\n"
    assert say("policy", "get", "4") == say("policy", "list", "4")
    assert say("ipcache", "get", "10.1.2.3").splitlines()[1].startswith("10.0.0.0/8 ")
    (entry,) = json.loads(say("ipcache", "get", "10.244.1.4", "-o", "json"))["items"]
    assert (entry["prefix"], entry["covered"]) == ("10.244.1.4/32", ["10.0.0.0/8"])
    assert say("ipcache", "match", "21003", "-o", "name") == "ipcache/fd00:2::4/128\n"
    assert say("identity", "list").splitlines() == [
        "IDENTITY   MEETS SELECTORS",
        "21001      k8s:io.kubernetes.pod.namespace=shop",
        "             & k8s:tier=frontend",
        "           selector 9",
    ]
    assert say("identity", "get", "21001", "-o", "wide").splitlines()[1].endswith("   0,9")
    assert say("metrics", "list").splitlines() == [
        "REASON          DIRECTION   PACKETS   BYTES",
        "Forwarded       EGRESS            5     500",
        "Policy denied   INGRESS           2     120",
    ]
    assert say("metrics", "get", "policy-denied", "-o", "name") == "bpfmetrics/133/ingress\n"
    assert json.loads(say("metrics", "get", "forwarded", "-o", "json"))["items"][0]["reason"] == ""
    for arguments, code, error in (
        (("endpoint", "get", "77"), 1, "the datapath has no endpoint 77"),
        (("endpoint", "get", "seven"), 2, "'seven' is no endpoint"),
        (("ipcache", "get", "8.8.8.8"), 1, "the datapath has no entry that covers 8.8.8.8: it is the world"),
        (("identity", "get", "77"), 1, "the datapath has no vector of identity 77"),
        (("metrics", "get", "POLICY_DENYED"), 2, "there is no drop reason 'POLICY_DENYED'"),
        (("map", "get", "cp_set"), 2, "there is no map 'cp_set'"),
        (("map", "get", "cp_set_v2", "99"), 1, "cp_set_v2 has no row '99'"),
        (("ct", "get", "10.9.9.9"), 1, "there is no flow of 10.9.9.9"),
        (("ct", "get", "10.9.9.9:x"), 2, "'10.9.9.9:x' is no address with a port"),
    ):
        assert main(["bpf", *arguments, "--node", "n1"]) == code
        assert capsys.readouterr().err.startswith(f"Error: {error}"), arguments


def test_map_get(say) -> None:
    (row,) = json.loads(say("map", "get", "cp_set_v2", "7", "-o", "json"))["items"]
    assert (row["key"], row["value"]["has_exact"]) == (7, [1, 0])
    (facts,) = json.loads(say("map", "get", "cp_local_v1", "-o", "json"))["items"]
    assert facts["valueFields"] == ["slot: __u32", "generation: __u32"]
    assert (facts["type"], facts["keySize"], facts["entries"]) == ("hash", 16, 0)
    text = say("map", "get", "cp_set_v2")
    assert "default_class: __u32[2]" in text
    assert "2/16384" in text


def test_a_stranger_s_map(say, tmp_path: Path) -> None:
    """Of another object, not pinned: by its id alone."""
    with load_object(build.OBJECTS / "datapath.o", max_entries=SMALL) as other:
        stranger = other.maps["cp_local_v1"]
        stranger.update(addr("10.0.0.9"), np.array([(3, 7)], stranger.value_dtype)[0])
        assert say("map", "dump", str(stranger.id)).splitlines()[1] == "10.0.0.9   slot=3 generation=7"
        (facts,) = json.loads(say("map", "get", str(stranger.id), "-o", "json"))["items"]
        assert facts["keyFields"] == ["b: __u8[16]"]
    fd = bpf_sys.map_create(bpf_sys.MapType.HASH, 4, 8, 4, name="cp_no_btf")
    with Map.from_fd(fd) as plain:
        plain.update(bytes([1, 2, 3, 4]), bytes(range(8)))
        assert say("map", "dump", str(plain.id)).splitlines()[1] == "01020304   0001020304050607"


def test_ct_list_tells_what_nobody_has_answered(filled: Lab, say) -> None:
    folder = Path(json.loads((filled.folder("n1") / "agent.json").read_text())["bpffs"]) / "maps"
    with Map.open_pinned(folder / "cp_ct4_v1") as main_map, Map.open_pinned(folder / "cp_ctu4_v1") as unanswered:
        key, row = next((k, r) for k, r in zip(*main_map.items(), strict=True) if k["protocol"] == 6)
        other = key.copy()
        other["port"] = (0x3930, 0x921F)  # to 8082
        try:
            for one in (key, other):  # the first has just moved
                unanswered.update(one.tobytes(), row.tobytes())
            lines = say("ct", "list").splitlines()
            assert [(line.split()[4].split(":")[1], line.split()[-1]) for line in lines] == [
                ("8080", "To=local"),
                ("8082", "Unanswered"),
            ]
            items = json.loads(say("ct", "list", "-o", "json"))["items"]
            assert [(item["map"], item["answered"]) for item in items] == [("cp_ct4_v1", True), ("cp_ctu4_v1", False)]
        finally:
            for one in (key, other):
                unanswered.delete(one.tobytes())


def test_ct_filters_and_get(say) -> None:
    for arguments in (
        ["--ip", "10.244.1.3"],
        ["--ip", "10.244.1.0/29", "--ip", "fd00::/8"],
        ["--endpoint", "n1:3"],
        ["--endpoint", "4", "--port", "8080", "--protocol", "TCP"],
        ["global", "--port", "12345"],
    ):
        assert len(say("ct", "list", *arguments).splitlines()) == 1, arguments
    for arguments in (["--ip", "10.9.9.9"], ["--endpoint", "5"], ["--protocol", "udp"], ["--port", "1"]):
        assert say("ct", "list", *arguments) == "", arguments
    for ends in (["10.244.1.3"], ["10.244.1.4:8080"], ["10.244.1.4:8080", "10.244.1.3:12345"]):
        (item,) = json.loads(say("ct", "get", *ends, "-o", "json"))["items"]
        assert item["destination"]["port"] == 8080
        assert item["map"] == "cp_ct4_v1"
    text = say("ct", "get", "10.244.1.3").splitlines()
    assert text[:7] == [
        "Flow:         TCP OUT 10.244.1.3:12345 -> 10.244.1.4:8080 on n1",
        "Identities:   21001 -> 21002",
        "Endpoints:    3 -> 4",
        "Goes to:      local",
        "Packets:      3 there, 2 back",
        "Bytes:        300 there, 200 back",
        "Flags:        SeenNonSyn",
    ]
    assert text[8].startswith("Lives:  ")


def test_frag_list(filled: Lab, say) -> None:
    folder = Path(json.loads((filled.folder("n1") / "agent.json").read_text())["bpffs"]) / "maps"
    now = read_clock().now
    key = {"saddr": bytes([10, 244, 1, 3]), "daddr": bytes([10, 244, 1, 4]), "id": b"\x12\x34", "protocol": 17}
    first = {"sport": 4000, "dport": 53, "end": 1448, "protocol": 17, "expires": now + 40}
    assert say("frag", "list") == ""
    Maps(folder).put("cp_frag4_v1", key, first)
    Maps(folder).put("cp_frag4_v1", key | {"id": b"\x12\x35"}, first | {"expires": (now - 40) & 0xFFFFFFFF})
    head, row = say("frag", "list").splitlines()
    assert head.split() == ["DATAGRAM", "FLOW", "FIRST", "LEFT"]
    assert row.startswith("    4660   UDP 10.244.1.3:4000 -> 10.244.1.4:53    1448")
    (item,) = json.loads(say("frag", "list", "-o", "json"))["items"]
    assert item["firstBytes"] == 1448


def test_ct_flush(filled: Lab, say, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(json.loads((filled.folder("n1") / "agent.json").read_text())["bpffs"]) / "maps"
    maps = Maps(folder)
    try:
        assert main(["bpf", "ct", "flush", "--node", "n1"]) == 2
        assert "Forget 2 conntrack rows of n1? There is no terminal to ask on" in capsys.readouterr().err
        assert "Flushed 0 entries from" in say("ct", "flush", "--yes", "--ip", "10.9.9.9")
        assert len(say("ct", "list").splitlines()) == 1
        for answer, gone in (("n\n", False), ("y\n", True)):
            monkeypatch.setattr("sys.stdin", Terminal(answer))
            assert main(["bpf", "ct", "flush", "--endpoint", "n1:4", "--protocol", "tcp"]) == (0 if gone else 1)
            said = capsys.readouterr()
            assert said.err.startswith("Forget 1 conntrack rows of n1? [y/N] ")
            assert ("Flushed 1 entries from" in said.out) == gone
            assert (say("ct", "list") == "") == gone
        flushed = json.loads(say("ct", "flush", "global", "-y", "-o", "json"))["items"]
        assert sum(item["flushed"] for item in flushed) == 1, "the expired row"
        assert [item["map"] for item in flushed] == list(CONNTRACK_MAPS)
    finally:
        fill(maps)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_is_not_there(say, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bpf", "map", "dump", "cp_iphost", "--node", "n1"]) == 2
    assert "did you mean cp_iphost_v1?" in capsys.readouterr().err
    assert main(["bpf", "map", "list"]) == 1
    said = capsys.readouterr()
    assert "n1     cp_ct4_v1" in said.out
    assert "Error: node n2: no maps are pinned in" in said.err
    assert main(["bpf", "ct", "list", "local", "--node", "n1"]) == 2


def test_what_no_node_has_is_said_once(filled: Lab, say, capsys: pytest.CaptureFixture[str]) -> None:
    said = json.loads((filled.folder("n1") / "agent.json").read_text())
    kept = (filled.folder("n2") / "agent.json").read_text()
    filled.announce("n2", bpffs=said["bpffs"])
    try:
        assert main(["bpf", "map", "dump", "cp_iphost"]) == 2
        wanted = "Error: there is no map 'cp_iphost'\nhint: did you mean cp_iphost_v1?\n"
        assert capsys.readouterr().err == wanted
        assert main(["bpf", "ct", "list"]) == 0
        assert [line[:7] for line in capsys.readouterr().out.splitlines()] == ["n1 TCP ", "n2 TCP "]
    finally:
        (filled.folder("n2") / "agent.json").write_text(kept)


def test_names_of_selectors_need_the_agent(filled: Lab, say) -> None:
    announced = filled.folder("n1") / "agent.json"
    kept = announced.read_text()
    announced.write_text(kept.replace("agent.sock", "other.sock"))
    try:
        assert "selector 0 " in say("policy", "list")
    finally:
        announced.write_text(kept)
