"""Work on engines: takes jobs, carries them out, and settles what machines report.

Every call to an engine is a job row, taken by one process at a time, with a deadline. One that
fails is put back with a pause, and after JOB_ATTEMPTS_MAX attempts it is given up: what that
means for its desktop is told verb by verb in carrying.py. A removal is never given up: the desktop
stays `deleting`, and its deadline asks again.
"""

from __future__ import annotations

from broker.services.engine_work.work import EngineWork
from broker.services.jobs import new_job

__all__ = ["EngineWork", "new_job"]
