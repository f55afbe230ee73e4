# SPDX-License-Identifier: Apache-2.0
"""Defaults, what depends on lab or host, and what is refused by name."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ciliumpy.daemon.config import load
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.options import PolicyOptions


def write(folder: Path, text: str) -> Path:
    path = folder / "agent.yaml"
    path.write_text(text)
    return path


def test_defaults_are_those_of_a_host() -> None:
    config = load(None, {}).value
    assert config.name
    assert (config.pool(4), config.pool(6)) == (("10.244.0.0/16", 24), ("fd00:10:244::/48", 64))
    assert config.map_sizes()["cp_ct4_v1"] == 524288
    assert config.map_sizes()["cp_ctu4_v1"] == 65536
    assert config.map_sizes()["cp_iphost_v1"] == 512000
    assert str(config.bpffs) == "/sys/fs/bpf/ciliumpy"


def test_a_lab_is_smaller(tmp_path: Path) -> None:
    config = load(write(tmp_path, "node: {name: n1, lab: demo}\nmaps: {policyPorts: 100}\n"), {}).value
    sizes = config.map_sizes()
    assert (sizes["cp_ct6_v1"], sizes["cp_ipcidr_v1"], sizes["cp_port_v1"]) == (65536, 65536, 100)


def test_what_is_set_wins_over_lab_and_host(tmp_path: Path) -> None:
    config = load(write(tmp_path, "conntrack: {entries: 1000}\n"), {"CILIUMPY_NODE_NAME": "x"}).value
    assert config.map_sizes()["cp_ct4_v1"] == 1000
    assert config.map_sizes()["cp_ctu6_v1"] == 1024, "room for a second's beginnings at the least"
    assert config.name == "x"
    config = load(write(tmp_path, "conntrack: {unanswered: 64}\n"), {}).value
    assert config.map_sizes()["cp_ctu6_v1"] == 64


def test_one_family(tmp_path: Path) -> None:
    text = "network: {ipv6: false}\nipam: {clusterPodCIDRs: [10.0.0.0/8]}\n"
    config = load(write(tmp_path, text), {}).value
    assert (config.pool(4), config.pool(6)) == (("10.0.0.0/8", 24), None)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("netwrk: {device: x}\n", "there is no setting netwrk"),
        ("network: {tunnel: geneve}\n", "network.tunnel"),
        ("network: {tunnelPort: 0}\n", "network.tunnelPort"),
        ("network: {ipv4: false, ipv6: false}\n", "both off"),
        ("ipam: {clusterPodCIDRs: [10.0.0.0/33]}\n", "ipam.clusterPodCIDRs"),
        ("identity: {labels: ['k8s:!']}\n", "identity.labels: 'k8s:!' names no label"),
        ("identity: {fixed: {'256': kv-store}}\n", "identity.fixed: '256' is no number from 128 to 255"),
        ("identity: {fixed: {'128': host}}\n", "identity.fixed: 128 cannot be called 'host'"),
        ("identity: {fixed: {'128': a, '129': a}}\n", "two numbers have one name"),
        ("ipam: {clusterPodCIDRs: [10.0.0.1/8, 'fd00::/48']}\n", "has host bits set"),
        ("ipam: {nodeMaskSizes: [24]}\n", "two numbers"),
        ("hubble: {ringBytes: 100000}\n", "power of two"),
        ("maps: {policyClasses: 3}\n", "maps.policyClasses"),
        ("log: {level: loud}\n", "log.level"),
        ("- 1\n", "must be one mapping"),
    ],
)
def test_refused(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(CiliumpyError) as caught:
        load(write(tmp_path, text), {})
    assert error in caught.value.message


def test_the_guide_tells_of_every_setting_with_its_default() -> None:
    guide = (Path(__file__).parents[3] / "docs/guide/lab.md").read_text()
    told: dict[str, str] = {}
    for line in guide.splitlines():
        cells = [re.findall("`([^`]+)`", cell) for cell in line.split("|")[1:3]]
        if len(cells) != 2 or not cells[0] or cells[0][0].startswith("paths."):
            continue
        if all(re.fullmatch(r"[a-z]+\.[a-zA-Z0-9]+", name) for name in cells[0]):
            names, defaults = cells
            told |= dict(zip(names, defaults * len(names) if len(defaults) == 1 else defaults, strict=True))
    by_lab = {
        "node.name",
        "node.lab",
        "node.labels",
        "store.path",
        "network.device",
        "network.underlay",
        "ipam.clusterPodCIDRs",
    }
    wanted = {
        setting.key: yaml_text(setting.value)
        for setting in load(None, {}).settings()
        if setting.key not in by_lab and not setting.key.startswith("paths.")
    }
    assert told == wanted
    assert all(f"`{key}`" in guide for key in by_lab)


def yaml_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def test_the_policy_language_gets_the_settings(tmp_path: Path) -> None:
    text = "policy: {nodeSelectorLabels: true, icmpRules: false, l7Proxy: false, hostFirewall: true}\n"
    options = load(write(tmp_path, text + "node: {cluster: blue}\nnetwork: {ipv6: false}\n"), {}).value.policy_options
    wanted = PolicyOptions(
        cluster="blue", ipv6=False, node_selector_labels=True, icmp_rules=False, l7_proxy=False, host_firewall=True
    )
    assert options == wanted


@pytest.mark.parametrize("mode", [(), ("nodes",), ("pods",), ("nodes", "pods")])
def test_whom_cidrs_match_besides_the_world(tmp_path: Path, mode: tuple[str, ...]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"policy: {{cidrMatchMode: [{', '.join(mode)}]}}\n")
    assert load(file, {}).value.policy_options.cidr_match_mode == mode
