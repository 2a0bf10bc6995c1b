"""``python -m robust_eval``: the command, where its folder is not on the path."""

from robust_eval.cli import main

main()
