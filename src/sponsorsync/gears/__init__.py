"""RedisGears: bundles, uploads and runs the scripts inside Redis.

The sources of the scripts are in `gears_scripts/`; a wheel contains their bundles instead, in the
folder `scripts/` beside this file.
"""
