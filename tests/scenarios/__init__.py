# SPDX-License-Identifier: Apache-2.0
"""What the agent makes of objects, one readable file a scenario; `test_scenarios.py` runs them all.

A scenario is a txtar file. Its comment says what it shows; its sections are read from top to bottom, as they happen:

    -- config --                        settings of the agent, as in agent.yaml; only as the first section
    -- add pod.yaml --                  the section is put into the store's folder as that file; it is new
    -- replace pod.yaml --              the file gets another content
    -- delete pod.yaml --
    -- endpoint add shop/api --         CNI ADD and DEL of a pod
    -- endpoint delete shop/api --
    -- stop --, -- start --, -- restart --
    -- table ipcache prefix identity -- the section is what `statedb dump` says in these columns; `status` is one
    -- table identities id reserved=false --   of the rows whose column has this value
    -- map cp_iphost_v1 --              the section is what the kernel's map holds; columns and values as for a table

A step without content may have comments (`# ...`). The agent is the one that ships, with its controllers, reconcilers,
database and store, in one event loop; only the kernel is a fake one, so no root is needed. Before a table or map is
looked at, everything that was written has been carried over. Numbers are given in turn and always the same; what is not
(generations, MAC addresses) has a name in the order of its appearance: generation-1. Empty slots are not shown.

`UPDATE_SCENARIOS=1 pytest tests/scenarios` writes what is there into the files; read the difference before you commit.
"""
