"""The contract suite: the cases that each connector and its emulator must pass."""
