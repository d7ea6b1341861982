"""Mosaics of files: frames are found and read, planned into tiles, and coadded tile by tile with ``lib.mosaic``.

A *frame* is an image of a camera, a *tile* a window of a lattice that is made from frames or from the tiles of the level before; a
*recipe* says which levels there are.  Nothing here knows Spark: ``jobs.tiles`` and ``jobs.coadd`` call it, a chunk at a time.
"""
