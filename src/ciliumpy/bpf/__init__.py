# SPDX-License-Identifier: Apache-2.0
"""The door to the kernel's BPF, in three tiers.

`sys.py` is bpf(2) by ctypes, `libbpf.py` opens, relocates and loads objects, and on top stand the things that a caller
holds: `programs.Collection`, `maps.Map`, `programs.Program`, `links.Link`, `ring.RingGroup`.

Invariants. A descriptor is closed by its owner's `close()` and by nothing else. Layouts of keys, values and records
come from BTF (`btf.py`) and are never written down a second time. What the kernel refuses is a `CiliumpyError` that
says what and why. `sys.py`, `pins.py` and `listing.py` need only the standard library: short commands use them.

What it does not do: no compiling at run time (`build.py` runs when the package is built), no netlink, no policy about
what is loaded where, and no numpy reader for rings on machines that are not x86.
"""
