"""This room makes the target table, adds to it and looks at it, whether the pipeline manages it or an application does."""
