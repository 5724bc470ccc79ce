"""How much one call of a Lua script handles; the server does nothing else meanwhile."""

PEOPLE_A_SCRIPT = 50
"""How many people one script handles: this takes some milliseconds."""

BYTES_A_SCRIPT = 256 * 1024
"""How much data one script takes in, for the same reason; one person may be larger."""
