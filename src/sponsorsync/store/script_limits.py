"""Limits for one call of a Lua script, during which the server does nothing else."""

PEOPLE_A_SCRIPT = 50
"""How many people one script handles: this takes some milliseconds."""

BYTES_A_SCRIPT = 256 * 1024
"""How much data one script takes, for the same reason; one person may have more."""
