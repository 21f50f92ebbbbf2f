"""`python -m unite_mm`: the command line."""

from unite_mm.cli.main import main

if __name__ == "__main__":
    main()
