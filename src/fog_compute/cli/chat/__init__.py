"""``fog chat``: messages between people."""
