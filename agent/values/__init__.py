"""Values that every room shares: money, energy readings, stamps. Pure; imports nothing of ours."""

from agent.values.money import Money
from agent.values.reading import Reading, ReadingState
from agent.values.stamp import Quality, Stamp

__all__ = ["Money", "Quality", "Reading", "ReadingState", "Stamp"]
