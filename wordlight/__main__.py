"""`python -m wordlight` is `wordlight`."""

from wordlight.cli import main

if __name__ == "__main__":
    main()
