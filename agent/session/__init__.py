"""The session state machine: one table of states; event in, (session, owed effect) out. Pure.

Rules of this room:

* Only `table.step` changes a session. It reads no clock and does no I/O.
* A state implies its outstanding effect (`states.OWED`). After a restart the fold of the stored events
  gives the state, and the state alone says what is still owed to the world.
* An event that a state does not know is refused: it changes nothing.
"""

from agent.session.events import E, Event
from agent.session.session import Session
from agent.session.states import FINAL, OWED, Effect, S, energy_allowed
from agent.session.table import TABLE_VERSION, Step, fold, step

__all__ = [
    "FINAL",
    "OWED",
    "TABLE_VERSION",
    "E",
    "Effect",
    "Event",
    "S",
    "Session",
    "Step",
    "energy_allowed",
    "fold",
    "step",
]
