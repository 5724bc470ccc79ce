"""Long work that an administrator starts over HTTP: one job of a kind at a time, with its state."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, get_args

import structlog

from sponsorsync.domain.errors import JobRunningError, NoDurableError, SponsorSyncError
from sponsorsync.tasks import end_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import TypeAlias

    from sponsorsync.gears.batch import BatchSummary
    from sponsorsync.reconcile.reconciler import Reconciler, ReconcileSummary
    from sponsorsync.sync.engine import SyncEngine
    from sponsorsync.sync.snapshot import SnapshotSummary
    from sponsorsync.sync.verify import VerifySummary

    _Counts: TypeAlias = SnapshotSummary | VerifySummary | ReconcileSummary
    _Report: TypeAlias = Callable[[_Counts], None]
    _Summary: TypeAlias = _Counts | BatchSummary
    _Work: TypeAlias = Callable[[_Report], Awaitable[_Summary]]

JobKind = Literal["snapshot", "verify", "reconcile"]
Status = Literal["idle", "running", "done", "failed"]

_log = structlog.get_logger(__name__)


@dataclass
class Job:
    """The last job of a kind.

    Attributes:
        total: People there were in the index when it began.
        people: How many it has looked at.
        waiting_until: When it goes on, while it waits for a limit of GitHub's to end.
        summary: Once it is done, or was ended by an outage.
        reason: Why it failed.
    """

    kind: JobKind
    status: Status = "idle"
    started_at: datetime | None = None
    ended_at: datetime | None = None
    total: int = 0
    people: int = 0
    waiting_until: datetime | None = None
    summary: _Summary | None = None
    reason: str | None = None


class Jobs:
    """Owns the jobs; see `open_jobs`."""

    def __init__(
        self,
        engine: SyncEngine | None,
        run_scripts: Callable[[], Awaitable[BatchSummary]],
        reconciler: Reconciler,
    ) -> None:
        self._engine = engine
        self._run_scripts = run_scripts
        self._reconciler = reconciler
        self._jobs: dict[JobKind, Job] = {kind: Job(kind) for kind in get_args(JobKind)}
        self._tasks: set[asyncio.Task[None]] = set()

    def find(self, kind: JobKind) -> Job:
        """Returns the last job of a kind; an idle one where there was none."""
        return self._jobs[kind]

    def start_snapshot(self, *, collection: str | None, dry_run: bool) -> Job:
        """Starts a snapshot.

        Raises:
            InvalidInputError: There is no such collection.
            JobRunningError: One is running.
            NoDurableError: No durable Redis is configured.
        """
        engine = self._require_engine()
        engine.snapshot.check_collection(collection)
        return self._start(
            "snapshot",
            lambda report: engine.snapshot.run(
                collection=collection, dry_run=dry_run, report=report
            ),
        )

    def start_scripts_snapshot(self) -> Job:
        """Starts a snapshot by the scripts inside local, of the same kind as the other one.

        Raises:
            JobRunningError: One is running.
        """
        return self._start("snapshot", lambda _: self._run_scripts())

    def start_verify(self, *, fix: bool) -> Job:
        """Starts a comparison.

        Raises:
            JobRunningError: One is running.
            NoDurableError: No durable Redis is configured.
        """
        engine = self._require_engine()
        return self._start("verify", lambda report: engine.verifier.run(fix=fix, report=report))

    def start_reconcile(self, *, sponsorable: str | None, dry_run: bool) -> Job:
        """Starts a comparison with GitHub.

        Raises:
            InvalidInputError: There is no such sponsorable.
            JobRunningError: One is running.
            NoMaintainerTokenError: No token is configured.
        """
        self._reconciler.check(sponsorable)

        def work(report: _Report) -> Awaitable[ReconcileSummary]:
            def report_all(counts: ReconcileSummary) -> None:
                report(counts)
                self._jobs["reconcile"].waiting_until = counts.waiting_until

            return self._reconciler.run(sponsorable=sponsorable, dry_run=dry_run, report=report_all)

        return self._start("reconcile", work)

    async def aclose(self) -> None:
        """Cancels what is running: doing it again is safe, and a stop should not wait for it."""
        await end_tasks(*self._tasks)

    def _require_engine(self) -> SyncEngine:
        if self._engine is None:
            raise NoDurableError
        return self._engine

    def _start(self, kind: JobKind, work: _Work) -> Job:
        if self._jobs[kind].status == "running":
            raise _refuse_second(self._jobs[kind])
        job = Job(kind, status="running", started_at=datetime.now(UTC))
        self._jobs[kind] = job
        task = asyncio.create_task(_carry_out(job, work), name=kind)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job


def _refuse_second(job: Job) -> JobRunningError:
    return JobRunningError(
        f"The {job.kind} that began at {job.started_at:%H:%M:%S} UTC is running. "
        f"GET /admin/{job.kind} tells how far it is."
    )


@asynccontextmanager
async def open_jobs(
    engine: SyncEngine | None,
    run_scripts: Callable[[], Awaitable[BatchSummary]],
    reconciler: Reconciler,
) -> AsyncIterator[Jobs]:
    """Yields an owner of jobs, and cancels what is left of them at the end.

    Args:
        engine: Copies and compares; None where no durable Redis is configured.
        run_scripts: Has the scripts inside local copy everybody.
        reconciler: Compares with GitHub.
    """
    jobs = Jobs(engine, run_scripts, reconciler)
    try:
        yield jobs
    finally:
        await jobs.aclose()


async def _carry_out(job: Job, work: _Work) -> None:
    def report(counts: _Counts) -> None:
        job.total, job.people = counts.total, counts.people

    try:
        summary = await work(report)
    except asyncio.CancelledError:
        job.status, job.reason = "failed", "The service was stopped."
        raise
    except SponsorSyncError as error:
        job.status, job.reason = "failed", str(error)
        _log.warning("job_failed", kind=job.kind, reason=job.reason)
    except Exception:  # noqa: BLE001 - nobody else is there to see it
        job.status, job.reason = "failed", "This is our fault. The operator finds it in the log."
        _log.exception("job_failed", kind=job.kind)
    else:
        job.status = "done" if summary.reason is None else "failed"
        job.reason, job.summary = summary.reason, summary
    finally:
        job.ended_at = datetime.now(UTC)
