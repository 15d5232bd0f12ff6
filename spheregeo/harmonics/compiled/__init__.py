"""numba kernels of the CPU path; imported at the first call that needs one."""
