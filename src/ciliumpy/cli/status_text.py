# SPDX-License-Identifier: Apache-2.0
"""How `status` reads: one screen for one agent, one line an agent for several, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ciliumpy.cli.output import Column, Item, Pairs, Problem, description, table
from ciliumpy.cli.terminal import printable
from ciliumpy.kit.units import format_bytes, format_duration

SEVERITIES = ("error", "warning", "notice")
MOST = 20  # problems that are printed
WORDS = {"ok": "Ok", "degraded": "Degraded", "starting": "Starting", "stopped": "Stopped"}


def word(state: str) -> str:
    return WORDS.get(state, state)


def brief(agents: Sequence[Item], errors: Sequence[Problem]) -> str:
    """Return `OK`, or `error in COMPONENT: MESSAGE` for the first thing that is wrong."""
    for error in errors:
        return one_line(f"error in {error.node}: {error.message}")
    for agent in agents:
        if agent["state"] != "ok":
            first = next(iter(complaints(agent)), None)
            why = f"{first.what or first.place}: {first.message}" if first else agent["state"]
            return one_line(f"error in {agent['node']}: {why}")
    return "OK"


def one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def text(agents: Sequence[Item], *, verbose: bool, asked: int) -> str:
    """Return the whole text; `asked` is how many agents there should be."""
    if asked == 1 or verbose:
        parts = [one(agent, verbose=verbose) for agent in agents]
    else:
        parts = [table(COLUMNS, agents)] if agents else []
    wrong = problems(agents)
    if wrong:
        parts.append(wrong)
    return "\n".join(parts)


def jobs(agent: Item) -> str:
    good = sum(job["state"] != "degraded" for job in agent["jobs"])
    return f"{good}/{len(agent['jobs'])}"


def flows(agent: Item) -> str:
    hubble = agent["hubble"]
    return f"{hubble['flows']}/{hubble['maxFlows']}"


COLUMNS = [
    Column("NODE", lambda a: a["node"]),
    Column("CILIUM", lambda a: word(a["state"])),
    Column("ENDPOINTS", lambda a: f"{a['endpoints']['ready']}/{a['endpoints']['total']}"),
    Column("POLICIES", lambda a: a["policy"]["policies"], right=True),
    Column("IDENTITIES", lambda a: a["identities"], right=True),
    Column("FLOWS", flows, right=True),
    Column("JOBS", jobs, right=True),
    Column("UPTIME", lambda a: format_duration(a["uptimeSeconds"]), right=True),
]


def one(agent: Item, *, verbose: bool) -> str:
    """Return one agent's screen, in the order and the words of cilium-dbg."""
    datapath, policy, endpoints, store = (agent[key] for key in ("datapath", "policy", "endpoints", "store"))
    selectors = f"{policy['bits']}/{policy['bitsTotal']}"
    pairs: Pairs = [
        ("Cilium", f"{word(agent['state'])}   {agent['version']}, up {uptime(agent)}"),
        ("Node", f"{agent['node']}   (cluster {agent['cluster']}, pid {agent['pid']})"),
        (
            "Store",
            [
                f"{WORDS.get(store['state'], store['state'])}   {store['path']}",
                *([store["message"]] if store["message"] else []),
            ],
        ),
        ("NodeMonitor", monitor(agent["monitor"])),
        ("IPAM", ipam(agent["ipam"])),
        ("Routing", f"Network: Tunnel [{datapath['tunnel']}]   Host: BPF   [{datapath['device']}]"),
        ("Attach Mode", f"{datapath['attach'].upper()}   ({datapath['programs']} programs)"),
        *([("Foreign Programs", company(datapath["foreign"]))] if datapath["foreign"] else []),
        ("Endpoints", f"{endpoints['ready']}/{endpoints['total']} ready"),
        (
            "Policy",
            [
                f"{policy['policies']} in force, {refused(policy)}{revision(policy)}",
                f"{policy['sets']} sets, {policy['classes']} port classes, {selectors} selectors in the datapath",
            ],
        ),
        ("Policy Audit Mode", audit(agent)),
        ("Identities", identities(agent)),
        ("Hubble", hubble(agent["hubble"])),
        ("Controller Status", f"{jobs(agent)} healthy"),
    ]
    out = description(pairs)
    return out + details(agent) if verbose else out


def revision(policy: Item) -> str:
    newest, realised = policy["revision"], policy["realised"]
    return f"revision {newest}" + (f" ({realised} in the datapath)" if realised < newest else "")


def refused(policy: Item) -> str:
    """Return how many are refused and the first by name; why each is stands among the problems."""
    count, first = policy["refused"]["count"], policy["refused"]["first"]
    if not count:
        return ""
    name = first[0]["object"].partition("/")[2] + (", …" if count > 1 else "")
    return f"{count} refused ({name}), "


def audit(agent: Item) -> str:
    """Return whether endpoints that say nothing themselves are in audit mode, and how many are."""
    policy, total = agent["policy"], agent["endpoints"]["total"]
    return f"{'Enabled' if policy['auditMode'] else 'Disabled'}   ({policy['audited']}/{total} endpoints)"


