"""`python -m igaki`: the same as the `igaki` command."""

from igaki.host.cli import main

if __name__ == "__main__":
    main()
