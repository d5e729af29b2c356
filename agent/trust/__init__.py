"""Keys, signatures, the record chain and its verification. Reads no clock and owns no socket."""
