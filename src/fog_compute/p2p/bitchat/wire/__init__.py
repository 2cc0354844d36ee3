"""The wire format of the BitChat app: one module for each thing that travels, and no state."""
