"""For operators: jobs that they start over HTTP, metrics, and the scripts inside RedisGears."""
