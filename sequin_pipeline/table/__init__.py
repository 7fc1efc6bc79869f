"""The target table is made, added to and looked at here, whether the pipeline manages it or an application does."""
