"""The core's functions as torch operators, and what they assume."""
