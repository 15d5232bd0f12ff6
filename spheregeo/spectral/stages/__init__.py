"""What a harmonic transform is made of beside the Legendre stage: Fourier series along rings, quadrature, harmonics at points."""
