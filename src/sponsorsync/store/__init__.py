"""Redis: key names, Lua scripts, connections, locks, and a store for each subject."""
