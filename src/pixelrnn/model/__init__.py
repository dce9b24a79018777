"""Models: PixelRNN and Multi-Scale PixelRNN, their folders, the Hub, and the bundled ones."""
