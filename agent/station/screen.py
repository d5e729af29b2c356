"""What the terminal shows: the sessions of its connectors, put into the words of driver_ui."""

from __future__ import annotations
