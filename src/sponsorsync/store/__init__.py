"""Everything that is said to a Redis: key names, Lua scripts, connections, and what they hold."""
