"""RedisGears: the scripts that run inside Redis, what brings them there, and what came of it.

The scripts themselves stand in `gears_scripts/`, and in a wheel in `scripts/` beside this file.
"""
