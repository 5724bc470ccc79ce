"""RedisGears: bundles, uploads and runs the scripts inside Redis.

The sources of the scripts are in `gears_scripts/`; a wheel has their bundles in `scripts/` beside
this file.
"""
