"""Entry of `python -m audioldm_lit`."""

from audioldm_lit.cli import main

if __name__ == "__main__":
    main()
