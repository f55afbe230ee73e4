# SPDX-License-Identifier: Apache-2.0
"""The connectivity test: real clients in pods try what a policy allows and denies, and the flows are looked at.

A test is data (plan.py): policies, and scenarios that list actions with what is expected of each. scenarios/ has one
file a subject and catalog.py finds them all. run.py carries a test out on a stage (stage.py: namespaces, pods and the
actors in them), judge.py decides about each action from what the client saw and what the nodes' flows say, and
evidence.py collects what explains a failure.

The test knows its cluster by a small door (cluster.py), so that a lab and a Kubernetes cluster run the same scenarios;
lab/cluster.py is the lab's side of it. An action is green only if the client and the flows agree: an allowed one has
got its answer and has a forwarded flow on each node that it crosses, a denied one has got nothing and has a drop for
the right reason. It does not measure anything, and changes nothing outside the namespaces that it has made.
"""
