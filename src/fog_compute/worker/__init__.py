"""The agent that a machine runs to lend itself, and the sandbox that it runs tasks in.

Import the modules by name; importing this package imports none of them, because every runner
process starts with it.
"""
