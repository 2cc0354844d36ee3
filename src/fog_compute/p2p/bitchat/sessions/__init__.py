"""Noise sessions with peers: decisions alone; the cryptography is ``betanet.NoiseSession``."""
