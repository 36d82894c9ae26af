"""Damage of files: what a broken disk, a cut transfer or an ill will does to bytes."""

import random
from collections.abc import Iterator

EXTREMES = (
    b"\x00" * 4,
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"\x80\x00\x00\x00",
)
DIGITS = (b"0", b"-1", b"99999999", b"2147483648", b"1e308", b"nan")


def mutations(data: bytes, count: int, seed: int = 0, head: int = 1024) -> Iterator[bytes]:
    """Yield `count` damaged copies of `data`. Half of the damage strikes the first `head` bytes, where sizes stand."""
    rng = random.Random(seed)
    for _ in range(count):
        mutant = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 5, 20))):
            _damage(mutant, rng, head)
        yield bytes(mutant)


def _damage(mutant: bytearray, rng: random.Random, head: int) -> None:
    if not mutant:
        return
    place = rng.randrange(min(head, len(mutant)) if rng.random() < 0.5 else len(mutant))
    length = rng.choice((1, 4, 16, 64))
    match rng.randrange(8):
        case 0 | 1:
            mutant[place] ^= 1 << rng.randrange(8)
        case 2:
            mutant[place] = rng.randrange(256)
        case 3:
            mutant[place : place + 4] = rng.choice(EXTREMES)
        case 4:
            del mutant[place : place + length]
        case 5:
            mutant[place:place] = mutant[place : place + length] or b"\x00"
        case 6:
            digits = [index for index, byte in enumerate(mutant[:head]) if 48 <= byte <= 57]
            if digits:
                place = rng.choice(digits)
                mutant[place : place + 1] = rng.choice(DIGITS)
        case 7:
            if rng.random() < 0.3:
                del mutant[place:]
