"""The tables. Strict types and integer keys: every secondary or text index costs flash on every commit.

`event.id` is session number * 2**20 + n and `record.id` is chain number * 2**40 + seq, so one b-tree
serves both the key and the order, and appending always lands at the end of a range.

Only ever append to MIGRATIONS, and only additions: the version before must still be able to finish its
sessions on the file after a roll-back. Two numbers keep that:

* `meta.schema` counts the migrations that were applied;
* `user_version` is READABLE_BY, the oldest count of migrations whose code may still use the file. Code that
  knows fewer refuses it. A change that older code would misread raises it to the new count.
"""

from __future__ import annotations

APPLICATION_ID = 0x766F6C74  # "volt"
EVENTS_PER_SESSION = 1 << 20
RECORDS_PER_CHAIN = 1 << 40

_FIRST = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- Boot ids are long and few; stamps refer to them by number.
CREATE TABLE boot(n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE) STRICT;

CREATE TABLE session(
  n INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  evse TEXT,
  terminal TEXT NOT NULL,
  state TEXT NOT NULL,
  open INTEGER NOT NULL CHECK (open IN (0, 1)),
  last_n INTEGER NOT NULL CHECK (last_n >= 1),
  started_utc_ms INTEGER NOT NULL, started_boot_ms INTEGER NOT NULL,
  started_boot INTEGER NOT NULL REFERENCES boot(n), started_quality TEXT NOT NULL,
  updated_utc_ms INTEGER NOT NULL, updated_boot_ms INTEGER NOT NULL,
  updated_boot INTEGER NOT NULL REFERENCES boot(n), updated_quality TEXT NOT NULL
) STRICT;
CREATE INDEX session_open ON session(n) WHERE open = 1;

CREATE TABLE event(
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  data TEXT NOT NULL,
  state TEXT NOT NULL,
  table_version INTEGER NOT NULL,
  utc_ms INTEGER NOT NULL, boot_ms INTEGER NOT NULL,
  boot INTEGER NOT NULL REFERENCES boot(n), quality TEXT NOT NULL,
  record INTEGER REFERENCES record(id)
) STRICT;

-- `acked_through`: every record up to it is with the back end, except the rows of `outstanding`.
CREATE TABLE chain(
  n INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  acked_through INTEGER NOT NULL DEFAULT 0 CHECK (acked_through >= 0)
) STRICT;

CREATE TABLE record(
  id INTEGER PRIMARY KEY,
  type TEXT NOT NULL,
  session INTEGER REFERENCES session(n),
  utc_ms INTEGER NOT NULL, boot_ms INTEGER NOT NULL,
  boot INTEGER NOT NULL REFERENCES boot(n), quality TEXT NOT NULL,
  hash BLOB NOT NULL CHECK (length(hash) = 32),
  jws TEXT NOT NULL
) STRICT;

-- Records the back end asked for again (code is null), or refused with a code (parked).
-- `asked_ms` is the time in the ack that said so.
CREATE TABLE outstanding(
  record INTEGER PRIMARY KEY REFERENCES record(id),
  asked_ms INTEGER NOT NULL,
  code TEXT
) STRICT;

-- The back end's history is not ours: evidence, kept for people.
CREATE TABLE fork(
  id INTEGER PRIMARY KEY,
  chain TEXT NOT NULL,
  seq INTEGER NOT NULL,
  theirs TEXT NOT NULL,
  ours TEXT,
  asked_ms INTEGER NOT NULL
) STRICT;

-- HMACs of card tokens: alone in a table so that they can be forgotten without touching evidence.
CREATE TABLE card(session INTEGER PRIMARY KEY REFERENCES session(n), mac BLOB NOT NULL) STRICT;
"""

# What the station ordered of a terminal beside payments: one row for the intent, one for each step after
# it, which names its intent. A day's end leaves four rows, so no index is worth its writes.
_UPKEEP = """
CREATE TABLE upkeep(
  n INTEGER PRIMARY KEY,
  intent INTEGER REFERENCES upkeep(n),
  terminal TEXT NOT NULL,
  task TEXT NOT NULL,
  step TEXT NOT NULL,
  data TEXT NOT NULL,
  utc_ms INTEGER NOT NULL, boot_ms INTEGER NOT NULL,
  boot INTEGER NOT NULL REFERENCES boot(n), quality TEXT NOT NULL
) STRICT;
"""

# Salvaged sessions wait for a person; records that may be forgotten are told from those that are lost; and
# when the back end had what, by its own signed clock, decides from when on a retention time runs.
_KEEPING = """
ALTER TABLE session ADD COLUMN salvaged INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chain ADD COLUMN pruned_through INTEGER NOT NULL DEFAULT 0;
CREATE TABLE ack_mark(
  n INTEGER PRIMARY KEY,
  chain INTEGER NOT NULL REFERENCES chain(n),
  through INTEGER NOT NULL,
  time_ms INTEGER NOT NULL
) STRICT;
"""

MIGRATIONS: tuple[str, ...] = (_FIRST, _UPKEEP, _KEEPING)
READABLE_BY = 1
