"""`sponsorsync relay`: runs the sync engine without the service."""

from sponsorsync.background import open_supervisor
from sponsorsync.commands.start import stop_signals
from sponsorsync.redis_pair import open_engine
from sponsorsync.settings import Settings


async def run_relay(settings: Settings) -> None:
    """Runs the sync engine without RedisGears until a signal; a service may run beside it."""
    plain = settings.model_copy(update={"engine": "plain"})
    async with (
        stop_signals() as stop,
        open_engine(plain) as engine,
        open_supervisor() as supervisor,
    ):
        engine.start(supervisor)
        print("SponsorSync relay ready", flush=True)  # noqa: T201 - the command's own output
        await stop.wait()
