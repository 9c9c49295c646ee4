"""`nfnets-evaluate`, from a clone; `--help` documents it."""

from nfnets.commands.evaluate import main

if __name__ == '__main__':
    main()
