"""Ours and its peers side by side, for `core.benchmark`: each module has `run(side, settings, rounds)`, and every side is a process of
its own (`python -m core.peers MODULE SIDE SETTINGS`), which measures itself whenever it is told to go and prints JSON."""
