"""`nfnets-train`, from a clone; `--help` documents it."""

from nfnets.commands.train import main

if __name__ == '__main__':
    main()
