"""Redis: key names, Lua scripts, connections, locks, and the data that they store."""
