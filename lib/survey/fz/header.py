"""FITS header cards, read as far as images need them (FITS 4.0, section 4): fixed and free format values, no CONTINUE."""

import re

BLOCK, CARD = 2880, 80
END = "END".ljust(CARD)
MOST = 1 << 20  # bytes of a header that is believed to be one
VALUE = re.compile(r"\s*(?:'((?:[^']|'')*)'|([^/]*))")


class Damaged(Exception):
    """The bytes are not what the standard says; the message tells why, not where."""


class Header:
    """The cards of one header and where the next unit's data begin; of a keyword that is there twice the first counts."""

    def __init__(self, text: str):
        self.text = text
        cards = [text[k : k + CARD] for k in range(0, len(text), CARD)]
        self._values = {card[:8].rstrip(): card[10:] for card in reversed(cards) if card[8:10] == "= "}

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def word(self, key: str, default: str = "") -> str:
        """A string, without the blanks that end it; of a card that holds none, what stands there."""
        if key not in self._values:
            return default
        quoted, bare = VALUE.match(self._values[key]).groups()  # type: ignore[union-attr]
        return bare.strip() if quoted is None else quoted.replace("''", "'").rstrip()

    def true(self, key: str) -> bool:
        return self.word(key) == "T"

    def number(self, key: str, default: float) -> float:
        try:
            return float(self.word(key, str(default)).replace("D", "E"))
        except ValueError as error:
            raise Damaged(f"{key} is no number: {self.word(key)!r}") from error

    def whole(self, key: str, default: int | None = None, least: int = 0, most: int = 1 << 48) -> int:
        if key not in self._values and default is not None:
            return default
        try:
            found = int(self.word(key))
        except ValueError as error:
            raise Damaged(f"{key} is no whole number: {self.word(key)!r}" if key in self else f"no {key} in the header") from error
        if not least <= found <= most:
            raise Damaged(f"{key} must be in [{least}, {most}], got {found}")
        return found

    def data_bytes(self) -> int:
        """Of the header's data, with their filling (section 4.4.1.1)."""
        axes = self.whole("NAXIS", most=999)
        if not axes:
            return 0
        pixels = 1
        for k in range(axes):
            pixels *= self.whole(f"NAXIS{k + 1}")
        bits = abs(self.whole("BITPIX", least=-64, most=64))
        size = bits // 8 * self.whole("GCOUNT", 1) * (self.whole("PCOUNT", 0) + pixels)
        return -(-size // BLOCK) * BLOCK


def read(source, start: int) -> tuple[Header, int]:
    """(the header that begins at ``start``, where its data begin)."""
    cards: list[str] = []
    end = start
    while end - start < MOST:
        block = bytes(source.read(end, end + BLOCK)).decode("latin-1")
        if len(block) < BLOCK:
            raise Damaged("the file ends in a header")
        if end == start and not block.startswith(("SIMPLE  =", "XTENSION=")):
            raise Damaged("not a FITS file" if start == 0 else "no header where one should be")
        end += BLOCK
        for k in range(0, BLOCK, CARD):
            if block[k : k + CARD] == END:
                return Header("".join(cards)), end
            cards.append(block[k : k + CARD])
    raise Damaged("a header without END")
