# SPDX-License-Identifier: Apache-2.0
"""The command line: `ciliumpy NOUN VERB`, one file a verb, named in one table (app.py).

Start-up is a feature: a module here imports the standard library, typer and its neighbours at its top, and whatever is
heavy inside the verb's function. Data goes to stdout, everything else to stderr. `bpf *` reads the kernel's pinned maps
and needs root; everything else asks the agent. Nothing here decides anything about packets, policy or state.
"""
