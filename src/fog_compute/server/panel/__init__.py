"""The server of the control panel: static pages on a port of their own, without the backend."""
