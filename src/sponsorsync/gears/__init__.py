"""RedisGears: the scripts that run inside Redis, what brings them there, and what came of it.

The sources of the scripts stand in `gears_scripts/`; a wheel has their bundles in `scripts/` beside
this file.
"""
