"""The promise: one intent never makes two campaigns, and no outcome is lost."""
