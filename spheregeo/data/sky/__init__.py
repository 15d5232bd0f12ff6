"""Maps of the sky: FITS files of HEALPix maps, coordinate frames, generated skies."""
