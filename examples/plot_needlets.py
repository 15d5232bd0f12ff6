"""Draw the windows of needlets and how needlets fall off with distance: python examples/plot_needlets.py needlets.png"""

from __future__ import annotations

import sys

from spheregeo.spectral.needlet_picture import plot_needlets


def main(path: str) -> None:
    plot_needlets(64, path=path)
    print(f"windows of degrees up to 64, and the decay of their needlets -> {path}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "needlets.png")
