"""`nfnets-convert`, from a clone; `--help` documents it."""

from nfnets.commands.convert import main

if __name__ == '__main__':
    main()
