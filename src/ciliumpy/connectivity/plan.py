# SPDX-License-Identifier: Apache-2.0
"""PURE: what a test is made of. A scenario is a function from the cast to steps; steps are data.

    def pods_of_one_node(cast: Cast) -> Steps:
        yield Check(allowed(cast.client, cast.echo, TCP, UDP, PING) + denied(cast.other, cast.echo, TCP, at=INGRESS))

A test has policies, which are in force during all its scenarios, and says what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from ciliumpy.model.drop_reasons import DROP_REASONS, POLICY_DENIED, POLICY_DENY

INVALID_SOURCE, NO_PROXY = 132, 180
Direction = Literal["ingress", "egress"]
INGRESS: Final = "ingress"
EGRESS: Final = "egress"
TCP, UDP, PING, BULK, BIG_PING, FORGE = "tcp", "udp", "ping", "bulk", "big-ping", "forge"
ICMP_VERBS = (PING, BIG_PING)
# What a cluster may lack, and how it is named when something is left out for it.
IPV4, IPV6, SECOND_NODE, OUTSIDE, OUTSIDE_OTHER = "ipv4", "ipv6", "second-node", "outside", "outside-other"
HOST_FIREWALL, CLUSTER_NETWORK_POLICY = "host-firewall", "cluster-network-policy"
ICMP_POLICY, L7_POLICY, CIDR_OUTSIDE = "icmp-policy", "l7-policy", "cidr-outside-only"

Document = Mapping[str, Any]


class Party(NamedTuple):
    """Who acts or is aimed at. `key` is the actor's name; `node` is empty outside of the cluster."""

    key: str
    kind: Literal["pod", "host", "outside"]
    node: str
    addresses: Mapping[int, str]
    ports: tuple[int, int]  # served, TCP and UDP; policies mean the first
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.key}" if self.namespace else self.key


class Cast(NamedTuple):
    """Who is there. Labels: app=client, other, echo; the visitor is an app=client of another namespace.

    What is `far` is on the second node, all else on the first. The port named `web` is the first of `echo`, the second
    of `echo_far` and `other`. `outside_other` is another address of the outside.
    """

    namespace: str
    elsewhere: str  # the other namespace
    client: Party
    other: Party
    echo: Party
    visitor: Party
    client_far: Party
    echo_far: Party
    host: Party
    host_far: Party
    outside: Party
    outside_other: Party


class Expected(NamedTuple):
    """What an action shall come to. `reason` 0: allowed; `at`: the side whose policy denies.

    `audited`: what that denies passes, and is told of. `wants`: what the flow of the drop says of a rule for a proxy.
    """

    reason: int = 0
    at: Direction = INGRESS
    audited: bool = False
    wants: str = ""

    def __str__(self) -> str:
        if self.audited:
            return f"forwarded, audited at {self.at}"
        return f"dropped, {DROP_REASONS[self.reason][0]} at {self.at}" if self.reason else "forwarded"


class Action(NamedTuple):
    """One thing that one party does. `name` of a connection that is kept open; `pretends`: whose address is forged."""

    verb: str
    family: int
    source: Party
    target: Party
    port: int
    expected: Expected
    name: str = ""
    pretends: Party | None = None

    @property
    def protocol(self) -> str:
        if self.verb in ICMP_VERBS:
            return "icmp"
        return "udp" if UDP in self.verb or self.verb == FORGE else "tcp"

    def title(self, number: int) -> str:
        """Return `tcp-ipv4-0: ns/client (10.244.0.5) -> ns/echo (10.244.0.7:8080)`."""
        target = self.target.addresses[self.family]
        if self.protocol != "icmp":
            target = f"[{target}]:{self.port}" if self.family == 6 else f"{target}:{self.port}"
        source = self.pretends or self.source
        forged = f" as {source}" if self.pretends else ""
        return (
            f"{self.verb}-ipv{self.family}-{number}: {self.source}{forged} ({source.addresses[self.family]}) -> "
            f"{self.target} ({target})"
        )


