"""The guided tour: one real session through the whole station, every part a process of its own."""
