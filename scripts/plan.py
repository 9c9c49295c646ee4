"""`nfnets-plan`, from a clone; `--help` documents it."""

from nfnets.commands.plan import main

if __name__ == '__main__':
    main()
