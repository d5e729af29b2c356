"""The whole agent in a simulated world, on a virtual clock: a tool for development, not part of the wheel.

Everything of agent/ and drivers/ runs as it is shipped. Replaced are four seams: byte lines, the clock, the
disk under the ledger, and the MQTT pipe. docs/simulation.md tells what is simulated and what is not."""
