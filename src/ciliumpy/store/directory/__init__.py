# SPDX-License-Identifier: Apache-2.0
"""The embedded store: plain Kubernetes YAML in a folder, shared by all agents of a machine.

    <store>/cluster.yaml                               the marker: without it this is no store
    <store>/<plural>/[<namespace>/]<name>.yaml         one object, written by us
    <store>/**/*.yaml, *.yml, *.json                   what users drop: several documents, never rewritten
    <store>/.lock                                      flock: whoever changes something holds it

Names that begin with a dot are not read. A file is read when its writer closes it or when it is renamed into place,
so nobody sees half of one. A file that vanishes counts as deleted 200 ms later, and only if the marker is there: an
editor that saves by renaming, or a folder that is taken away, deletes nothing.
"""
