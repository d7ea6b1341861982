"""Is the set good?  A small network is trained on it, with different controls, and judged on what it learned: ``make study``.

``sky`` makes the set, ``pixels`` readies and blanks stamps, ``network`` learns, ``judge`` measures, ``real`` scores real lens candidates; ``__main__``
puts them in order and prints the table.  Needs the extra ``torch``.
"""
