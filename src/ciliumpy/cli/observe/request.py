# SPDX-License-Identifier: Apache-2.0
"""From observe's flags to one GetFlowsRequest: how many, from when, which, and what of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ciliumpy.cli.observe import filters
from ciliumpy.cli.observe.filters import refuse
from ciliumpy.kit.units import parse_duration

if TYPE_CHECKING:
    from ciliumpy.cli.observe.negation import Occurrence
    from ciliumpy.proto.observer_pb2 import GetFlowsRequest

DEFAULT_LAST = 20
EVERYTHING = (1 << 64) - 1
MOST = (1 << 63) - 1  # the longest that a Python sequence may be
DATE_FORMS = ("%Y-%m-%d", "%Y-%m-%dT%H%z", "%Y-%m-%dT%H:%M%z", "%a, %d %b %Y %H:%M:%S %z")


def build(
    flags: Mapping[str, Any], now_ns: int, *, whole: bool = False, negated: Collection[Occurrence] = ()
) -> GetFlowsRequest:
    """Return the request that the flags mean; `whole`: without a number everything is meant, not the last 20.

    `negated` are the filters behind a --not: they make the blacklist.

    Raises CiliumpyError (exit code 2) for values that mean nothing and for flags that contradict each other.
    """
    from ciliumpy.proto.observer_pb2 import GetFlowsRequest

    last, first, everything, follow = flags["last"], flags["first"], flags["all_flows"], flags["follow"]
    for one, other, clash in (
        ("--first", "--last", first is not None and last is not None),
        ("--first", "--all", first is not None and everything),
        ("--first", "--follow", first is not None and follow),
        ("--last", "--all", last is not None and everything),
        ("--output table", "--follow", flags["output"] == "table" and follow),
    ):
        if clash:
            raise refuse(f"cannot set both {one} and {other}")
    for flag, number in (("--first", first), ("--last", last)):
        if number is not None and not 0 < number <= MOST:
            raise refuse(f"{flag}: {number} is no number of flows", "1 or more; --all is everything that is kept")
    request = GetFlowsRequest(follow=follow)
    if flags["since"]:
        request.since.FromNanoseconds(moment(flags["since"], "since", now_ns))
    if flags["until"]:
        request.until.FromNanoseconds(moment(flags["until"], "until", now_ns))
    if flags["since"] and flags["until"] and request.since.ToNanoseconds() > request.until.ToNanoseconds():
        raise refuse("--since is later than --until", "both count back from now: --since 10m --until 2m")
    if first is not None:
        request.first, request.number = True, first
    elif last is not None:
        request.number = last
    elif everything:
        request.number = EVERYTHING
    elif not (follow or flags["since"] or flags["until"] or whole):
        request.number = DEFAULT_LAST
    request.whitelist.extend(filters.build(_values(flags, negated, wanted=False)))
    request.blacklist.extend(filters.build(_values(flags, negated, wanted=True)))
    request.whitelist.extend(filters.parse_raw(flags["allowlist"], "allowlist"))
    request.blacklist.extend(filters.parse_raw(flags["denylist"], "denylist"))
    if request.whitelist or request.blacklist:
        from ciliumpy.flows.match import FlowPredicate

        FlowPredicate(request.whitelist, request.blacklist)  # refuses here, once, what every node would refuse
    return request


def mask(request: GetFlowsRequest, paths: str, output: str, *, policies: bool) -> None:
    """Ask only for the fields that are wanted, or that will be printed; of recorded flows it is what is shown."""
    from ciliumpy.flows.fieldmask import FieldMask
    from ciliumpy.flows.printers import POLICY_FIELDS, TEXT_FIELDS

    if paths:
        if output not in ("json", "jsonpb"):
            raise refuse("--field-mask is for JSON", "add -o json")
        wanted = [path.strip() for path in paths.split(",")]
        FieldMask(wanted)  # refuses a path that flows do not have
        request.field_mask.paths.extend(wanted)
    elif output not in ("json", "jsonpb"):
        request.field_mask.paths.extend(TEXT_FIELDS + (POLICY_FIELDS if policies else ()))


def _values(flags: Mapping[str, Any], negated: Collection[Occurrence], *, wanted: bool) -> dict[str, Sequence[Any]]:
    """Return the flags that filter, each as the list of what was said with (`wanted`) or without a --not before it."""
    found: dict[str, Sequence[Any]] = {}
    for name, value in flags.items():
        said = [value] if isinstance(value, bool) else value
        if filters.is_filter(name) and isinstance(said, list | tuple):
            kept = [each for n, each in enumerate(said) if ((name, n) in negated) == wanted and each is not False]
            found[name] = [part for each in kept for part in _split(name, each)]
    families = [number for number, name in ((1, "ipv4"), (2, "ipv6")) if found.pop(name, None)]
    found["ip_version"] = [*families, *found.get("ip_version", ())]
    return found


def _split(name: str, said: Any) -> list[Any]:
    return said.split(",") if name in ("verdict", "type", "protocol") else [said]


def moment(text: str, flag: str, now_ns: int) -> int:
    """Return the time that is meant, ns since 1970: a duration back from now, or a date."""
    with suppress(ValueError):
        return now_ns - int(parse_duration(text) * 1e9)
    from google.protobuf.timestamp_pb2 import Timestamp

    stamp = Timestamp()
    with suppress(ValueError):
        stamp.FromJsonString(text)  # RFC 3339, down to the nanosecond
        return stamp.ToNanoseconds()
    for form in DATE_FORMS:
        with suppress(ValueError):
            stamp.FromDatetime(datetime.strptime(text, form))  # noqa: DTZ007 - without a zone it is UTC
            return stamp.ToNanoseconds()
    raise refuse(f'--{flag}: "{text}" is no time', "a duration like 5m, or a time like 2026-01-31T15:04:05Z")
