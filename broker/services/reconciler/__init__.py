"""The reconciler: what is, held against what should be, again and again.

`looking` gathers a snapshot, domain/planning decides what to do, `acting` does it (`machines` and
`running` know how), `chores` are what is done now and then, and `loop` drives all of them.
"""

from broker.services.reconciler.loop import Reconciler

__all__ = ["Reconciler"]
