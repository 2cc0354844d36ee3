"""The process below ``fog up`` that sends log lines of all parts to a collector.

It reads the logs as people do, so no part has a client of a collector in it, and what a collector
that is away has missed waits in the files.
"""
