"""The charger on the bench: a car, a charge controller and an energy meter, on one or two RS-485 lines.

Written from the makers' manuals and shares no code with the drivers it tests."""
