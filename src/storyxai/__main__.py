"""`python -m storyxai` is the command line."""

from storyxai.cli import main

main()
