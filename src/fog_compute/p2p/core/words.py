"""The words by which people compare fingerprints: our own list, under the package's licence.

Each stands for one byte. No two begin with the same three letters, and no two are fewer than three
changes of a letter apart, so that what is misheard is no other word of the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fog_compute.text import one_line

__all__ = ["WORDS", "bytes_of", "words_of"]

_LIST: Final = """
abbey acorn alarm alpine anchor angle apron armor atlas attic autumn avocado axis badge bakery
ballad bamboo banjo barrel basket beach beetle belfry bicycle blossom boat bonfire boulder
breeze buffalo butler cabin cactus camel canyon cargo cedar ceiling cement chalk cherry chimney
cinema circus clover cobalt condor copper cotton cousin cradle crystal cupboard curtain cymbal
dagger dairy delta denim desert diamond dinner ditch domino donkey dragon drum duck earth echo
eclipse elbow elder emerald envelope evening eyebrow fabric falcon feather fern fiddle fjord
flame flint forest fossil fountain fox funnel galaxy garden gate gem geyser giraffe glacier
globe granite grill guitar gypsum hammer hedgehog hermit hinge horizon hotel hyena igloo iguana
indigo insect island ivory jaguar jasmine javelin jewel jigsaw journal kayak ketchup kidney
kingdom kiosk kitchen knight koala ladder lagoon lantern lava lemon lettuce library lilac lizard
lobster locket lotus lumber lynx magnet maple meadow melody mercury midnight mirror mitten
mosaic museum napkin nectar nephew nickel nomad noodle nugget nutmeg oboe ocean octopus olive
onion opera orange orbit orchid ostrich otter oxygen palace panda papaya parrot pebble pencil
piano picnic pigeon planet polar pony potato prairie pretzel prism pulley pumpkin puzzle python
quail queen quiver raft rainbow raven reef rhubarb ribbon rodeo saffron scarf school shell
silver siren sleigh snow sonnet soup sphinx spider squid stable stone sugar summit swan tassel
teapot temple thistle thunder tiger topaz trumpet tulip tundra turbine twig ukulele umbrella
unicorn utopia vanilla velvet village violin visitor volcano vortex voyage waffle walnut weasel
wheat window wolf yacht yogurt zebra zenith zodiac
"""

WORDS: Final[tuple[str, ...]] = tuple(_LIST.split())

_BY_START: Final = {word[:3]: number for number, word in enumerate(WORDS)}


def words_of(data: bytes) -> tuple[str, ...]:
    """One word for each byte."""
    return tuple(WORDS[byte] for byte in data)


def bytes_of(words: Sequence[str]) -> bytes:
    """The bytes that words stand for; capitals, and what follows the third letter, are free.

    Raises:
        ValueError: one of them is no word of the list; the text names it.
    """
    return bytes(_number(word) for word in words)


def _number(word: str) -> int:
    found = _BY_START.get(word[:3].lower())
    if found is None:
        raise ValueError(f"{one_line(word, 20)!r} is no word of the list")
    return found
