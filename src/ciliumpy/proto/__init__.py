# SPDX-License-Identifier: Apache-2.0
"""Hubble's wire format: our own .proto files, and the code generated from them (`make proto`).

Package, message and field names and all numbers are those of Cilium 1.19, so every hubble client understands us. The
order of declaration is the order of hubble's JSON (flows/jsonpb.py walks it). There are no generated service stubs:
api/ and client/ name the methods themselves. Not here: anything that computes.
"""
