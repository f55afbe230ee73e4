# SPDX-License-Identifier: Apache-2.0
"""What the controller has made of the pods, in one file: for its own restart, and for `lab status|exec|logs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab.spec import write_json

if TYPE_CHECKING:
    from ciliumpy.lab.place import Place


class PodRecord(msgspec.Struct, rename="camel"):
    """A pod. `container_id` is empty as long as it has no node; `pid` is that of its first process, 0: none yet."""

    namespace: str
    name: str
    uid: str = ""
    node: str = ""
    deployment: str = ""
    hostname: str = ""
    container_id: str = ""
    fingerprint: str = ""  # of what it was started from
    phase: str = "Pending"  # Pending, Running, Terminating
    message: str = ""
    pid: int = 0
    addresses: list[str] = []
    attempts: int = 0

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name


class Snapshot(msgspec.Struct, rename="camel"):
    """`store_message` is empty while the store can be read; `problems` are objects that cannot be run.

    `controller` is the PID of who wrote it: what one said that runs no more need not be so.
    """

    pods: list[PodRecord] = []
    store_message: str = ""
    problems: list[str] = []
    controller: int = 0


def write(place: Place, snapshot: Snapshot) -> None:
    write_json(place.run / "pods.json", msgspec.to_builtins(snapshot))


def read(place: Place) -> Snapshot:
    """Return the last snapshot, or an empty one if there is none yet."""
    path = place.run / "pods.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Snapshot)
    except FileNotFoundError:
        return Snapshot()
    except (OSError, msgspec.DecodeError) as error:
        raise CiliumpyError(f"{path} cannot be read: {error}", "`ciliumpy lab down` removes the lab") from error


def find(place: Place, name: str) -> PodRecord:
    """Return the running pod that `[NAMESPACE/]NAME` means: a Pod, else a Deployment's first. CiliumpyError if none."""
    namespace, slash, short = name.rpartition("/")
    pods = [p for p in read(place).pods if not slash or p.namespace == namespace]
    exact = [p for p in pods if p.name == short]
    found = exact or [p for p in pods if p.deployment == short]
    spaces = sorted({p.namespace for p in found})
    if len(spaces) > 1:
        raise CiliumpyError(f"{short!r} is in several namespaces: {', '.join(spaces)}", f"say {spaces[0]}/{short}", 2)
    if not found:
        have = ", ".join(sorted({f"{p.namespace}/{p.deployment or p.name}" for p in pods})) or "none"
        raise CiliumpyError(f"there is no pod or Deployment {name!r} (there are: {have})", "see `ciliumpy lab status`")
    running = sorted((p for p in found if p.phase == "Running"), key=lambda p: p.name)
    if not running:
        raise CiliumpyError(f"{name} is not running: {found[0].message or found[0].phase}", "see `ciliumpy lab status`")
    return running[0]
