"""`nfnets-publish`, from a clone; `--help` documents it."""

from nfnets.commands.publish import main

if __name__ == '__main__':
    main()
