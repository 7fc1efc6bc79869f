"""What people would use instead of the pipeline, each as a contestant's process, run as its own documentation shows.

They have an environment of their own (requirements.lock) and never import the pipeline. They read the pages from files rather than
over HTTP, which is to their advantage, and write the same columns. `mapping.py` is what each of their users would have to write.
"""
