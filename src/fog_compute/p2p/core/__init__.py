"""What all transports share: messages, the router, the outbox, people's keys and contacts."""

from __future__ import annotations
