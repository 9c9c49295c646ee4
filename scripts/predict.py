"""`nfnets-predict`, from a clone; `--help` documents it."""

from nfnets.commands.predict import main

if __name__ == '__main__':
    main()
