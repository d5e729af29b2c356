"""Energy meters on the bench, each with a register map of its own.

The maps and the code that serves them are written from the makers' and other projects' register lists and
share nothing with the drivers they test: a mistake in one of the two shows as a difference."""
