"""`python -m pixelrnn` is the command `pixelrnn`."""

from pixelrnn_command import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
