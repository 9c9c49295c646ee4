"""`nfnets-export`, from a clone; `--help` documents it."""

from nfnets.commands.export import main

if __name__ == '__main__':
    main()