def identities(agent: Item) -> str:
    use = agent["identityUse"]
    return f"{agent['identities']}   (cluster {use['cluster']}/{use['clusterTotal']}, local {use['local']})"


def uptime(agent: Item) -> str:
    return format_duration(agent["uptimeSeconds"])


def monitor(said: Item) -> str:
    shared = f"{said['rings']}x{format_bytes(said['ringBytes']).replace(' ', '')}"
    return f"Listening for events on {said['cpus']} CPUs with {shared} of shared memory"


def company(foreign: Iterable[Item]) -> list[str]:
    """Return a line for each program of others on our hooks, in the order in which packets meet them."""
    return [
        f"{one['position']} ours on {one['device']} {one['direction']}: {one['kind']} "
        + (f"filter {one['name']}, pref {one['id']}" if one["kind"] == "clsact" else f"{one['name']}, id {one['id']}")
        for one in foreign
    ]


def ipam(said: Item) -> list[str]:
    return [
        f"{title}: {said[key]['allocated']}{of(said[key]['total'])} allocated from {said[key]['cidr']}"
        for title, key in (("IPv4", "ipv4"), ("IPv6", "ipv6"))
        if said.get(key)
    ]


def of(total: int) -> str:
    """Return the size of a range, unless it is beyond counting."""
    return f"/{total}" if total < 1 << 32 else ""


def hubble(said: Item) -> list[str]:
    share = 100 * said["flows"] / said["maxFlows"] if said["maxFlows"] else 0.0
    lost = [f"{said['lost']} events lost, {said['heldBack']} drops not reported (rate limit)"]
    return [
        f"Ok   Current/Max Flows: {said['flows']}/{said['maxFlows']} ({share:.2f}%), Flows/s: {said['rate']:.2f}",
        *(lost if said["lost"] or said["heldBack"] else []),
    ]


def details(agent: Item) -> str:
    """Return what --verbose adds: jobs, maps, lag."""
    lag = agent["loopLagMs"]
    rows = [
        Column("  Name", lambda j: f"  {j['name']}"),
        Column("State", lambda j: word(j["state"])),
        Column("Restarts", lambda j: j["restarts"], right=True),
        Column("Message", lambda j: j["message"]),
    ]
    maps = [
        Column("  Name", lambda m: f"  {m['name']}"),
        Column("Entries", lambda m: m["entries"], right=True),
        Column("Size", lambda m: m["maxEntries"], right=True),
        Column("Full", lambda m: f"{m['pressure']:.1%}", right=True),
        Column("Setting", lambda m: m["setting"]),
    ]
    return (
        table(rows, sorted(agent["jobs"], key=lambda j: j["name"]))
        + "BPF Maps:\n"
        + table(maps, sorted(agent["maps"], key=lambda m: m["name"]))
        + f"Loop lag:   p50 {lag['p50']:.1f} ms, p99 {lag['p99']:.1f} ms, max {lag['max']:.1f} ms\n"
    )


class Complaint(NamedTuple):
    """`severity` is one of SEVERITIES; `what` the object and field, the store or a job; `place` a file and line."""

    severity: str
    what: str
    message: str
    place: str = ""


def problems(agents: Iterable[Item]) -> str:
    """Return what is wrong, errors first; what several nodes say alike comes once, with their names."""
    seen: dict[Complaint, list[str]] = {}
    for agent in agents:
        for each in complaints(agent):
            seen.setdefault(each, []).append(agent["node"])
    if not seen:
        return ""
    counts = [(word, sum(each.severity == word for each in seen)) for word in SEVERITIES]
    text = ["Problems: " + ", ".join(f"{n} {word}{'s' if n > 1 else ''}" for word, n in counts if n)]
    for each in sorted(seen, key=lambda each: SEVERITIES.index(each.severity))[:MOST]:
        text.append(f"  {each.severity} on {', '.join(seen[each])}: {each.what or each.place}")
        text += [f"    {line}" for line in each.message.splitlines()]
        if each.what and each.place:
            text.append(f"    in {each.place}")
    if len(seen) > MOST:
        text.append(f"  and {len(seen) - MOST} more: `ciliumpy status -o json` has all")
    return "".join(printable(line) + "\n" for line in text)


def complaints(agent: Item) -> Iterable[Complaint]:
    for problem in sorted(agent["problems"], key=lambda p: p["severity"] != "error"):
        place = problem["origin"] + (f":{problem['line']}" if problem["line"] else "")
        what = " ".join(part for part in (problem["object"], problem["field"]) if part)
        yield Complaint(problem["severity"], what, problem["message"], place)
    if agent["store"]["state"] != "ok":
        message = agent["store"]["message"] or agent["store"]["state"]
        yield Complaint("error", "the store", message, agent["store"]["path"])
    for job in agent["jobs"]:
        if job["state"] == "degraded":
            yield Complaint("error", f"job {job['name']}", job["message"])
