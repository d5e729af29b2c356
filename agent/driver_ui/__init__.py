"""What the EV driver sees: screens for a character display and text receipts. Pure: facts in, lines out."""

from agent.driver_ui.receipt import ReceiptFacts, render
from agent.driver_ui.screens import Display
from agent.driver_ui.words import LANGUAGES

__all__ = ["LANGUAGES", "Display", "ReceiptFacts", "render"]
