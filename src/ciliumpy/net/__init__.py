# SPDX-License-Identifier: Apache-2.0
"""The door to links, addresses, routes, neighbours, sysctls and network namespaces.

Idea: small synchronous functions that act on the network namespace of the calling thread; `netns.run_in` carries a call
into another one. Invariants: a namespace is an open descriptor, never a name; `ensure_*`, `set_*` and `replace_*` are
idempotent; what the kernel refuses is a CiliumpyError that says what, why and what next. Not here: which links a node
or a pod shall have (datapath, endpoints, lab), and anything of BPF beyond handing over a program's descriptor.
"""
