"""Mosaics: images of any WCS brought to one lattice, made photometrically one, and stacked.  Arrays in, arrays out.

Arrays are (bands, ny, nx) float32, NaN where there is no data; weights (inverse variances) and coverage (counts) lie apart.  Pixels are
0-based, centres at integers.  Values are surface brightness (per input pixel) unless something says flux.
"""
