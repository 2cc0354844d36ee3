"""Other ways into the mesh: browsers by WebSocket, and islands of the mesh joined by the mixnet.

Both bring links to this machine's mesh engine and nothing else: what comes over them is judged,
flooded and remembered as what a radio heard, byte for byte.
"""
