"""Jobs of administrators, metrics, and the scripts inside RedisGears."""
