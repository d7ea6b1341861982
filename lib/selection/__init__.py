"""The selection function: which share of the injected lenses is found, and how well that share is known.

``axes`` says what it is a function of, ``counts`` bins rows and adds them up, ``curves`` gives shares with their intervals and a smooth curve through
them, ``page`` draws it.
"""
