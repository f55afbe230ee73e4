# SPDX-License-Identifier: Apache-2.0
"""Configuration: precedence, sources, and refusals that say where and what instead."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.state.config import Given, Setting, load

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Network(msgspec.Struct, frozen=True, rename="camel"):
    device: str = "eth0"
    tunnel_port: Port = 8472
    ipv6: bool = True
    pod_cidrs: tuple[str, ...] = msgspec.field(name="podCIDRs", default=("10.0.0.0/8",))
    rate: float | None = None


class Log(msgspec.Struct, frozen=True):
    level: str = "info"

    def __post_init__(self) -> None:
        if self.level not in ("info", "debug"):
            raise ValueError(f"level must be info or debug, not {self.level}")


class Schema(msgspec.Struct, frozen=True):
    network: Network = Network()
    log: Log = Log()


class Node(msgspec.Struct, frozen=True):
    name: str


class Whole(msgspec.Struct, frozen=True):
    node: Node


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agent.yaml"


def test_defaults() -> None:
    config = load(Schema)
    assert config.value == Schema()
    assert {setting.source for setting in config.settings()} == {"default"}
    assert [s.key for s in config.settings()] == sorted(
        ["network.device", "network.tunnelPort", "network.ipv6", "network.podCIDRs", "network.rate", "log.level"]
    )


def test_flag_beats_environment_beats_directory_beats_file(tmp_path: Path, file: Path) -> None:
    file.write_text("network:\n  device: file\n  tunnelPort: 1\n  ipv6: false\n  podCIDRs: [a]\n")
    folder = tmp_path / "conf.d"
    (folder / "..data").mkdir(parents=True)
    (folder / "network.device").write_text("directory\n")
    (folder / "network.tunnelPort").write_text("2")
    (folder / "network.ipv6").write_text("true")
    env = {"CILIUMPY_NETWORK_DEVICE": "env", "CILIUMPY_NETWORK_TUNNEL_PORT": "3", "HOME": "/"}
    config = load(Schema, flags={"network.device": "flag"}, env=env, directory=folder, file=file)
    assert config.value == Schema(Network("flag", 3, True, ("a",)))
    lost = (
        Given("environment CILIUMPY_NETWORK_DEVICE", "env"),
        Given(f"file {folder}/network.device", "directory"),
        Given(f"file {file}:2", "file"),
        Given("default", "eth0"),
    )
    assert config.explain("network.device") == Setting("network.device", "flag", "flag network.device", lost)
    assert config.explain("network.tunnelPort").source == "environment CILIUMPY_NETWORK_TUNNEL_PORT"
    assert config.explain("network.ipv6").source == f"file {folder}/network.ipv6"
    assert config.explain("network.podCIDRs").source == f"file {file}:5"
    assert config.explain("log.level").source == "default"


def test_text_becomes_what_the_key_wants() -> None:
    env = {
        "CILIUMPY_NETWORK_POD_CIDRS": "10.1.0.0/16, fd00::/48",
        "CILIUMPY_NETWORK_IPV6": "false",
        "CILIUMPY_NETWORK_RATE": "1.5",
        "CILIUMPY_LAB": "for the command line",
    }
    assert load(Schema, env=env).value.network == Network(pod_cidrs=("10.1.0.0/16", "fd00::/48"), ipv6=False, rate=1.5)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "network:\n  tunelPort: 1\n",
            "FILE:2: there is no setting network.tunelPort",
            "did you mean network.tunnelPort?",
        ),
        ("tunnelPort: 1\n", "FILE:1: there is no setting tunnelPort", "did you mean network.tunnelPort?"),
        ("network:\n\n  tunnelPort: 70000\n", "FILE:3: network.tunnelPort: Expected `int` <= 65535", None),
        ("network:\n  tunnelPort: '1'\n", "FILE:2: network.tunnelPort: Expected `int`, got `str`", None),
        ("lgo: {level: info}\n", "FILE:1: there is no setting lgo", "did you mean log.level?"),
        ("network: 5\n", "FILE:1: network must be a mapping of keys", None),
        ("network: {device: a, device: b}\n", "FILE:1: the key device stands here twice, first in line 1", None),
        ("log: {level: loud}\n", "log: level must be info or debug, not loud", None),
        ("[]\n", "FILE: must be one mapping of parts", None),
        ("a: [\n", "FILE:2: while parsing a flow node, did not find expected node content", None),
    ],
)
def test_what_does_not_fit_is_refused(file: Path, text: str, message: str, hint: str | None) -> None:
    file.write_text(text)
    with pytest.raises(CiliumpyError) as caught:
        load(Schema, file=file)
    assert caught.value.message.replace(f"file {file}", "FILE").replace(str(file), "FILE") == message
    assert caught.value.hint == hint


def test_the_other_places_refuse_too(tmp_path: Path) -> None:
    with pytest.raises(CiliumpyError, match="environment CILIUMPY_NETWORK_DEVISE") as caught:
        load(Schema, env={"CILIUMPY_NETWORK_DEVISE": "x"})
    assert caught.value.hint == "did you mean CILIUMPY_NETWORK_DEVICE?"
    with pytest.raises(CiliumpyError, match=r"there is no setting log\.levle"):
        load(Schema, flags={"log.levle": "x"})
    with pytest.raises(CiliumpyError, match=r"network\.ipv6"):
        load(Schema, env={"CILIUMPY_NETWORK_IPV6": "perhaps"})
    (tmp_path / "network.devize").write_text("x")
    with pytest.raises(CiliumpyError, match=r"there is no setting network\.devize"):
        load(Schema, directory=tmp_path)
    with pytest.raises(CiliumpyError, match="cannot read the configuration"):
        load(Schema, file=tmp_path / "missing")
    with pytest.raises(CiliumpyError, match="there is no setting nothing"):
        load(Schema).explain("nothing")


def test_an_empty_file_is_all_defaults(file: Path) -> None:
    file.write_text("# nothing\n")
    assert load(Schema, file=file).value == Schema()


def test_a_setting_without_default_is_asked_for(file: Path) -> None:
    with pytest.raises(CiliumpyError, match=r"the setting node\.name is missing"):
        load(Whole)
    assert load(Whole, flags={"node.name": "n1"}).value.node.name == "n1"
