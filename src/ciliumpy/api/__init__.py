# SPDX-License-Identifier: Apache-2.0
"""The agent's servers on unix sockets: the admin API (HTTP and JSON), the observer (Hubble's gRPC), the plugin's door.

They read tables and hand requests on; they decide nothing. Sockets are 0600: who may open them is root.
"""
