"""Leaves the sample package out: its tests run where it is installed."""

collect_ignore = ["acme"]
