"""The raster loop and its readers: the loop, steps in PyTorch and in C++, sampling, particles."""
