"""`python -m evit_cli` is `evit`."""

from evit_cli.app import main

if __name__ == "__main__":
    main()
