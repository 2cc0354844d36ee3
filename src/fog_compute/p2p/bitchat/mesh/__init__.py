"""One node of the mesh: ``engine`` puts the parts together, ``station`` is what they share.

The way in is ``guard``, ``piecing``, ``seen`` and one part for each kind of packet; the way out is
``outbound`` and ``frames``. All of it takes an event and a time, and gives actions.
"""
