"""An independent simulator of a ZVT payment terminal (the PT side).

Written from the transport and command documents alone; it shares no code with the driver it judges.
`framing` and `codec` are pure; `link` speaks on a line; `bank` decides and remembers; `dialogue` and
`commands` are the terminal's behaviour; `simulator` is the whole thing with its control verbs."""
