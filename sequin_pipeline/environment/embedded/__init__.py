"""This room runs the embedded Postgres: a private server for a machine on which nobody has set one up.

There is one server per home folder, on a unix socket that only its own account can reach, and on no network. It outlives the
command that started it, and the next command adopts it. Nothing in this room knows what the databases hold.

    home.py       where its files lie, and who may look at them
    os_user.py    whose account it runs as, and running its programs
    binaries.py   which Postgres
    processes.py  whether the process that a lock file names is the server
    memory.py     how much of it the server's buffers get
    cluster.py    one data directory: made, configured, launched, shut down
    server.py     start or adopt, stop, status, dump: the order of all that, under a lock
"""

from sequin_pipeline.environment.embedded.binaries import BINDIR_VARIABLE, is_available
from sequin_pipeline.environment.embedded.home import HOME_VARIABLE, Home, find_home
from sequin_pipeline.environment.embedded.server import DATABASES, EmbeddedServer, dump, start, status, stop

__all__ = [
    "BINDIR_VARIABLE",
    "DATABASES",
    "HOME_VARIABLE",
    "EmbeddedServer",
    "Home",
    "dump",
    "find_home",
    "is_available",
    "start",
    "status",
    "stop",
]
