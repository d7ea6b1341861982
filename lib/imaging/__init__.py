"""What the telescope does to light: PSF, convolution, noise, photometry."""
