"""How much memory the embedded server takes for its buffers, and that it starts where it cannot have that."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sequin_pipeline.environment import embedded
from sequin_pipeline.environment.embedded.memory import shared_buffers, usable_memory
from tests.environment.embedded.conftest import Environ, rows

GIB = 1024**3
LIMITED_START = """
import os, resource
resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))
from sequin_pipeline.environment import embedded
embedded.start(os.environ)
"""


@pytest.mark.parametrize(
    ("memory", "buffers"),
    [
        (None, "128MB"),
        (256 * 1024**2, "128MB"),
        (512 * 1024**2, "128MB"),
        (GIB, "256MB"),
        (3 * GIB + 5, "768MB"),
        (4 * GIB, "1024MB"),
        (512 * GIB, "1024MB"),
    ],
)
def test_buffers_are_a_quarter_of_memory_within_their_bounds(memory: int | None, buffers: str) -> None:
    assert shared_buffers(memory) == buffers


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        pytest.param("0::/\n", {"memory.max": "1073741824\n"}, GIB, id="container of its own group"),
        pytest.param(
            "0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "536870912\n"}, GIB // 2, id="limit of a group around it"
        ),
        pytest.param(
            "0::/a\n", {"a/memory.max": "268435456\n", "memory.max": "1073741824\n"}, GIB // 4, id="the least of several"
        ),
        pytest.param("0::/../../init\n", {"memory.max": "1073741824\n"}, GIB, id="path outside of the namespace"),
        pytest.param(
            "12:cpu,cpuacct:/x\n4:memory:/docker/7f\n0::/x\n",
            {"memory/memory.limit_in_bytes": "1073741824\n"},
            GIB,
            id="version 1",
        ),
        pytest.param(
            "4:memory:/x\n", {"memory/x/memory.limit_in_bytes": "9223372036854771712\n"}, None, id="version 1, no limit"
        ),
        pytest.param("0::/\n", {"memory.max": "max\n"}, None, id="no limit"),
        pytest.param("0::/gone\n", {}, None, id="no file"),
        pytest.param("", {}, None, id="no control groups"),
    ],
)
def test_limit_of_a_control_group_counts_as_the_memory(
    tmp_path: Path, cgroup: str, files: dict[str, str], expected: int | None
) -> None:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(cgroup)
    for name, content in files.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    found = usable_memory(tmp_path / "proc", tmp_path / "cgroup")

    assert found == (expected or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def test_server_starts_with_the_least_where_shared_memory_is_refused_and_gets_it_at_the_next_start(made: Environ) -> None:
    # Too little for a quarter of four gigabytes.
    limited = LIMITED_START.format(limit=700 * 1024**2)

    subprocess.run([sys.executable, "-c", limited], env={**os.environ, **made}, check=True)

    server = embedded.status(made)
    assert server is not None
    assert rows(server.url("warehouse"), "show shared_buffers") == [("128MB",)]
    embedded.stop(made)
    server = embedded.start(made)
    expected = shared_buffers(usable_memory())
    assert rows(server.url("warehouse"), "select setting::int / 128 || 'MB' from pg_settings where name = 'shared_buffers'") == [
        (expected,)
    ]


def test_server_is_made_and_starts_where_shared_memory_is_tiny(environ_on_disk: Environ) -> None:
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("a /dev/shm of its own takes root and unshare")
    script = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$0" -c "$1"'
    start = "import os; from sequin_pipeline.environment import embedded; embedded.start(os.environ)"

    subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, sys.executable, start], env={**os.environ, **environ_on_disk}, check=True
    )

    server = embedded.status(environ_on_disk)
    assert server is not None
    assert rows(server.url("warehouse"), "show dynamic_shared_memory_type") == [("mmap",)]
