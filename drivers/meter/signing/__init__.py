"""Meters that sign: their sequences, one file each, and the shell that runs them on a bus.

`steps.py` says what a sequence is, `meter.py` puts them behind `agent.ports.SigningMeter`.
"""
