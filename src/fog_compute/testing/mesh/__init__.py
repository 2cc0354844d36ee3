"""A Bluetooth mesh in memory: range, links with loss, a virtual clock, and other flood policies."""
