"""Lens models, source models and the renderer: plain arrays in, plain arrays out.

Angles are in arcsec, x to the right and y up, position angles in radians anticlockwise from +x.
"""
