# SPDX-License-Identifier: Apache-2.0
"""What runs, what is said of it, and what counts as right: without a cluster."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from ciliumpy.connectivity import catalog, judge, junit, report, select
from ciliumpy.connectivity.actor import Actor, Wrong
from ciliumpy.connectivity.evidence import Table, pick
from ciliumpy.connectivity.plan import (
    CLUSTER_NETWORK_POLICY,
    EGRESS,
    HOST_FIREWALL,
    INGRESS,
    L7_POLICY,
    NO_PROXY,
    OUTSIDE,
    OUTSIDE_OTHER,
    PING,
    SECOND_NODE,
    TCP,
    Audit,
    Cast,
    Check,
    Party,
    Relabel,
    Scenario,
    allowed,
    audited,
    denied,
    for_a_proxy,
)
from ciliumpy.connectivity.policies import around, around_but, single
from ciliumpy.connectivity.progress import Progress
from ciliumpy.connectivity.result import Failure, Outcome, Result
from ciliumpy.connectivity.run import _Changing, _Test
from ciliumpy.connectivity.seen import Conversation, Seen, Telescope
from ciliumpy.connectivity.stage import lacking
from ciliumpy.flows.columns import POLICY_VERDICT
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.options import PolicyOptions
from ciliumpy.model.verdicts import Enforcement
from ciliumpy.proto.observer_pb2 import GetFlowsResponse
from ciliumpy.store.decode import decode
from ciliumpy.store.kinds import POLICY_KINDS, key_of


def party(key: str, node: str, number: int, kind: str = "pod") -> Party:
    return Party(key, kind, node, {4: f"10.0.0.{number}", 6: f"fd00::{number}"}, (8080, 8081), "ns")


CAST = Cast(
    "ns",
    "ns-b",
    party("client", "n1", 1),
    party("other", "n1", 2),
    party("echo", "n1", 3),
    party("visitor", "n1", 4),
    party("client-far", "n2", 5),
    party("echo-far", "n2", 6),
    party("host", "n1", 7, "host"),
    party("host-far", "n2", 8, "host"),
    party("outside", "", 9, "outside"),
    party("outside-other", "", 10, "outside"),
)


def test_every_test_can_be_played_and_its_policies_are_taken() -> None:
    tests = catalog.tests()
    assert tests[0].name == "no-policies"
    assert tests[-1].name == "no-unexpected-packet-drops"
    assert len({test.name for test in tests}) == len(tests)
    for test in tests:
        assert len({scenario.name for scenario in test.scenarios}) == len(test.scenarios)
        documents = list(test.policies(CAST))
        for scenario in test.scenarios:
            needs = {*test.needs, *scenario.needs}
            for step in scenario.run(CAST):
                documents += getattr(step, "policies", ())
                for action in step.actions if isinstance(step, Check) else ():
                    ends = (action.source, action.target)
                    assert (SECOND_NODE in needs) or all(end.node != "n2" for end in ends), (test.name, scenario.name)
                    assert (OUTSIDE in needs) or all(end.kind != "outside" for end in ends), (test.name, scenario.name)
                    assert (OUTSIDE_OTHER in needs) or CAST.outside_other not in ends, (test.name, scenario.name)
        options = PolicyOptions(
            host_firewall=HOST_FIREWALL in test.needs,
            cluster_network_policy=CLUSTER_NETWORK_POLICY in test.needs,
            l7_proxy=L7_POLICY in test.needs,
        )
        for document in documents:
            decoded = decode(key_of(document), dict(document), origin="", options=options)
            assert decoded is not None
            if document["kind"] in POLICY_KINDS:
                assert decoded.row.rules
            assert not [text for _, text in decoded.notices if "proxy" not in text], test.name
            assert bool(decoded.notices) == (L7_POLICY in test.needs), test.name


def names(*texts: str, missing: tuple[str, ...] = ()) -> dict[str, list[str]]:
    chosen = select.choose(catalog.tests(), select.Selection(texts), missing)
    return {one.test.name: [scenario.name for scenario in one.scenarios] for one in chosen if not one.skip}


def test_selection() -> None:
    assert len(names()) == len(catalog.tests())
    assert list(names("^echo-ingress$")) == ["echo-ingress"]
    assert list(names("^echo-ingress$,^client-egress$")) == list(names("^echo-ingress$", "^client-egress$"))
    assert names("/pod-to-outside") == {"no-policies": ["pod-to-outside"], "big-packets": ["pod-to-outside"]}
    assert names("^no-policies$/outside$", "!/^outside") == {"no-policies": ["pod-to-outside"]}
    assert "echo-ingress" not in names("!^echo")
    assert names("!") == {}
    with pytest.raises(CiliumpyError, match="is no regular expression"):
        select.Selection(("(",))


def test_what_a_cluster_lacks_is_named() -> None:
    chosen = {c.test.name: c for c in select.choose(catalog.tests(), select.Selection(()), (SECOND_NODE,))}
    assert chosen["remote-node-entity-egress"].skip == "Feature second-node is disabled"
    left_out = {scenario.name: why for scenario, why in chosen["no-policies"].left_out}
    assert left_out["pod-to-pod-across"] == "Feature second-node is disabled"
    assert "pod-to-pod" not in left_out


SENT = {"ok": True, "how": "", "error": "", "source": "10.0.0.1", "port": 4000}
LOST = {**SENT, "ok": False, "how": "timeout", "error": "timed out"}
THERE = Conversation("10.0.0.1", "10.0.0.3", "tcp", 4000, 8080)


def flow(*, reason: int = 0, at: str = "ingress", node: str = "n1", of: Conversation = THERE) -> Seen:
    return Seen(0, 0, node, of, forwarded=not reason, dropped=bool(reason), reason=reason, at=at, reply=False)


def test_an_allowed_action_needs_its_answer_and_its_flows() -> None:
    (action, _) = allowed(CAST.client, CAST.echo, TCP)
    assert judge.faults(action, SENT, [flow()]) == []
    assert judge.faults(action, SENT, []) == ["no forwarded flow on node n1"]
    assert judge.faults(action, SENT, [flow(of=THERE.back)]) == ["no forwarded flow on node n1"]
    assert judge.faults(action, LOST, [flow()]) == ["failed (timeout): timed out"]
    assert "POLICY_DENIED" in judge.faults(action, SENT, [flow(), flow(reason=133, of=THERE.back)])[0]
    (across, _) = allowed(CAST.client, CAST.echo_far, TCP)
    there = THERE._replace(target="10.0.0.6")
    assert judge.faults(across, SENT, [flow(of=there)]) == ["no forwarded flow on node n2"]
    assert judge.faults(across, SENT, [flow(of=there), flow(of=there, node="n2")]) == []


def test_a_denied_action_needs_silence_and_the_right_drop() -> None:
    (action, _) = denied(CAST.client, CAST.echo, TCP, at=INGRESS)
    assert judge.faults(action, LOST, [flow(reason=133)]) == []
    assert judge.faults(action, SENT, [flow(reason=133)]) == ["succeeded, and should be denied at ingress"]
    unsent = {**LOST, "how": "unsent"}  # a host's own packet, dropped before it left the stack
    assert judge.faults(action, unsent, [flow(reason=133)]) == []
    assert "no drop was reported" in judge.faults(action, unsent, [])[0]
    refused = {**LOST, "how": "refused"}
    assert "instead of silence" in judge.faults(action, refused, [flow(reason=133)])[0]
    assert "no drop was reported by node n1" in judge.faults(action, LOST, [])[0]
    answer = flow(reason=133, of=THERE.back)  # dropped too late: the question has arrived
    for wrong in (flow(reason=181), flow(reason=133, at="egress"), flow(reason=133, node="n2"), answer):
        assert "dropped for another reason" in judge.faults(action, LOST, [wrong])[0]


def test_an_audited_action_needs_its_answer_and_to_be_told_of() -> None:
    (action, _) = audited(CAST.client, CAST.echo, TCP, at=INGRESS)
    told = flow()._replace(forwarded=False, audited=True)
    assert judge.faults(action, SENT, [flow(), told]) == []
    assert judge.faults(action, SENT, [flow()]) == ["no audited flow at ingress on node n1"]
    assert judge.faults(action, LOST, [flow(reason=133)])[0] == "failed (timeout): timed out"
    egress = told._replace(at="egress")
    assert judge.faults(action, SENT, [flow(), told, egress]) == ["audited at egress on node n1, and should be allowed"]
    (plain, _) = allowed(CAST.client, CAST.echo, TCP)
    assert judge.faults(plain, SENT, [flow(), told]) == ["audited at ingress on node n1, and should be allowed"]


def test_what_is_for_a_proxy_needs_a_drop_that_says_what_was_asked_for() -> None:
    (action, _) = for_a_proxy(CAST.client, CAST.echo, TCP, at=INGRESS, wants="wants http GET /")
    drop = flow(reason=NO_PROXY)
    assert judge.faults(action, LOST, [drop._replace(summary="TCP; ns/p wants http GET / (spec)")]) == []
    assert judge.faults(action, LOST, [drop]) == ["the drop's flow says '', and not 'wants http GET /'"]
    assert "dropped for another reason: POLICY_DENIED" in judge.faults(action, LOST, [flow(reason=133)])[0]


def test_prefixes_of_what_is_outside() -> None:
    one, other = (party("x", "", number, "outside") for number in (9, 10))
    assert single(one) == ["10.0.0.9/32", "fd00::9/128"]
    assert around(one, other) == ["10.0.0.8/30", "fd00::/123"]
    assert around_but(one, other) == [
        {"cidr": "10.0.0.8/30", "except": ["10.0.0.10/32"]},
        {"cidr": "fd00::/123", "except": ["fd00::10/128"]},
    ]
    assert around(one, other._replace(addresses={4: "10.0.0.9"})) == ["10.0.0.9/32"]


def test_what_agents_do_not_do_is_missing_by_name() -> None:
    assert lacking(PolicyOptions()) == {
        "host-firewall": "policy.hostFirewall is off",
        "cluster-network-policy": "policy.clusterNetworkPolicy is off",
    }
    assert lacking(PolicyOptions(host_firewall=True, cluster_network_policy=True)) == {}
    narrow = PolicyOptions(l7_proxy=False, icmp_rules=False, cidr_match_mode=("pods",))
    assert {"l7-policy", "icmp-policy", "cidr-outside-only"} <= lacking(narrow).keys()
    with pytest.raises(CiliumpyError, match=r"policy\.auditMode is on"):
        lacking(PolicyOptions(audit_mode=True))
    with pytest.raises(CiliumpyError, match=r"policy\.enforcement is never"):
        lacking(PolicyOptions(enforcement=Enforcement.NEVER))


def test_what_a_scenario_changes_of_pods_is_undone() -> None:
    done: list[tuple[object, ...]] = []

    def relabel(pod: Party, app: str = "") -> None:
        done.append(("relabel", pod.key, app))
        if app == "bad":
            raise CiliumpyError("no such label")

    def audit(pod: Party, *, on: bool) -> None:
        done.append(("audit", pod.key, on))

    runner: Any = SimpleNamespace(
        stage=SimpleNamespace(relabel=relabel, audit=audit),
        progress=Progress(io.StringIO()),
        check_going=lambda: None,
        cluster=None,
    )
    chosen: Any = SimpleNamespace(test=SimpleNamespace(name="test"))
    played = _Test(runner, chosen)
    steps = [Relabel(CAST.other, "client"), Audit(CAST.echo, on=True), Relabel(CAST.client, "bad")]
    played._play(_Changing(Scenario(test_selection), steps))  # type: ignore[arg-type]
    assert done == [
        ("relabel", "other", "client"),
        ("audit", "echo", True),
        ("relabel", "client", "bad"),
        ("relabel", "other", ""),
        ("audit", "echo", False),
        ("relabel", "client", ""),
    ]
    (failure,) = played.failures
    assert failure.where == "test/test-selection/relabelling-client-app=bad"


def test_an_exchange_on_a_connection_that_was_never_made_is_answered() -> None:
    with pytest.raises(Wrong, match="never made"):
        Actor()._exchange({"name": "echo-tcp-4", "timeout": 1.0}, {})


def test_pings_of_both_directions_are_told_apart() -> None:
    (ping, _) = denied(CAST.client, CAST.echo, PING, at=EGRESS)
    there = judge.conversation(ping, SENT)
    assert there.back == Conversation("10.0.0.3", "10.0.0.1", "icmp", 0, 0)
    asked_by_the_other = Conversation("10.0.0.3", "10.0.0.1", "icmp", 0, 8)
    assert asked_by_the_other not in (there, there.back)


def test_what_came_before_says_nothing_of_an_action() -> None:
    """Pings have no number in flows: the drop of one is not that of the next."""
    telescope = Telescope([], ["ns"], 0)
    dropped = GetFlowsResponse()
    dropped.flow.verdict = 2
    dropped.flow.IP.source, dropped.flow.IP.destination = "10.0.0.1", "10.0.0.3"
    dropped.flow.l4.ICMPv4.type = 8
    there = Conversation("10.0.0.1", "10.0.0.3", "icmp", 0, 8)
    telescope._take("n1", dropped)
    mark = telescope.arrived
    assert telescope.wait(there, mark, bool, 0.0) == []
    telescope._take("n1", dropped)
    assert [flow.order for flow in telescope.wait(there, mark, bool, 0.0)] == [1]
    assert [flow.order for flow in telescope.of(there.back)] == [0, 1]
    dropped.flow.event_type.type = POLICY_VERDICT
    telescope._take("n1", dropped)
    assert len(telescope.drops()) == 2, "the verdict that comes beside a drop is not another one"


def test_a_drop_that_nobody_expects_is_a_failure() -> None:
    telescope = SimpleNamespace(drops=lambda: [flow(reason=133)], lost=0)
    stage = SimpleNamespace(telescope=telescope, expected_drops={THERE})
    runner: Any = SimpleNamespace(stage=stage, progress=Progress(io.StringIO()))
    chosen: Any = None
    played = _Test(runner, chosen)
    played._quiet("last/all-flows")
    assert played.failures == []
    telescope.lost = 7
    played._quiet("last/all-flows")
    assert played.failures.pop().faults == ("7 events were lost: there may be drops among them",)
    telescope.lost = 0
    stage.expected_drops.clear()
    played._quiet("last/all-flows")
    assert played.failures.pop().faults == (f"POLICY_DENIED on node n1: {THERE}",)


def test_rows_are_picked_whole_and_by_whole_addresses() -> None:
    lines = [
        "ENDPOINT   IPv4",
        "1          10.0.0.1",
        "           more",
        "2          10.0.0.11",
        "3          110.0.0.1",
    ]
    assert pick(lines, ["10.0.0.1"]) == ("ENDPOINT   IPv4", "1          10.0.0.1", "           more")
    assert pick(lines, ["10.0.0.9"]) == ("nothing",)
    table = ["TCP OUT 10.0.0.1:1 -> 10.0.0.2:2", "TCP OUT 10.0.0.1:1 -> 10.0.0.3:2"]
    assert pick(table, ["10.0.0.1", "10.0.0.3"], all_of=True) == (table[1],)


FAILED = Failure(
    "echo/by-label/tcp-ipv4-0",
    "echo/by-label/tcp-ipv4-0: ns/client (10.0.0.1) -> ns/echo (10.0.0.3:8080)",
    ("failed (timeout): timed out",),
    (Table("flows", ("a line with \x1b in it",)),),
)
OUTCOME = Outcome(
    "ns",
    [
        Result("one", "first", seconds=1.5, actions=3, left_out=(("far", "Feature second-node is disabled"),)),
        Result("echo", "second", seconds=0.5, actions=2, actions_left_out=4, failures=(FAILED,)),
        Result("last", "third", skip="skipped by user"),
    ],
    3,
)


def test_the_end_of_a_run() -> None:
    good = OUTCOME._replace(results=[OUTCOME.results[0], OUTCOME.results[2]])
    assert report.summary(good) == [
        "",
        "✅ [ns] All 1 tests (3 actions) successful, 1 tests skipped, 1 scenarios skipped.",
    ]
    assert report.summary(OUTCOME) == [
        "",
        "📋 Test Report [ns]",
        "❌ 1/2 tests failed (1/5 actions), 1 tests skipped, 1 scenarios skipped, 4 actions skipped:",
        "Test [echo]:",
        f"  🟥 {FAILED.title}: failed (timeout): timed out",
        "[ns] 1 tests failed",
    ]
    broken = report.summary(good._replace(broken_off="why", total=7))
    assert broken[2:] == ["🟥 broken off, 5 tests did not run: why", "[ns] broken off"]
    assert [i["state"] for i in report.document(OUTCOME)["items"]] == ["successful", "failed", "skipped"]


def test_a_test_that_was_broken_off_is_not_successful() -> None:
    result = OUTCOME.results[0]._replace(broken_off="it takes longer than 2 s (--timeout)")
    outcome = OUTCOME._replace(results=[result], broken_off=result.broken_off)
    (item,) = report.document(outcome)["items"]
    assert (item["state"], item["reason"]) == ("brokenOff", result.broken_off)
    suite = ET.fromstring(junit.render(outcome)).find("testsuite")
    assert suite is not None
    assert suite.get("errors") == "2"
    assert suite.find("testcase[@name='one']/error") is not None


def test_junit() -> None:
    suite = ET.fromstring(junit.render(OUTCOME)).find("testsuite")
    assert suite is not None
    assert [suite.get(key) for key in ("tests", "failures", "errors", "skipped", "time")] == [
        "3",
        "1",
        "0",
        "1",
        "2.000",
    ]
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert cases["last"].find("skipped").get("message") == "skipped by user"  # type: ignore[union-attr]
    failure = cases["echo"].find("failure")
    assert failure is not None
    assert failure.text == f"{FAILED.title}\n  failed (timeout): timed out\n  flows:\n    a line with  in it"
    broken = ET.fromstring(junit.render(OUTCOME._replace(broken_off="why")))
    assert broken.find("testsuite/testcase[@name='broken-off']/error") is not None


def test_progress_word_for_word() -> None:
    def play(*, verbose: bool) -> str:
        out = io.StringIO()
        progress = Progress(out, verbose=verbose, namespace="ns")
        progress.running(2)
        progress.test("one", 1, 3)
        progress.scenario("one/by-label")
        progress.action("one/by-label/tcp-ipv4-0: a -> b", None)
        progress.action("one/by-label/tcp-ipv4-1: a -> b", None)
        progress.skip("two", 2, 3, "Feature ipv6 is disabled")
        progress.test("echo", 3, 3)
        progress.scenario("echo/by-label")
        progress.action(FAILED.title, FAILED)
        progress.evidence(FAILED.where, [Table("bpf ct list on n1", ("a row",))])
        progress.failed()
        progress.end()
        return out.getvalue()

    shown = f"""  [-] Scenario [echo/by-label]
  [.] Action [{FAILED.title}]
  ❌ failed (timeout): timed out
  📄 flows:
     a line with \x1b in it
  📄 About [echo/by-label/tcp-ipv4-0]:
  📄 bpf ct list on n1:
     a row
"""
    assert (
        play(verbose=False)
        == f"""🏃[ns] Running 2 tests ...
[=] [ns] Test [one] [1/3]
..
[=] [ns] Skipping test [two] [2/3] (Feature ipv6 is disabled)
[=] [ns] Test [echo] [3/3]
F
{shown}"""
    )
    assert (
        play(verbose=True)
        == f"""🏃[ns] Running 2 tests ...
[=] [ns] Test [one] [1/3]
  [-] Scenario [one/by-label]
  [.] Action [one/by-label/tcp-ipv4-0: a -> b]
  [.] Action [one/by-label/tcp-ipv4-1: a -> b]
[=] [ns] Skipping test [two] [2/3] (Feature ipv6 is disabled)
[=] [ns] Test [echo] [3/3]
{shown}"""
    )
