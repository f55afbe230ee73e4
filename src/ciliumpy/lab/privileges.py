# SPDX-License-Identifier: Apache-2.0
"""The capabilities that a pod's processes keep: a container runtime's usual set.

CAP_MKNOD is not among them: runtimes pair it with a filter on devices, which the lab does not have.
"""

from __future__ import annotations

from ciliumpy.net import libc

_KEPT = frozenset(
    {
        0,  # CHOWN
        1,  # DAC_OVERRIDE
        3,  # FOWNER
        4,  # FSETID
        5,  # KILL
        6,  # SETGID
        7,  # SETUID
        8,  # SETPCAP
        10,  # NET_BIND_SERVICE
        13,  # NET_RAW
        18,  # SYS_CHROOT
        29,  # AUDIT_WRITE
        31,  # SETFCAP
    }
)
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITIES = 64


def close_to_others() -> None:
    """Have nobody without CAP_SYS_PTRACE look into this process and its children, until they execute something.

    They run in a pod with what the lab's parent had: its environment, its memory.
    """
    libc.prctl(_PR_SET_DUMPABLE, 0)


def drop() -> None:
    """Give up, in this process and for all it executes, everything but the kept set. There is no way back."""
    kept = 0
    for capability in range(_CAPABILITIES):
        try:
            present = libc.prctl(_PR_CAPBSET_READ, capability)
        except OSError:  # beyond the kernel's last one
            break
        if not present:
            continue
        if capability in _KEPT:
            kept |= 1 << capability
        else:
            libc.prctl(_PR_CAPBSET_DROP, capability)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    libc.capset(effective=kept, permitted=kept, inheritable=0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1)
