"""Jobs: long work that an administrator starts over HTTP, one of each kind at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeAlias, get_args

import structlog

from sponsorsync.background import end_tasks
from sponsorsync.domain.errors import JobRunningError, NoDurableError, SponsorSyncError
from sponsorsync.gears.batch import BatchSummary
from sponsorsync.reconcile.reconciler import Reconciler
from sponsorsync.reconcile.report import ReconcileSummary
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
    """The last job of a kind, which is running or has ended, or an idle one if none was started.

    Attributes:
        total: The number of people, or for a reconcile of sponsorships, at the start of the job.
        people: The number of people processed so far.
        waiting_until: The end of the job's present wait for GitHub's rate limit.
        summary: The result, once the job is done or an outage has ended it.
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


@dataclass
class Jobs:
    """Starts jobs, and cancels running ones when it is closed.

    `engine` is None if no durable Redis is configured. `run_scripts` makes a snapshot with the
    scripts inside local.
    """

    engine: SyncEngine | None
    run_scripts: Callable[[], Awaitable[BatchSummary]]
    reconciler: Reconciler
    _jobs: dict[JobKind, Job] = field(
        default_factory=lambda: {kind: Job(kind) for kind in get_args(JobKind)}, init=False
    )
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    def find(self, kind: JobKind) -> Job:
        """Returns the last job of a kind, or an idle one."""
        return self._jobs[kind]

    def start_snapshot(self, *, collection: str | None, dry_run: bool) -> Job:
        """Starts a snapshot.

        Raises:
            InvalidInputError: There is no such collection.
            JobRunningError: A snapshot is running.
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
        """Starts a snapshot by the scripts inside local; its kind is `snapshot`, too.

        Raises:
            JobRunningError: A snapshot is running.
        """
        return self._start("snapshot", lambda _: self.run_scripts())

    def start_verify(self, *, fix: bool) -> Job:
        """Starts a comparison of local with durable.

        Raises:
            JobRunningError: A verify is running.
            NoDurableError: No durable Redis is configured.
        """
        engine = self._require_engine()
        return self._start("verify", lambda report: engine.verifier.run(fix=fix, report=report))

    def start_reconcile(self, *, sponsorable: str | None, dry_run: bool) -> Job:
        """Starts a comparison with GitHub.

        Raises:
            InvalidInputError: There is no such sponsorable.
            JobRunningError: A reconcile is running.
            NoMaintainerTokenError: No maintainer's token is configured.
        """
        self.reconciler.require_startable(sponsorable)
        return self._start(
            "reconcile",
            lambda report: self.reconciler.run(
                sponsorable=sponsorable, dry_run=dry_run, report=report
            ),
        )

    async def aclose(self) -> None:
        """Cancels running jobs, so that a stop of the service does not wait for them.

        They can be started again safely.
        """
        await end_tasks(*self._tasks)

    def _require_engine(self) -> SyncEngine:
        if self.engine is None:
            raise NoDurableError
        return self.engine

    def _start(self, kind: JobKind, work: _Work) -> Job:
        last = self._jobs[kind]
        if last.status == "running":
            raise JobRunningError(
                f"The {kind} that began at {last.started_at:%H:%M:%S} UTC is still running. "
                f"GET /admin/{kind} shows its progress."
            )
        job = Job(kind, status="running", started_at=datetime.now(UTC))
        self._jobs[kind] = job
        task = asyncio.create_task(_run_job(job, work), name=kind)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job


async def _run_job(job: Job, work: _Work) -> None:
    def report(counts: _Counts) -> None:
        job.total, job.people = counts.total, counts.people
        if isinstance(counts, ReconcileSummary):
            job.waiting_until = counts.waiting_until

    try:
        summary = await work(report)
    except asyncio.CancelledError:
        job.status, job.reason = "failed", "The service was stopped."
        raise
    except SponsorSyncError as error:
        job.status, job.reason = "failed", str(error)
        _log.warning("job_failed", kind=job.kind, reason=job.reason)
    except Exception:  # noqa: BLE001 - nothing else reports it
        job.status, job.reason = "failed", "This is our fault. The operator finds it in the log."
        _log.exception("job_failed", kind=job.kind)
    else:
        job.status = "done" if summary.reason is None else "failed"
        job.reason, job.summary = summary.reason, summary
    finally:
        job.ended_at = datetime.now(UTC)
