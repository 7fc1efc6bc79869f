"""`python -m sequin_pipeline.cli` runs the commands where the console script is not on the path."""

from sequin_pipeline.cli import main

main()