class Check(NamedTuple):
    """Do all these at once."""

    actions: Sequence[Action]


class Apply(NamedTuple):
    """Put policies in force, and what they name, from now to the end of the scenario."""

    policies: Sequence[Document]


class Remove(NamedTuple):
    """Take policies away again."""

    policies: Sequence[Document]


class Relabel(NamedTuple):
    """Give a running pod another label `app`, from now to the end of the scenario."""

    pod: Party
    app: str


class Audit(NamedTuple):
    """Set a pod's audit mode, from now to the end of the scenario."""

    pod: Party
    on: bool


class Quiet(NamedTuple):
    """See that nothing has been dropped so far, in the whole run, but what was expected."""


Step = Check | Apply | Remove | Relabel | Audit | Quiet
Steps = Iterator[Step]


class Scenario(NamedTuple):
    """`needs` are features beyond the test's own."""

    run: Callable[[Cast], Steps]
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.run.__name__.strip("_").replace("_", "-")


class Test(NamedTuple):
    """`about` is one line. Tests run by `order`, then by name; 0 first. With the policies comes what they name."""

    name: str
    about: str
    scenarios: tuple[Scenario, ...]
    policies: Callable[[Cast], Sequence[Document]] = lambda _: ()
    needs: tuple[str, ...] = ()
    order: int = 50


def allowed(source: Party, target: Party, *verbs: str, port: int = 0) -> list[Action]:
    """Return actions that are to succeed, in both families. `port`: 0 is the first that the target serves."""
    return _actions(source, target, verbs, port, Expected())


def denied(
    source: Party, target: Party, *verbs: str, at: Direction, port: int = 0, reason: int = POLICY_DENIED
) -> list[Action]:
    """Return actions that are to come to nothing, by the policy of the target (ingress) or the source (egress)."""
    return _actions(source, target, verbs, port, Expected(reason, at))


def forbidden(source: Party, target: Party, *verbs: str, at: Direction, port: int = 0) -> list[Action]:
    """As `denied`, by a deny rule."""
    return denied(source, target, *verbs, at=at, port=port, reason=POLICY_DENY)


def audited(source: Party, target: Party, *verbs: str, at: Direction, port: int = 0) -> list[Action]:
    """Return actions that a policy denies, and that pass all the same."""
    return _actions(source, target, verbs, port, Expected(at=at, audited=True))


def for_a_proxy(source: Party, target: Party, *verbs: str, at: Direction, wants: str, port: int = 0) -> list[Action]:
    """Return actions that a rule wants a proxy to look at: dropped, since there is none, with what it `wants`."""
    return _actions(source, target, verbs, port, Expected(NO_PROXY, at, wants=wants))


def forged(source: Party, target: Party, pretends: Party) -> list[Action]:
    """Return datagrams that `source` sends to `target` with another's address; none may arrive."""
    made = _actions(source, target, (FORGE,), 0, Expected(INVALID_SOURCE, EGRESS))
    return [action._replace(pretends=pretends) for action in made]


def opened(source: Party, target: Party, *verbs: str) -> list[Action]:
    """Return connections that are made and kept; `kept` and `cut` go on with them."""
    return [
        action._replace(verb=f"open-{action.verb}", name=f"{target.key}-{action.verb}-{action.family}")
        for action in _actions(source, target, verbs, 0, Expected())
    ]


def kept(connections: Sequence[Action]) -> list[Action]:
    """Return one more exchange on each connection."""
    return [action._replace(verb=action.verb.replace("open-", "use-")) for action in connections]


def cut(connections: Sequence[Action], at: Direction, reason: int = POLICY_DENIED) -> list[Action]:
    """Return one more try on each connection, which is to come to nothing."""
    return [action._replace(expected=Expected(reason, at)) for action in kept(connections)]


def _actions(source: Party, target: Party, verbs: Sequence[str], port: int, expected: Expected) -> list[Action]:
    number = port or target.ports[0]
    return [Action(verb, family, source, target, number, expected) for verb in verbs for family in (4, 6)]
