"""`nfnets-report`, from a clone; `--help` documents it."""

from nfnets.commands.report import main

if __name__ == '__main__':
    main()
