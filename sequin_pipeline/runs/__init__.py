"""This room carries out one run, of a collection, of a queue or of a frame, with all that belongs to it before and after."""
