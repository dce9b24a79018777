"""Lossless compression: a network in exact integer arithmetic, frequencies, and entropy coding.

Equality of encoder and decoder is a matter of arithmetic here: integers have one sum, in any order, on any processor.
"""
