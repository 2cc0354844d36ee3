//! Sans-I/O mix node and client logic: replay, delays, pipeline, epochs, network view, paths, reliable messages.
